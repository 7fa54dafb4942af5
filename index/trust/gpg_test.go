// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// gpg runs GnuPG with a home of its own.
type gpg struct {
	t    *testing.T
	home string
}

func newGPG(t *testing.T) *gpg {
	for _, program := range []string{"gpg", "gpgv", "gpgconf"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: this test needs Debian's packages gnupg and gpgv", err)
		}
	}
	// Not t.TempDir: the agent's socket is in it, and its path must have less than 108 bytes.
	home, err := os.MkdirTemp("", "gpg")
	must(t, err)
	g := &gpg{t, home}
	t.Cleanup(func() {
		g.command("gpgconf", "--kill", "all").Run()
		os.RemoveAll(home)
	})
	return g
}

func (g *gpg) command(program string, args ...string) *exec.Cmd {
	return exec.Command(program, append([]string{"--homedir", g.home}, args...)...)
}

func (g *gpg) run(stdin string, args ...string) string {
	g.t.Helper()
	cmd := g.command("gpg", append([]string{"--batch", "--quiet", "--yes", "--passphrase", "", "--pinentry-mode", "loopback"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		g.t.Fatalf("gpg %q: %v\n%s", args, err, &stderr)
	}
	return stdout.String()
}

// newKey makes a signing key and returns its fingerprint.
func (g *gpg) newKey(name, algorithm, expire string, args ...string) string {
	g.t.Helper()
	g.run("", append(args, "--quick-gen-key", name+" <"+name+"@example.org>", algorithm, "sign", expire)...)
	for _, line := range strings.Split(g.run("", append(args, "--with-colons", "--list-keys", name+"@example.org")...), "\n") {
		if fields := strings.Split(line, ":"); fields[0] == "fpr" {
			return fields[9]
		}
	}
	g.t.Fatal("no fingerprint")
	return ""
}

// revoke imports the revocation that gpg wrote when it made the key, disarming its safety catch.
func (g *gpg) revoke(fingerprint string) {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.home, "openpgp-revocs.d", fingerprint+".rev"))
	must(g.t, err)
	g.run(strings.Replace(string(text), ":-----BEGIN", "-----BEGIN", 1), "--import")
}

// gpgv returns what apt would make of gpgv's status lines (methods/gpgv.cc).
func (g *gpg) gpgv(keyring string, files ...string) Verdict {
	g.t.Helper()
	args := append([]string{"--status-fd", "1", "--ignore-time-conflict", "--keyring", keyring}, files...)
	out, err := g.command("gpgv", args...).Output()
	status := string(out)
	if !strings.Contains(status, "[GNUPG:]") {
		g.t.Fatalf("gpgv %q: %v\n%s", files, err, status)
	}
	good := strings.Count(status, "] GOODSIG ")
	for _, line := range strings.Split(status, "\n") {
		fields := strings.Fields(line)
		if len(fields) > 9 && fields[1] == "VALIDSIG" && fields[9] == "2" && strings.Contains(status, "] GOODSIG ") {
			good-- // apt's list of digests says that SHA-1 is untrusted
		}
	}
	switch {
	case strings.Contains(status, "] BADSIG "):
		return Bad
	case good > 0:
		return Verified
	}
	return Unknown
}

// What gpg signs is judged by us as apt with gpgv judges it, and so is what we sign ourselves.
func TestAgreesWithGPG(t *testing.T) {
	g := newGPG(t)
	ed, rsa, nist := g.newKey("ed", "ed25519", "never"), g.newKey("rsa", "rsa2048", "1y"), g.newKey("nist", "nistp384", "never")
	sub, revoked, stranger := g.newKey("sub", "ed25519", "never"), g.newKey("revoked", "ed25519", "never"), g.newKey("stranger", "ed25519", "never")
	g.run("", "--quick-add-key", sub, "ed25519", "sign", "never")
	old := []string{"--faked-system-time", "20200101T000000"}
	expired, veteran := g.newKey("expired", "ed25519", "1d", old...), g.newKey("veteran", "ed25519", "never", old...)
	own := fastKey(t, nil)

	text := release + "\n\n- dash\n-- dashes\ntrailing blanks \t\n\n"
	sign := func(mode string, args ...string) string { return g.run(text, append(args, mode)...) }
	by := func(fingerprint string) []string { return []string{"--local-user", fingerprint} }
	tests := []struct {
		name string
		args []string
		want Verdict
	}{
		{"Ed25519", by(ed), Verified},
		{"RSA", by(rsa), Verified},
		{"P-384", by(nist), Verified},
		{"subkey", by(sub), Verified},
		{"SHA-512", append(by(rsa), "--digest-algo", "SHA512"), Verified},
		{"text mode", append(by(rsa), "--textmode"), Verified},
		{"two", append(by(ed), by(rsa)...), Verified},
		{"with a stranger", append(by(stranger), by(rsa)...), Verified},
		{"stranger", by(stranger), Unknown},
		{"revoked", by(revoked), Unknown},
		{"expired", append(old, by(expired)...), Unknown},
		{"signature expired", append(by(veteran), "--faked-system-time", "20200102T000000", "--default-sig-expire", "1d"), Unknown},
		{"from the future", append(by(ed), "--faked-system-time", "20380101T000000"), Verified},
		{"SHA-1", append(by(rsa), "--digest-algo", "SHA1", "--allow-weak-digest-algos"), Unknown},
	}
	bodies, signatures := make(map[string]string), make(map[string]string)
	for _, tt := range tests {
		bodies[tt.name] = sign("--clearsign", tt.args...)
		signatures[tt.name] = sign("-abs", tt.args...)
	}
	g.revoke(revoked)
	ring := g.run("", "--export", ed, rsa, nist, sub, revoked, expired, veteran) + public(t, own)

	dir := etc(t, map[string]string{"sources.list": entry, "trusted.gpg": ring})
	trust, log := load(t, dir)
	path := filepath.Join(dir, "trusted.gpg")
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		must(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	compare := func(name, body string, want Verdict) {
		t.Helper()
		log.Reset()
		_, v, err := trust.VerifyClearsigned(base, suite, []byte(body))
		if theirs := g.gpgv(path, file("InRelease", body)); v != want || theirs != want || err != nil {
			t.Errorf("%s, clearsigned: we say %v, %v, gpgv says %v, want %v\n%s", name, v, err, theirs, want, log)
		}
	}
	for _, tt := range tests {
		compare(tt.name, bodies[tt.name], tt.want)
		log.Reset()
		v, err := trust.VerifyDetached(base, suite, []byte(text), []byte(signatures[tt.name]))
		theirs := g.gpgv(path, file("Release.gpg", signatures[tt.name]), file("Release", text))
		if v != tt.want || theirs != tt.want || err != nil {
			t.Errorf("%s, detached: we say %v, %v, gpgv says %v, want %v\n%s", tt.name, v, err, theirs, tt.want, log)
		}
	}
	compare("changed", strings.Replace(bodies["RSA"], "Origin: Test", "Origin: Evil", 1), Bad)
	compare("two, changed", strings.Replace(bodies["two"], "Origin: Test", "Origin: Evil", 1), Bad)
	compare("stranger, changed", strings.Replace(bodies["stranger"], "Origin: Test", "Origin: Evil", 1), Unknown)
	compare("ours", string(inRelease(t, text, nil, own.PrivateKey)), Verified)

	armouredRing := g.run("", "--armor", "--export", rsa)
	trust, _ = load(t, etc(t, map[string]string{"sources.list": entry, "trusted.gpg.d/x.asc": armouredRing}))
	if _, v, err := trust.VerifyClearsigned(base, suite, []byte(bodies["RSA"])); v != Verified || err != nil {
		t.Errorf("armoured keyring: got %v, %v", v, err)
	}
}
