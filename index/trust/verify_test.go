// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"bytes"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

const (
	base  = "deb.example.org/debian"
	suite = "stable"
	entry = "deb http://deb.example.org/debian stable main\n"
)

func TestVerdictOfOneKey(t *testing.T) {
	past := time.Now().Add(-48 * time.Hour)
	rsa := func(bits int) func(*packet.Config) {
		return func(c *packet.Config) { c.Algorithm, c.RSABits, c.MinRSABits = packet.PubKeyAlgoRSA, bits, 1024 }
	}
	tests := []struct {
		name    string
		key     func(*packet.Config)
		prepare func(*openpgp.Entity) error
		sign    *packet.Config
		want    Verdict
		reason  string
	}{
		{name: "Ed25519", want: Verified},
		{name: "RSA", key: rsa(2048), want: Verified},
		{name: "SHA-512", sign: &packet.Config{DefaultHash: crypto.SHA512}, want: Verified},
		{name: "expires later", key: at(past, 72*time.Hour), want: Verified},
		{name: "clock behind", key: at(time.Now().Add(time.Hour), 0),
			sign: &packet.Config{Time: func() time.Time { return time.Now().Add(time.Hour) }}, want: Verified},
		{name: "weak RSA", key: rsa(1024), sign: &packet.Config{MinRSABits: 1024}, reason: "RSA key of less"},
		{name: "expired key", key: at(past, time.Hour), reason: "expired key"},
		{name: "expired signature",
			sign:   &packet.Config{SigLifetimeSecs: 60, Time: func() time.Time { return past.Add(time.Hour) }},
			key:    at(past, 0),
			reason: "expired signature"},
		{name: "revoked", reason: "revoked key", prepare: func(e *openpgp.Entity) error {
			return e.Revoke(packet.KeySuperseded, "retired", nil)
		}},
		{name: "compromised", reason: "revoked key", prepare: func(e *openpgp.Entity) error {
			return e.Revoke(packet.KeyCompromised, "stolen", nil)
		}},
		{name: "critical notation", reason: "critical notation", sign: &packet.Config{SignatureNotations: []*packet.Notation{
			{Name: "x@example.org", Value: []byte("y"), IsCritical: true, IsHumanReadable: true}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := fastKey(t, tt.key)
			body := inRelease(t, release, tt.sign, e.PrivateKey)
			if tt.prepare != nil {
				must(t, tt.prepare(e))
			}
			trust, log := load(t, etc(t, map[string]string{"sources.list": entry, "trusted.gpg": public(t, e)}))
			plain, v, err := trust.VerifyClearsigned(base, suite, body)
			if v != tt.want || err != nil || string(plain) != release {
				t.Errorf("got %v, %v, %q, want %v\n%s", v, err, plain, tt.want, log)
			}
			if !strings.Contains(log.String(), tt.reason) {
				t.Errorf("reason %q is missing in the log: %s", tt.reason, log)
			}

			changed := bytes.Replace(body, []byte("Origin: Test"), []byte("Origin: Evil"), 1)
			want := Bad
			if tt.name == "weak RSA" {
				want = Unknown // it cannot judge either way
			}
			if _, v, err := trust.VerifyClearsigned(base, suite, changed); v != want || err != nil {
				t.Errorf("changed text: got %v, %v, want %v", v, err, want)
			}
		})
	}
}

func TestVerdictOfManySignatures(t *testing.T) {
	ours, other, stranger := fastKey(t, nil), fastKey(t, nil), fastKey(t, nil)
	trust, _ := load(t, etc(t, map[string]string{"sources.list": entry, "trusted.gpg": public(t, ours, other)}))
	sign := func(text string, signers ...*openpgp.Entity) []byte {
		var keys []*packet.PrivateKey
		for _, e := range signers {
			keys = append(keys, e.PrivateKey)
		}
		return inRelease(t, text, nil, keys...)
	}
	signatureOf := func(body []byte) []byte { return body[bytes.Index(body, []byte(beginSignature)):] }
	wrong := signatureOf(sign("Origin: Else", other))

	tests := []struct {
		name string
		body []byte
		want Verdict
	}{
		{"one", sign(release, ours), Verified},
		{"two", sign(release, ours, other), Verified},
		{"stranger", sign(release, stranger), Unknown},
		{"stranger first", sign(release, stranger, ours), Verified},
		{"stranger last", sign(release, ours, stranger), Verified},
		{"two blocks", append(sign(release, stranger), signatureOf(sign(release, ours))...), Verified},
		{"good and wrong", append(sign(release, ours), wrong...), Bad},
		{"stranger and wrong", append(sign(release, stranger), wrong...), Bad},
	}
	for _, tt := range tests {
		plain, v, err := trust.VerifyClearsigned(base, suite, tt.body)
		if v != tt.want || err != nil || string(plain) != release {
			t.Errorf("%s: got %v, %v, %q, want %v", tt.name, v, err, plain, tt.want)
		}
	}
	crowd, blocks := slices.Repeat([]*openpgp.Entity{ours}, maxSignatures+1), sign(release, ours)
	for range maxSignatures {
		blocks = append(blocks, signatureOf(sign(release, ours))...)
	}
	for _, body := range [][]byte{sign(release, crowd...), blocks} {
		if _, v, err := trust.VerifyClearsigned(base, suite, body); !errors.Is(err, ErrShape) || v != Unknown {
			t.Errorf("%d signatures: got %v, %v", maxSignatures+1, v, err)
		}
	}
	if _, v, err := trust.VerifyClearsigned(base, suite, sign(release, crowd[1:]...)); v != Verified || err != nil {
		t.Errorf("%d signatures: got %v, %v", maxSignatures, v, err)
	}
}

func TestWhoMaySignWhat(t *testing.T) {
	names := []string{"default", "named", "embedded", "second", "held", "removed"}
	keys := make(map[string]*openpgp.Entity)
	for _, name := range names {
		keys[name] = fastKey(t, nil)
	}
	indented := strings.ReplaceAll(strings.TrimSpace(armoured(t, keys["embedded"])), "\n", "\n ")
	files := map[string]string{
		"trusted.gpg.d/default.asc":      armoured(t, keys["default"], keys["second"]),
		"keyrings/named.gpg":             public(t, keys["named"]),
		"keyrings/held.asc":              armoured(t, keys["held"]),
		"keyrings/big.gpg":               strings.Repeat(public(t, keys["removed"]), maxHeldKeyring/100),
		"keyrings/old-removed-keys.gpg":  public(t, keys["removed"]),
		"keyrings/keybox.gpg":            "\x00\x00\x00\x20\x01\x01\x00\x02KBXf" + strings.Repeat("\x00", 20),
		"sources.list.d/empty-line.list": "\n",
		"sources.list": "deb http://a.example/debian stable main\n" +
			"deb [signed-by=ETC/keyrings/named.gpg] http://b.example/debian stable main\n" +
			"deb-src http://b.example/debian stable main\n" +
			"deb [signed-by=" + fingerprint(keys["second"]) + "] http://c.example/debian stable main\n" +
			"deb [signed-by=ETC/keyrings/named.gpg," + fingerprint(keys["second"]) + "] http://d.example/debian stable main\n" +
			"deb [signed-by=ETC/missing.gpg] http://e.example/debian stable main\n" +
			"deb [signed-by=ETC/keyrings/named.gpg] http://f.example/debian stable/updates main\n" +
			"deb [signed-by=ETC/keyrings/held.asc] http://f.example/debian stable main\n" +
			"deb [signed-by=ETC/keyrings/named.gpg] http://g.example/flat sub/\n",
		"sources.list.d/x.sources": "Types: deb\nURIs: http://x.example/debian\nSuites: stable\nComponents: main\nSigned-By:\n " +
			strings.ReplaceAll(indented, "\n \n", "\n .\n") + "\n",
	}
	trust, log := load(t, etc(t, files))
	if strings.Contains(log.String(), "WARN") {
		t.Errorf("warnings while loading: %s", log)
	}

	tests := []struct{ base, suite, want string }{
		{"a.example/debian", "stable", "default second"},
		{"a.example/debian/", "stable", "default second"},
		{"a.example/debian", "testing", "default second"}, // the repository is ours, the suite is not
		{"b.example/debian", "stable", "named"},
		{"c.example/debian", "stable", "second"},
		{"d.example/debian", "stable", ""}, // that keyring has no such key
		{"e.example/debian", "stable", ""}, // the default set does not stand in for a missing one
		{"f.example/debian", "stable/updates", "named"},
		{"f.example/debian", "stable", "held"},
		{"f.example/debian", "testing", "named held"},
		{"g.example/flat/sub", "", "named"},
		{"g.example/flat", "sub/", "named"},
		{"x.example/debian", "stable", "embedded"},
		{"elsewhere.example/debian", "stable", "default named embedded second held"},
	}
	for _, tt := range tests {
		for _, name := range names {
			want := Unknown
			if strings.Contains(" "+tt.want+" ", " "+name+" ") {
				want = Verified
			}
			body := inRelease(t, release, nil, keys[name].PrivateKey)
			if _, v, err := trust.VerifyClearsigned(tt.base, tt.suite, body); v != want || err != nil {
				t.Errorf("%s %s signed by %s: got %v, %v, want %v", tt.base, tt.suite, name, v, err, want)
			}
		}
	}
	if !strings.Contains(log.String(), "keybox") {
		t.Errorf("no warning about the keybox: %s", log)
	}
}

func TestSubkeys(t *testing.T) {
	signer := func(prepare func(*openpgp.Entity) error) (*openpgp.Entity, *packet.PrivateKey) {
		e := fastKey(t, nil)
		must(t, e.AddSigningSubkey(&packet.Config{Algorithm: packet.PubKeyAlgoEdDSA}))
		sub := &e.Subkeys[len(e.Subkeys)-1]
		if prepare != nil {
			must(t, prepare(e))
		}
		return e, sub.PrivateKey
	}
	last := func(e *openpgp.Entity) *openpgp.Subkey { return &e.Subkeys[len(e.Subkeys)-1] }
	subFingerprint := func(e *openpgp.Entity) string { return fingerprintOf(last(e).PublicKey) }
	tests := []struct {
		name     string
		prepare  func(*openpgp.Entity) error
		signedBy func(*openpgp.Entity) string
		want     Verdict
	}{
		{"all keys", nil, nil, Verified},
		{"primary", nil, fingerprint, Verified},
		{"primary in lower case", nil, func(e *openpgp.Entity) string { return strings.ToLower(fingerprint(e)) }, Verified},
		{"primary exactly", nil, func(e *openpgp.Entity) string { return fingerprint(e) + "!" }, Unknown},
		{"subkey", nil, subFingerprint, Verified},
		{"subkey exactly", nil, func(e *openpgp.Entity) string { return subFingerprint(e) + "!" }, Verified},
		{"another", nil, func(*openpgp.Entity) string { return strings.Repeat("A", 40) }, Unknown},
		{"revoked subkey", func(e *openpgp.Entity) error { return last(e).Revoke(packet.KeyRetired, "", nil) }, nil, Unknown},
		{"revoked primary", func(e *openpgp.Entity) error { return e.Revoke(packet.KeyRetired, "", nil) }, nil, Unknown},
		{"not for signing", func(e *openpgp.Entity) error {
			last(e).Bindings[0].Packet.FlagSign = false
			return last(e).ReSign(nil)
		}, nil, Unknown},
		{"no cross-certification", func(e *openpgp.Entity) error {
			last(e).Bindings[0].Packet.EmbeddedSignature = nil
			return last(e).Bindings[0].Packet.SignKey(last(e).PublicKey, e.PrivateKey, nil)
		}, nil, Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, private := signer(tt.prepare)
			list := entry
			if tt.signedBy != nil {
				list = "deb [signed-by=" + tt.signedBy(e) + "] http://deb.example.org/debian stable main\n"
			}
			trust, log := load(t, etc(t, map[string]string{"sources.list": list, "trusted.gpg": public(t, e)}))
			_, v, err := trust.VerifyClearsigned(base, suite, inRelease(t, release, nil, private))
			if v != tt.want || err != nil {
				t.Errorf("got %v, %v, want %v\n%s", v, err, tt.want, log)
			}
		})
	}
}

// A key that is held in several versions is as old as its newest one, and revoked if one of them is.
func TestVersionsOfAKey(t *testing.T) {
	e := fastKey(t, at(time.Now().Add(-48*time.Hour), time.Hour))
	body := inRelease(t, release, &packet.Config{Time: func() time.Time { return e.PrimaryKey.CreationTime.Add(time.Minute) }}, e.PrivateKey)
	expired := public(t, e)
	for _, identity := range e.Identities {
		forever := uint32(0)
		identity.SelfCertifications[0].Packet.KeyLifetimeSecs = &forever
		must(t, identity.ReSign(nil))
	}
	renewed := public(t, e)
	must(t, e.Revoke(packet.KeyRetired, "", nil))
	revoked := public(t, e)

	for _, tt := range []struct {
		rings []string
		want  Verdict
	}{
		{[]string{expired}, Unknown},
		{[]string{renewed}, Verified},
		{[]string{expired, renewed}, Verified},
		{[]string{renewed, expired}, Verified},
		{[]string{revoked, renewed}, Unknown},
		{[]string{renewed, revoked}, Unknown},
	} {
		trust, log := load(t, etc(t, map[string]string{
			"sources.list":        entry,
			"trusted.gpg.d/a.gpg": tt.rings[0],
			"trusted.gpg.d/b.gpg": tt.rings[len(tt.rings)-1],
		}))
		if _, v, err := trust.VerifyClearsigned(base, suite, body); v != tt.want || err != nil {
			t.Errorf("got %v, %v, want %v\n%s", v, err, tt.want, log)
		}
	}
}

func TestVerifyDetached(t *testing.T) {
	e, stranger := fastKey(t, nil), fastKey(t, nil)
	trust, _ := load(t, etc(t, map[string]string{"sources.list": entry, "trusted.gpg": public(t, e)}))
	text := release + "\n"
	good := string(detached(t, text, e))
	tests := []struct {
		name, release, sig string
		want               Verdict
		err                string
	}{
		{"good", text, good, Verified, ""},
		{"two blocks", text, string(detached(t, text, stranger)) + good, Verified, ""},
		{"CRLF", text, strings.ReplaceAll(good, "\n", "\r\n"), Verified, ""},
		{"changed", strings.Replace(text, "Test", "Evil", 1), good, Bad, ""},
		{"stranger", text, string(detached(t, text, stranger)), Unknown, ""},
		{"HTML release", "<html>Log in", good, Unknown, "captive portal"},
		{"HTML signature", text, "<!DOCTYPE html><html>Log in", Unknown, "captive portal"},
		{"empty signature", text, "", Unknown, "empty body"},
		{"truncated", text, good[:len(good)/2], Unknown, "cut short"},
		{"text before", text, "x\n" + good, Unknown, "no OpenPGP signature"},
		{"text after", text, good + "x\n", Unknown, "text after the signature"},
		{"text within", text, strings.Replace(good, "\n\n", "\n\n-- x\n", 1), Unknown, "dash within"},
		{"binary", text, "\x88\x75\x04\x00", Unknown, "binary data"},
		{"no base64", text, beginSignature + "\n\n!!!!\n" + endSignature + "\n", Unknown, "unreadable"},
		{"a key", text, armourAs(t, public(t, e)), Unknown, "PublicKey among"},
		{"huge", text, strings.Repeat(" ", MaxRelease+1), Unknown, "more than"},
	}
	for _, tt := range tests {
		v, err := trust.VerifyDetached(base, suite, []byte(tt.release), []byte(tt.sig))
		if v != tt.want || (err == nil) != (tt.err == "") {
			t.Errorf("%s: got %v, %v, want %v", tt.name, v, err, tt.want)
		}
		if err != nil && (!errors.Is(err, ErrShape) || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: error %q does not say %q", tt.name, err, tt.err)
		}
	}
}

// armourAs passes packets off as a signature.
func armourAs(t *testing.T, packets string) string { return armour(t, "PGP SIGNATURE", packets) }

func TestUnreadableKeyrings(t *testing.T) {
	e := fastKey(t, nil)
	text := armoured(t, e)
	files := map[string]string{
		"sources.list":               entry,
		"trusted.gpg.d/a.gpg":        "<html>404 Not Found</html>",
		"trusted.gpg.d/b.asc":        text[:len(text)/2],
		"trusted.gpg.d/c.asc":        beginKey + "\n\n!!\n" + endKey + "\n",
		"trusted.gpg.d/d.gpg":        public(t, e)[:40],
		"trusted.gpg.d/e.gpg":        "",
		"trusted.gpg.d/f key.gpg":    public(t, e),
		"trusted.gpg.d/g.gpg.backup": public(t, e),
		"trusted.gpg.d/h.gpg":        strings.Repeat("\x99", maxKeyring+1),
		"trusted.gpg.d/i.gpg/x":      "a directory",
		"trusted.gpg.d/z.asc":        "a comment\n" + text + text + armoured(t, fastKey(t, nil)),
	}
	dir := etc(t, files)
	must(t, os.Symlink("nowhere", filepath.Join(dir, "trusted.gpg.d", "y.gpg")))
	trust, log := load(t, dir)
	for _, name := range []string{"a.gpg", "b.asc", "c.asc", "d.gpg", "f key.gpg", "h.gpg"} {
		if !strings.Contains(log.String(), name) {
			t.Errorf("no warning about %s", name)
		}
	}
	for _, name := range []string{"e.gpg", "g.gpg", "z.asc"} {
		if strings.Contains(log.String(), name) {
			t.Errorf("warning about %s", name)
		}
	}
	if _, v, _ := trust.VerifyClearsigned(base, suite, inRelease(t, release, nil, e.PrivateKey)); v != Verified {
		t.Errorf("got %v by the one good keyring\n%s", v, log)
	}
}

func TestVerdictString(t *testing.T) {
	for v, want := range map[Verdict]string{Unknown: "unknown", Verified: "verified", Bad: "bad", 7: "Verdict(7)"} {
		if v.String() != want {
			t.Errorf("got %q, want %q", v, want)
		}
	}
}
