// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"go.uber.org/goleak"

	"apt-dht/index/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	base  = "deb.example.org/debian"
	dists = base + "/dists/stable"
	list  = "main/binary-amd64/Packages"
)

var (
	alice = netip.MustParseAddr("192.0.2.1")
	bob   = netip.MustParseAddr("192.0.2.2")

	july   = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	august = time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
)

// newKey makes a key that is older than any clock of a test.
func newKey() *openpgp.Entity {
	cfg := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return time.Unix(900_000_000, 0) }}
	e, err := openpgp.NewEntity("Test Archive", "", "archive@example.org", cfg)
	if err != nil {
		panic(err)
	}
	return e
}

// archiveKey is the one that the tests' apt trusts, strangersKey one that it does not.
var archiveKey, strangersKey = sync.OnceValue(newKey), sync.OnceValue(newKey)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, data, 0o644))
}

// loadTrust makes an apt configuration with these sources and the archive's key.
func loadTrust(t testing.TB, sources ...string) *trust.Trust {
	t.Helper()
	etc := t.TempDir()
	var keyring bytes.Buffer
	check(t, archiveKey().Serialize(&keyring))
	write(t, filepath.Join(etc, "trusted.gpg"), keyring.Bytes())
	write(t, filepath.Join(etc, "sources.list"), []byte(strings.Join(sources, "\n")+"\n"))
	tr, err := trust.Load(trust.Config{EtcDir: etc, KeyringDirs: []string{}})
	check(t, err)
	return tr
}

func openIndex(t testing.TB, cfg Config) *Index {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Trust == nil {
		cfg.Trust = loadTrust(t)
	}
	x, err := Open(cfg)
	check(t, err)
	return x
}

// repo is one state of a suite: its index files by path.
type repo struct {
	date   time.Time
	fields string // more of Release, lines
	files  map[string][]byte
}

// addPacked adds a file and its gzip form.
func (r *repo) addPacked(path string, data []byte) {
	if r.files == nil {
		r.files = make(map[string][]byte)
	}
	r.files[path] = data
	r.files[path+".gz"] = zip(data)
}

func zip(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// release returns the text of the repository's Release.
func (r *repo) release() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Origin: Test\nSuite: stable\nCodename: test\nDate: %s\n%s", r.date.Format(time.RFC1123), r.fields)
	paths := slices.Sorted(maps.Keys(r.files))
	for _, sum := range []struct {
		field string
		of    func([]byte) string
	}{
		{"MD5Sum", func(b []byte) string { return fmt.Sprintf("%x", md5.Sum(b)) }},
		{"SHA256", func(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }},
		{"SHA512", func(b []byte) string { return fmt.Sprintf("%x", sha512.Sum512(b)) }},
	} {
		b.WriteString(sum.field + ":\n")
		for _, p := range paths {
			fmt.Fprintf(&b, " %s %d %s\n", sum.of(r.files[p]), len(r.files[p]), p)
		}
	}
	return b.String()
}

func clearsigned(t testing.TB, text string, key *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, key.PrivateKey, nil)
	check(t, err)
	_, err = w.Write([]byte(text))
	check(t, err)
	check(t, w.Close())
	return append(b.Bytes(), '\n')
}

func detached(t testing.TB, text string, key *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	check(t, openpgp.ArmoredDetachSign(&b, []*openpgp.Entity{key}, strings.NewReader(text), nil))
	return append(b.Bytes(), '\n')
}

// publish adds the repository's InRelease, signed by the archive.
func (r *repo) publish(t testing.TB, x *Index, dir string) Digest {
	t.Helper()
	info, err := x.AddRoot(dir+"/InRelease", clearsigned(t, r.release(), archiveKey()))
	check(t, err)
	return info.Digest
}

// parse gives one of the repository's files to the index.
func (r *repo) parse(t testing.TB, x *Index, dir, path string) {
	t.Helper()
	body := r.files[path]
	check(t, x.AddFile(dir+"/"+path, sha256.Sum256(body), bytes.NewReader(body)))
}

// packages returns a Packages file; each file's content is what it is named with here.
func packages(files ...string) []byte {
	var b bytes.Buffer
	for i := 0; i < len(files); i += 2 {
		fmt.Fprintf(&b, "Package: p%d\nFilename: %s\nSize: %d\nSHA256: %x\n\n",
			i, files[i], len(files[i+1]), sha256.Sum256([]byte(files[i+1])))
	}
	return b.Bytes()
}

// stable is a repository with one list.
func stable(date time.Time, files ...string) *repo {
	r := &repo{date: date}
	r.addPacked(list, packages(files...))
	return r
}

// wantEntry compares what matters; content is what the digest must be of.
func wantEntry(t testing.TB, got Entry, kind Kind, content string) {
	t.Helper()
	if got.Kind != kind || got.Digest != sha256.Sum256([]byte(content)) || got.Size != int64(len(content)) {
		t.Errorf("got %v of %d bytes, %x; want %v of %q", got.Kind, got.Size, got.Digest[:4], kind, content)
	}
}
