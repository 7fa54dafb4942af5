// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// signingKey is an OpenPGP key in a GnuPG home of its own.
type signingKey struct {
	home    string
	armored string // file for Signed-By
	keyring string // the same, binary
}

func newSigningKey(t *testing.T) *signingKey {
	t.Helper()
	// Not t.TempDir: the agent's socket needs a short path (unix(7): 108 bytes).
	home, err := os.MkdirTemp("", "e2e-gpg")
	check(t, err)
	k := &signingKey{home: home, armored: filepath.Join(home, "key.asc"), keyring: filepath.Join(home, "key.gpg")}
	t.Cleanup(func() {
		agent := exec.Command("gpgconf", "--kill", "gpg-agent") // the one of this home alone
		agent.Env = plainEnv("GNUPGHOME=" + home)
		agent.Run() // it ends by itself too, once its home has gone
		os.RemoveAll(home)
	})
	k.gpg(t, nil, "--passphrase", "", "--quick-gen-key", "e2e <e2e@example.org>", "ed25519", "sign", "never")
	public := k.gpg(t, nil, "--export")
	writeFile(t, k.keyring, public)
	writeFile(t, k.armored, k.gpg(t, nil, "--export", "--armor"))
	return k
}

func (k *signingKey) gpg(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("gpg", append([]string{"--batch", "--quiet", "--pinentry-mode", "loopback"}, args...)...)
	cmd.Env = plainEnv("GNUPGHOME=" + k.home)
	cmd.Stdin = bytes.NewReader(stdin)
	return []byte(runCommand(t, cmd))
}

func (k *signingKey) clearsign(t *testing.T, body []byte) []byte {
	t.Helper()
	return k.gpg(t, body, "--clearsign", "--digest-algo", "SHA512")
}

func (k *signingKey) detachSign(t *testing.T, body []byte) []byte {
	t.Helper()
	return k.gpg(t, body, "--detach-sign", "--armor")
}
