// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// debPackage describes a package to build. All are for any architecture and
// hold one file of random bytes.
type debPackage struct {
	name, version string
	file          string // in the pool
	size          int
	seed          string // other bytes for the same name and version
	depends       string
}

// builtPackage is a .deb on disk.
type builtPackage struct {
	debPackage
	deb    string // where it is built
	digest [sha256.Size]byte
	length int64
}

// escaped is the file's name as apt writes it in a request.
func (p *builtPackage) escaped() string {
	return strings.NewReplacer("%", "%25", "+", "%2b", "~", "%7e").Replace(path.Base(p.file))
}

// catalogue holds names and versions that are hard on proxies: apt encodes
// '+' and '~', not ':', and a '%' in a file's name goes out as %25.
var catalogue = slices.Concat([]debPackage{
	{name: "hello", version: "1.0", file: "pool/main/h/hello/hello_1.0_all.deb", size: 20_000},
	{name: "e2e-plus++", version: "1.0+dfsg~rc1-1", file: "pool/main/e/e2e-plus++/e2e-plus++_1.0+dfsg~rc1-1_all.deb", size: 3_000},
	{name: "e2e-epoch", version: "2:1.0-1", file: "pool/main/e/e2e-epoch/e2e-epoch_2%3a1.0-1_all.deb", size: 5_000},
	{name: "e2e-colon", version: "1:2.0", file: "pool/main/e/e2e-colon/e2e-colon_1:2.0_all.deb", size: 1},
	{name: "e2e-big", version: "1.0", file: "pool/main/e/e2e-big/e2e-big_1.0_all.deb", size: bigSize},
	{name: "e2e-new", version: "1.0", file: "pool/main/e/e2e-new/e2e-new_1.0_all.deb", size: 30_000},
	{name: "e2e-everything", version: "1.0", file: "pool/main/e/e2e-everything/e2e-everything_1.0_all.deb", size: 100,
		depends: "hello, e2e-plus++, e2e-epoch, e2e-colon, " + strings.Join(manyNames(), ", ")},
}, manyPackages())

// bigSize is more than socket buffers between mirror, node and client hold.
const bigSize = 12 << 20

const manyCount = 20 // more than apt pipelines at a time

func manyNames() []string {
	var names []string
	for i := range manyCount {
		names = append(names, fmt.Sprintf("e2e-many-%02d", i))
	}
	return names
}

func manyPackages() []debPackage {
	var many []debPackage
	for i, name := range manyNames() {
		many = append(many, debPackage{name: name, version: "0.1", file: "pool/main/e/many/" + name + "_0.1_all.deb", size: 500 + i*i*1000})
	}
	return many
}

// allBut is every package but those, in a settled order.
func (w *world) allBut(names ...string) []builtPackage {
	var list []builtPackage
	for _, name := range slices.Sorted(maps.Keys(w.packages)) {
		if !slices.Contains(names, name) {
			list = append(list, w.packages[name])
		}
	}
	return list
}

// only is the packages of those names.
func (w *world) only(names ...string) []builtPackage {
	var list []builtPackage
	for _, name := range names {
		list = append(list, w.packages[name])
	}
	return list
}

func buildPackages(t *testing.T, dir string, list []debPackage) map[string]builtPackage {
	t.Helper()
	built := map[string]builtPackage{}
	for i, p := range list {
		built[p.name] = buildPackage(t, filepath.Join(dir, fmt.Sprint(i)), p)
	}
	return built
}

func buildPackage(t *testing.T, dir string, p debPackage) builtPackage {
	t.Helper()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nPriority: optional\nSection: misc\nDescription: test\n", p.name, p.version)
	if p.depends != "" {
		control += "Depends: " + p.depends + "\n"
	}
	tree := filepath.Join(dir, "tree")
	writeFile(t, filepath.Join(tree, "DEBIAN/control"), []byte(control))
	writeFile(t, filepath.Join(tree, "usr/share/e2e", p.name), randomBytes(p.size, p.name+p.seed))
	deb := filepath.Join(dir, "package.deb")
	runCommand(t, command("", "dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, deb))
	check(t, os.RemoveAll(tree))
	digest, length := digestOf(t, deb)
	return builtPackage{p, deb, digest, length}
}

// buildSource builds a source package and returns the directory of its files.
func buildSource(t *testing.T, dir string) string {
	t.Helper()
	dir = filepath.Join(dir, "source")
	tree := filepath.Join(dir, "hello-1.0")
	writeFile(t, filepath.Join(tree, "debian/control"), []byte("Source: hello\nMaintainer: Nobody <nobody@example.org>\nStandards-Version: 4.6.2\n\nPackage: hello\nArchitecture: all\nDescription: test\n"))
	writeFile(t, filepath.Join(tree, "debian/changelog"), []byte("hello (1.0) unstable; urgency=low\n\n  * Test.\n\n -- Nobody <nobody@example.org>  Thu, 01 Jan 2026 00:00:00 +0000\n"))
	writeFile(t, filepath.Join(tree, "debian/source/format"), []byte("3.0 (native)\n"))
	writeFile(t, filepath.Join(tree, "hello.c"), randomBytes(10_000, "hello.c"))
	runCommand(t, command(dir, "dpkg-source", "-b", "hello-1.0"))
	check(t, os.RemoveAll(tree))
	return dir
}

// randomBytes are the same for the same seed, and no compressor gains on them.
func randomBytes(n int, seed string) []byte {
	source := rand.NewChaCha8(sha256.Sum256([]byte(seed)))
	b := make([]byte, n)
	source.Read(b)
	return b
}

func writeFile(t testing.TB, path string, body []byte) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, body, 0o644))
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	return b
}

func digestOf(t testing.TB, path string) (digest [sha256.Size]byte, length int64) {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	h := sha256.New()
	length, err = io.Copy(h, f)
	check(t, err)
	return [sha256.Size]byte(h.Sum(nil)), length
}
