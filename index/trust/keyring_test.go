// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"os"
	"strings"
	"testing"
	"time"
)

func FuzzReadKeys(f *testing.F) {
	e := fastKey(f, at(time.Now(), time.Hour))
	must(f, e.AddSigningSubkey(nil))
	f.Add([]byte(public(f, e)))
	f.Add([]byte(armoured(f, e)))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := readKeys(data)
		if err == nil && len(keys) == 0 {
			t.Fatal("neither keys nor an error")
		}
		ring := make(keyring)
		ring.add(keys)
		for _, k := range keys {
			if len(k.primary) < 40 || len(k.fingerprint()) < 40 || len(ring[k.pub.KeyId]) == 0 {
				t.Fatalf("key %+v cannot be found", k)
			}
		}
	})
}

// BenchmarkLoad measures Load with three Ed25519 keys.
func BenchmarkLoad(b *testing.B) {
	dir := etc(b, map[string]string{"sources.list": entry, "trusted.gpg": public(b, fastKey(b, nil), fastKey(b, nil), fastKey(b, nil))})
	for b.Loop() {
		load(b, dir)
	}
}

func BenchmarkVerifyClearsigned(b *testing.B) {
	e := fastKey(b, nil)
	trust, err := Load(Config{EtcDir: etc(b, map[string]string{"sources.list": entry, "trusted.gpg": public(b, e)})})
	must(b, err)
	body := inRelease(b, release+strings.Repeat("\n 0123456789abcdef 0 x", 8000), nil, e.PrivateKey)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, v, err := trust.VerifyClearsigned(base, suite, body); v != Verified || err != nil {
			b.Fatal(v, err)
		}
	}
}

// TestIsLarge guards the rule that keeps the keyrings of people out of those of archives.
func TestIsLarge(t *testing.T) {
	path := etc(t, map[string]string{"x": "x"}) + "/x"
	for size, want := range map[int64]bool{0: false, maxHeldKeyring: false, maxHeldKeyring + 1: true} {
		must(t, os.Truncate(path, size))
		if isLarge(path) != want {
			t.Errorf("%d bytes: got %v", size, !want)
		}
	}
}
