// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"bytes"
	"crypto"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

const release = "Origin: Test\nSuite: stable\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nSHA256:\n" +
	" e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages"

// etc writes files below a new directory, each named by its path, and returns the directory.
// "ETC" in a text stands for it.
func etc(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "ETC", dir)), 0o644))
	}
	return dir
}

// load loads from dir alone and returns also what was logged.
func load(t testing.TB, dir string) (*Trust, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	opts := &slog.HandlerOptions{Level: slog.LevelDebug}
	trust, err := Load(Config{
		EtcDir:      dir,
		KeyringDirs: []string{filepath.Join(dir, "keyrings")},
		Log:         slog.New(slog.NewTextHandler(&log, opts)),
	})
	must(t, err)
	return trust, &log
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fastKey makes an Ed25519 key, fast enough to have a fresh one for each case.
func fastKey(t testing.TB, change func(*packet.Config)) *openpgp.Entity {
	t.Helper()
	cfg := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA256}
	if change != nil {
		change(cfg)
	}
	e, err := openpgp.NewEntity("Test Archive", "", "archive@example.org", cfg)
	must(t, err)
	return e
}

// at sets the time of creation and the lifetime.
func at(created time.Time, life time.Duration) func(*packet.Config) {
	return func(c *packet.Config) {
		c.Time = func() time.Time { return created }
		c.KeyLifetimeSecs = uint32(life / time.Second)
	}
}

func public(t testing.TB, entities ...*openpgp.Entity) string {
	t.Helper()
	var b bytes.Buffer
	for _, e := range entities {
		must(t, e.Serialize(&b))
	}
	return b.String()
}

func armoured(t testing.TB, entities ...*openpgp.Entity) string {
	t.Helper()
	return armour(t, "PGP PUBLIC KEY BLOCK", public(t, entities...))
}

func armour(t testing.TB, kind, data string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, kind, nil)
	must(t, err)
	_, err = w.Write([]byte(data))
	must(t, err)
	must(t, w.Close())
	return b.String() + "\n"
}

// inRelease clearsigns text with each of the keys, by their signing subkey if they have one.
func inRelease(t testing.TB, text string, cfg *packet.Config, signers ...*packet.PrivateKey) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := clearsign.EncodeMulti(&b, signers, cfg)
	must(t, err)
	_, err = w.Write([]byte(text))
	must(t, err)
	must(t, w.Close())
	return append(b.Bytes(), '\n')
}

func detached(t testing.TB, text string, signer *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, openpgp.ArmoredDetachSign(&b, []*openpgp.Entity{signer}, strings.NewReader(text), nil))
	return append(b.Bytes(), '\n')
}

func fingerprint(e *openpgp.Entity) string { return fingerprintOf(e.PrimaryKey) }
