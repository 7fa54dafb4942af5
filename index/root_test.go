// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/index/trust"
)

func TestAddRoot(t *testing.T) {
	x := openIndex(t, Config{})
	r := stable(july, "pool/a.deb", "a")
	r.fields = "Valid-Until: Sat, 01 Aug 2026 00:00:00 UTC\n"
	body := clearsigned(t, r.release(), archiveKey())
	for _, isNew := range []bool{true, false} {
		info, err := x.AddRoot(dists+"/InRelease", body)
		want := RootInfo{
			Digest: sha256.Sum256(body), Date: july, ValidUntil: august,
			Verdict: trust.Verified, Suite: "stable", Codename: "test", New: isNew,
		}
		if err != nil || info != want {
			t.Errorf("got %+v, %v\nwant %+v", info, err, want)
		}
	}
	if !x.HasRoot(dists+"/InRelease", sha256.Sum256(body)) || x.HasRoot(dists+"/InRelease", Digest{}) || x.HasRoot("h/x", Digest{}) {
		t.Error("HasRoot is wrong")
	}
}

func TestAddRootRefuses(t *testing.T) {
	r := stable(july, "pool/a.deb", "a")
	signed := string(clearsigned(t, r.release(), archiveKey()))
	const portal = "<!DOCTYPE html><html><body>Please log in</body></html>"
	tests := []struct {
		name, file, body string
		want             error
	}{
		{"captive portal", "InRelease", portal, ErrShape},
		{"captive portal for Release", "Release", portal, ErrShape},
		{"captive portal for Release.gpg", "Release.gpg", portal, ErrShape},
		{"empty", "InRelease", "", ErrShape},
		{"unsigned", "InRelease", r.release(), ErrShape},
		{"cut short", "InRelease", signed[:len(signed)/2], ErrShape},
		{"more at the end", "InRelease", signed + "x\n", ErrShape},
		{"no checksums", "Release", "Origin: Test\nSuite: stable\n", ErrShape},
		{"signed, but no Release", "InRelease", string(clearsigned(t, "hello", archiveKey())), ErrShape},
		{"changed", "InRelease", strings.Replace(signed, "Origin: Test", "Origin: Evil", 1), ErrBadSignature},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := openIndex(t, Config{})
			info, err := x.AddRoot(dists+"/"+tt.file, []byte(tt.body))
			if !errors.Is(err, tt.want) || info != (RootInfo{}) {
				t.Errorf("got %+v, %v; want %v", info, err, tt.want)
			}
			if origins, files := x.Stats(); origins != 0 || files != 0 {
				t.Errorf("knows %d repositories, %d files", origins, files)
			}
		})
	}
	if _, err := openIndex(t, Config{}).AddRoot(base+"/pool/a.deb", []byte(signed)); err == nil {
		t.Error("a pool file was taken for a root")
	}
}

func TestStrangersKeyIsNotTrusted(t *testing.T) {
	x := openIndex(t, Config{})
	r := stable(july, "pool/a.deb", "a")
	info, err := x.AddRoot(dists+"/InRelease", clearsigned(t, r.release(), strangersKey()))
	check(t, err)
	if info.Verdict != trust.Unknown || info.Reason == "" || !info.New {
		t.Errorf("got %+v", info)
	}
	r.parse(t, x, dists, list+".gz")
	e := x.Lookup(base+"/pool/a.deb", alice)
	wantEntry(t, e, KindFile, "a")
	if e.Trusted {
		t.Error("trusted")
	}
}

// Whoever sits on the wire can replay an old root, or sign a new one with a key of his own.
func TestNewestCannotBeRolledBack(t *testing.T) {
	x := openIndex(t, Config{})
	old, current, evil := stable(july, "pool/a.deb", "old"), stable(august, "pool/a.deb", "new"), stable(august.AddDate(1, 0, 0), "pool/a.deb", "evil")
	current.publish(t, x, dists)
	replayed := old.publish(t, x, dists)
	forged, err := x.AddRoot(dists+"/InRelease", clearsigned(t, evil.release(), strangersKey()))
	check(t, err)
	wantEntry(t, x.Lookup(dists+"/"+list, alice), KindIndex, string(current.files[list]))

	x.GaveRoot(dists+"/InRelease", replayed, alice)
	x.GaveRoot(dists+"/InRelease", forged.Digest, bob)
	wantEntry(t, x.Lookup(dists+"/"+list, alice), KindIndex, string(old.files[list]))
	e := x.Lookup(dists+"/"+list, bob)
	wantEntry(t, e, KindIndex, string(evil.files[list]))
	if e.Trusted {
		t.Error("the forged generation is trusted")
	}
}

func TestUntrustedGenerationsCountAsTheyCome(t *testing.T) {
	x := openIndex(t, Config{})
	for _, r := range []*repo{stable(august, "pool/a.deb", "one"), stable(july, "pool/a.deb", "two")} {
		_, err := x.AddRoot(dists+"/Release", []byte(r.release()))
		check(t, err)
		wantEntry(t, x.Lookup(dists+"/"+list, alice), KindIndex, string(r.files[list]))
	}
}

func TestExpiredRootGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openIndex(t, Config{})
		trusted, other := stable(time.Now(), "pool/a.deb", "a"), stable(time.Now(), "pool/a.deb", "b")
		trusted.fields = "Valid-Until: " + time.Now().Add(time.Hour).UTC().Format(time.RFC1123) + "\n"
		trusted.publish(t, x, dists)
		_, err := x.AddRoot(dists+"/Release", []byte(other.release()))
		check(t, err)
		wantEntry(t, x.Lookup(dists+"/"+list, alice), KindIndex, string(trusted.files[list]))
		time.Sleep(2 * time.Hour)
		x.tidy()
		wantEntry(t, x.Lookup(dists+"/"+list, alice), KindIndex, string(other.files[list]))
	})
}

func TestReleaseWithDetachedSignature(t *testing.T) {
	r := stable(july, "pool/a.deb", "a")
	text := r.release()
	release := func(t *testing.T, x *Index) trust.Verdict {
		info, err := x.AddRoot(dists+"/Release", []byte(text))
		check(t, err)
		return info.Verdict
	}
	signature := func(t *testing.T, x *Index, of string) trust.Verdict {
		sig := detached(t, of, archiveKey())
		info, err := x.AddRoot(dists+"/Release.gpg", sig)
		check(t, err)
		if info.Digest != sha256.Sum256(sig) || (info.Reason == "") != (info.Verdict == trust.Verified) {
			t.Errorf("got %+v", info)
		}
		return info.Verdict
	}
	t.Run("Release first", func(t *testing.T) {
		x := openIndex(t, Config{})
		before := release(t, x)
		if after := signature(t, x, text); before != trust.Unknown || after != trust.Verified {
			t.Errorf("got %v, then %v", before, after)
		}
		if release(t, x) != trust.Verified || !x.Lookup(dists+"/"+list, alice).Trusted {
			t.Error("not trusted")
		}
	})
	t.Run("Release.gpg first", func(t *testing.T) {
		x := openIndex(t, Config{})
		before := signature(t, x, text)
		if after := release(t, x); before != trust.Unknown || after != trust.Verified {
			t.Errorf("got %v, then %v", before, after)
		}
	})
	t.Run("of another Release", func(t *testing.T) {
		x := openIndex(t, Config{})
		release(t, x)
		if v := signature(t, x, strings.Replace(text, "Test", "Next", 1)); v != trust.Unknown {
			t.Errorf("got %v", v)
		}
		if release(t, x) != trust.Unknown || x.Lookup(dists+"/"+list, alice).Trusted {
			t.Error("trusted")
		}
	})
}

func TestWaitingSignaturesAreBounded(t *testing.T) {
	x := openIndex(t, Config{})
	sig := detached(t, "x", archiveKey())
	for i := range maxSignatures + 5 {
		_, err := x.AddRoot(fmt.Sprintf("h%d/dists/s/Release.gpg", i), sig)
		check(t, err)
	}
	if n := len(x.signatures); n != maxSignatures {
		t.Errorf("%d are kept", n)
	}
}

func TestGenerationsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openIndex(t, Config{})
		var roots []Digest
		publish := func() {
			time.Sleep(time.Hour)
			roots = append(roots, stable(time.Now(), "pool/a.deb", time.Now().String()).publish(t, x, dists))
		}
		for range 3 * keepGenerations {
			publish()
		}
		kept := x.suites[dists].generations
		if len(kept) != keepGenerations || kept[0].root != roots[len(roots)-1] {
			t.Fatalf("%d generations are kept", len(kept))
		}
		oldest := kept[keepGenerations-1].root
		time.Sleep(time.Hour)
		x.GaveRoot(dists+"/InRelease", oldest, alice)
		_, err := x.AddRoot(dists+"/Release", []byte(stable(july, "pool/a.deb", "a").release()))
		check(t, err)
		if x.suites[dists].byRoot(oldest) == nil {
			t.Error("dropped a generation that was given just now")
		}
		time.Sleep(holdTime)
		publish()
		if x.suites[dists].byRoot(oldest) != nil {
			t.Error("kept a generation that nobody needs")
		}
		time.Sleep(forgetAfter + time.Second)
		x.tidy()
		if origins, _ := x.Stats(); origins != 0 {
			t.Error("kept a suite that nobody asks for")
		}
	})
}

func TestReleaseFilesAreBounded(t *testing.T) {
	x := openIndex(t, Config{})
	padding := "X-Padding: " + strings.Repeat("x", 900<<10) + "\n"
	for i := range 60 {
		r := stable(july, "pool/a.deb", "a")
		r.fields = padding
		_, err := x.AddRoot(fmt.Sprintf("h%d/dists/s/Release", i), []byte(r.release()))
		check(t, err)
	}
	total := int64(0)
	for _, st := range x.suites {
		total += st.textSize()
	}
	if total > maxTexts || total < maxTexts/2 {
		t.Errorf("%d bytes are kept", total)
	}
	if x.suites["h59/dists/s"] == nil || x.suites["h0/dists/s"] != nil {
		t.Error("it was not the oldest that was dropped")
	}
}
