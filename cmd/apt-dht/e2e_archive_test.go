// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// suite says what kind of repository to make. The zero value is like Debian's:
// by-hash, InRelease, xz and gz, SHA-256.
type suite struct {
	flat         string        // not "": a flat repository with its indexes in that directory, "./", "/" or "sub/"
	compressions []string      // of the indexes, "" for plain; nil: .xz and .gz
	sums         []string      // of the Release file; nil: SHA256
	noByHash     bool          // Acquire-By-Hash is not offered
	detached     bool          // Release and Release.gpg, no InRelease
	validUntil   time.Time     // zero: none
	age          time.Duration // how long ago it was published; zero: two hours
	previous     []*archive    // earlier versions, oldest first, from which pdiffs lead here
}

// archive is one version of a repository: the document root of a mirror, with
// the repository in its directory debian.
type archive struct {
	suite
	root     string
	key      *signingKey
	packages []builtPackage
	plain    []byte            // the Packages file, uncompressed
	listed   map[string][]byte // what the Release file names, by name
}

// names of the one suite, component and architecture that there is
const (
	distsDir    = "debian/dists/stable"
	packagesDir = "main/binary-amd64"
)

// publish makes a repository of those packages.
func (w *world) publish(t *testing.T, packages []builtPackage, s suite) *archive {
	t.Helper()
	if s.compressions == nil {
		s.compressions = []string{".xz", ".gz"}
	}
	if s.sums == nil {
		s.sums = []string{"SHA256"}
	}
	if s.age == 0 {
		s.age = 2 * time.Hour
	}
	a := &archive{suite: s, root: t.TempDir(), key: w.key, packages: packages, listed: map[string][]byte{}}
	a.fillPool(t, w.sources)
	a.writeIndexes(t)
	a.sign(t, a.release())
	a.setTimes(t)
	return a
}

func (a *archive) path(elem ...string) string {
	return filepath.Join(append([]string{a.root, "debian"}, elem...)...)
}

// dists is the directory of the Release file.
func (a *archive) dists(elem ...string) string {
	if a.flat != "" {
		return filepath.Join(append([]string{a.root, "debian", a.flat}, elem...)...)
	}
	return filepath.Join(append([]string{a.root, distsDir}, elem...)...)
}

func (a *archive) fillPool(t *testing.T, sources string) {
	t.Helper()
	for _, p := range a.packages {
		target := a.path(p.file)
		check(t, os.MkdirAll(filepath.Dir(target), 0o755))
		check(t, os.Link(p.deb, target))
	}
	files, err := filepath.Glob(filepath.Join(sources, "*"))
	check(t, err)
	for _, file := range files {
		writeFile(t, a.path("pool/main/h/hello", filepath.Base(file)), readFile(t, file))
	}
}

func (a *archive) writeIndexes(t *testing.T) {
	t.Helper()
	pool := "pool"
	if a.flat == "./" {
		pool = "./pool" // as dpkg-scanpackages writes names; apt asks for them so
	}
	ftparchive := func(kind string) []byte {
		return []byte(runCommand(t, command(a.path(), "apt-ftparchive", "-q", "-a", "amd64", kind, pool)))
	}
	a.plain = ftparchive("packages")
	packages, sources := packagesDir+"/Packages", "main/source/Sources"
	if a.flat != "" {
		packages, sources = "Packages", "Sources"
	}
	a.compress(t, packages, a.plain)
	a.compress(t, sources, ftparchive("sources"))
	if a.flat == "" {
		a.compress(t, "main/Contents-amd64", ftparchive("contents"))
		a.writePdiffs(t)
	}
}

// compress writes an index in all its forms. The Release file names the plain
// form also where, as with Debian's, the mirror does not have it.
func (a *archive) compress(t *testing.T, name string, body []byte) {
	t.Helper()
	a.listed[name] = body
	for _, ext := range a.compressions {
		a.index(t, name+ext, compressed(t, ext, body))
	}
}

// index writes a file that the Release file is to name.
func (a *archive) index(t *testing.T, name string, body []byte) {
	t.Helper()
	a.listed[name] = body
	writeFile(t, a.dists(name), body)
	for _, sum := range a.sums {
		if !a.noByHash {
			writeFile(t, a.dists(filepath.Dir(name), "by-hash", sum, hexHash(sum, body)), body)
		}
	}
}

// compressed runs the compressor for an extension.
func compressed(t *testing.T, ext string, body []byte) []byte {
	t.Helper()
	tool, ok := map[string][]string{
		"": {"cat"}, ".xz": {"xz", "-1c"}, ".gz": {"gzip", "-nc"}, ".bz2": {"bzip2", "-c"},
		".zst": {"zstd", "-qc"}, ".lz4": {"lz4", "-qc"}, ".lzma": {"xz", "--format=lzma", "-1c"},
	}[ext]
	if !ok {
		t.Fatalf("no compressor for %q", ext)
	}
	cmd := exec.Command(tool[0], tool[1:]...)
	cmd.Stdin = bytes.NewReader(body)
	return []byte(runCommand(t, cmd))
}

// releaseHashes are the hashes of Release files, by field and by-hash directory.
var releaseHashes = map[string]func() hash.Hash{"SHA256": sha256.New, "SHA512": sha512.New}

// hexHash is a file's hash as Release files tell it.
func hexHash(sum string, body []byte) string {
	h := releaseHashes[sum]()
	h.Write(body)
	return fmt.Sprintf("%x", h.Sum(nil))
}

// release returns the Release file.
func (a *archive) release() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Origin: e2e\nLabel: e2e\nDate: %s\n", a.published().Format(time.RFC1123))
	switch a.flat {
	case "":
		b.WriteString("Suite: stable\nCodename: stable\nArchitectures: amd64 all\nComponents: main\n")
	case "./", "/": // no name is expected
	default:
		fmt.Fprintf(&b, "Suite: %s\n", strings.TrimSuffix(a.flat, "/"))
	}
	if !a.validUntil.IsZero() {
		fmt.Fprintf(&b, "Valid-Until: %s\n", a.validUntil.UTC().Format(time.RFC1123))
	}
	if !a.noByHash {
		b.WriteString("Acquire-By-Hash: yes\n")
	}
	for _, sum := range a.sums {
		fmt.Fprintf(&b, "%s:\n", sum)
		for _, name := range slices.Sorted(maps.Keys(a.listed)) {
			fmt.Fprintf(&b, " %s %d %s\n", hexHash(sum, a.listed[name]), len(a.listed[name]), name)
		}
	}
	return b.Bytes()
}

// published is when this version came out, in UTC.
func (a *archive) published() time.Time {
	return time.Now().Add(-a.age).UTC().Truncate(time.Second)
}

func (a *archive) sign(t *testing.T, release []byte) {
	t.Helper()
	if !a.detached {
		writeFile(t, a.dists("InRelease"), a.key.clearsign(t, release))
		return
	}
	writeFile(t, a.dists("Release"), release)
	writeFile(t, a.dists("Release.gpg"), a.key.detachSign(t, release))
}

// setTimes makes Last-Modified differ between versions that a test publishes
// within one second.
func (a *archive) setTimes(t *testing.T) {
	t.Helper()
	at := a.published()
	check(t, filepath.WalkDir(a.dists(), func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.Name() == "pool" {
			return filepath.SkipDir // its files are those of all archives
		}
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chtimes(path, at, at)
	}))
}
