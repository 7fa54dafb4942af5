// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The tests of this file hold the whole module to its layout.

const (
	moduleRoot = "../.."
	spdxLine   = "// SPDX-License-Identifier: GPL-2.0-or-later\n\n"
)

// layout names every package of the module and the packages of the module that
// it may import, with the reason. Imports run down the list, never up.
var layout = []layoutRow{
	{"cmd/apt-dht", []string{"proxy", "proxy/lan", "proxy/wan", "proxy/fetch", "proxy/fetch/mirror", "discovery", "dht", "dht/nat", "index", "index/trust", "store", "store/inplace"},
		"wires the parts; what a repository's files look like is not its business"},
	{"proxy", []string{"proxy/lan", "proxy/wan", "proxy/fetch", "proxy/fetch/mirror", "proxy/lookahead", "index", "store"},
		"speaks HTTP with clients; where bytes come from is for proxy/fetch to know, and of the mirror client it needs but its errors and what it tells the dialler"},
	{"proxy/lookahead", nil,
		"knows connections and request lines, not what is asked for"},
	{"proxy/lan", []string{"proxy/peer", "proxy/fetch", "discovery"},
		"speaks the LAN's protocol; what a transfer does with the answers is for proxy/fetch to know"},
	{"proxy/wan", []string{"proxy/peer", "proxy/fetch", "dht"},
		"speaks the internet's protocol; it knows no LAN, and how a DHT or a router works is not its business"},
	{"proxy/peer", []string{"proxy/fetch", "store"},
		"is what the protocols of the LAN and of the internet have in common; who the other nodes are is theirs to know"},
	{"proxy/fetch", []string{"proxy/fetch/mirror", "store"},
		"fetches blobs by hash and pages by URL; which URL has which hash it is told"},
	{"proxy/fetch/mirror", nil,
		"is an HTTP client; what it fetches is verified by those who asked"},
	{"index", []string{"index/parse", "index/trust"},
		"says which hash a URL must have; it works without a store and without a network"},
	{"index/parse", nil,
		"reads hostile files; what they mean is decided above it"},
	{"index/trust", nil,
		"judges signatures; it must not depend on what it judges"},
	{"discovery", nil,
		"knows the LAN's nodes and who holds what; it neither serves nor fetches"},
	{"dht", nil,
		"knows the internet's nodes and what they announce; it moves no files"},
	{"dht/nat", nil,
		"asks the router for a port; what the port is for is nothing to it"},
	{"store/inplace", []string{"store"},
		"offers somebody else's files by hash, and never writes to them"},
	{"store", nil,
		"keeps bytes by hash; what they are for is nothing to it"},
}

// layoutRow reads: pkg may import may, and nothing else, because it why.
type layoutRow struct {
	pkg string
	may []string
	why string
}

// listedPackage is what `go list -json` tells of a package.
type listedPackage struct {
	ImportPath, Dir                    string
	Imports                            []string
	GoFiles, TestGoFiles, XTestGoFiles []string
}

func modulePackages(t *testing.T) []listedPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = moduleRoot
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listedPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg listedPackage
		err := dec.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, pkg)
	}
}

// TestImports checks what the packages import; their tests may import more.
func TestImports(t *testing.T) {
	for _, pkg := range modulePackages(t) {
		name := strings.TrimPrefix(pkg.ImportPath, "apt-dht/")
		i := slices.IndexFunc(layout, func(row layoutRow) bool { return row.pkg == name })
		if i < 0 {
			t.Errorf("package %s is not in the layout", name)
			continue
		}
		for _, imported := range pkg.Imports {
			imported, own := strings.CutPrefix(imported, "apt-dht/")
			if own && !slices.Contains(layout[i].may, imported) {
				t.Errorf("%s imports %s: it must not, because it %s", name, imported, layout[i].why)
			}
		}
	}
}

// TestLayoutRunsDown holds the table itself to its promise.
func TestLayoutRunsDown(t *testing.T) {
	above := map[string]bool{}
	for _, row := range layout {
		above[row.pkg] = true
		for _, imported := range row.may {
			if above[imported] {
				t.Errorf("%s may import %s, which stands above it", row.pkg, imported)
			}
		}
	}
}

// TestPackageDocs checks that each package says once what it is for.
func TestPackageDocs(t *testing.T) {
	for _, pkg := range modulePackages(t) {
		var documented []string
		for _, name := range slices.Concat(pkg.GoFiles, pkg.TestGoFiles, pkg.XTestGoFiles) {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(pkg.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if file.Doc != nil {
				documented = append(documented, name)
			}
		}
		if len(documented) != 1 {
			t.Errorf("%s: want one package comment, found %d in %v", pkg.ImportPath, len(documented), documented)
		}
	}
}

// TestLicenceLines checks that each Go file begins with the licence's line
// (spdx.dev), set off so that it is not taken for a package comment.
func TestLicenceLines(t *testing.T) {
	files := 0
	err := filepath.WalkDir(moduleRoot, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		files++
		body, err := os.ReadFile(path)
		if err == nil && !strings.HasPrefix(string(body), spdxLine) {
			t.Errorf("%s does not begin with %q", path, spdxLine)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Error("no Go file found")
	}
}

// TestTopLevel checks that nothing stands at the top that is not meant to,
// but for what git ignores.
func TestTopLevel(t *testing.T) {
	allowed := []string{
		".ci", ".git", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "go.mod", "go.sum",
		"cmd", "dht", "discovery", "docs", "index", "packaging", "proxy", "store",
	}
	allowed = append(allowed, ignored(t)...)
	entries, err := os.ReadDir(moduleRoot)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !slices.Contains(allowed, entry.Name()) {
			t.Errorf("%s stands at the top level", entry.Name())
		}
	}
}

// ignored returns the top-level directories that .gitignore names.
func ignored(t *testing.T) []string {
	t.Helper()
	f, err := os.Open(filepath.Join(moduleRoot, ".gitignore"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var names []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "/") {
			names = append(names, strings.Trim(line, "/"))
		}
	}
	return names
}
