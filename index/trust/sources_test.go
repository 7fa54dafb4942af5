// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var ignorePlace = cmp.Options{cmpopts.IgnoreUnexported(Source{}), cmpopts.IgnoreFields(Source{}, "File", "Line")}

func TestOneLineStyle(t *testing.T) {
	const fingerprintA = "ABCDEF0123456789ABCDEF0123456789ABCDEF01"
	deb := func(uri, suite string, components ...string) Source {
		return Source{Type: "deb", URI: uri, Suite: suite, Components: components}
	}
	with := func(s Source, change func(*Source)) []Source { change(&s); return []Source{s} }
	tests := []struct {
		line string
		want []Source
		err  string
	}{
		{line: ""},
		{line: "# deb http://h/d s main"},
		{line: "deb http://h/d s main contrib # non-free", want: []Source{deb("http://h/d/", "s", "main", "contrib")}},
		{line: "\tdeb\thttp://h/d/  s\t main\r", want: []Source{deb("http://h/d/", "s", "main")}},
		{line: "deb http://H.Example:80 s main", want: []Source{deb("http://h.example/", "s", "main")}},
		{line: "deb https://h:443/d s main", want: []Source{deb("https://h/d/", "s", "main")}},
		{line: "deb http://h:8080/d s main", want: []Source{deb("http://h:8080/d/", "s", "main")}},
		{line: "deb http://[fd00::1]:3142/d s main", want: []Source{deb("http://[fd00::1]:3142/d/", "s", "main")}},
		{line: "deb http://h/d ./", want: []Source{deb("http://h/d/", "./")}},
		{line: "deb http://h/d sub/$(ARCH)/", want: []Source{deb("http://h/d/", substituteArch("sub/$(ARCH)/"))}},
		{line: "deb tor+https://h/d s main", want: []Source{deb("https://h/d/", "s", "main")}},
		{line: "deb mirror+https://h/list.txt s main", want: []Source{deb("https://h/list.txt/", "s", "main")}},
		{line: "deb mirror://h/list.txt s main", want: []Source{deb("http://h/list.txt/", "s", "main")}},
		{line: "deb file:/srv/d s main", want: []Source{deb("file:/srv/d/", "s", "main")}},
		{line: "deb cdrom:[Debian GNU/Linux 12]/ bookworm main"},
		{line: `deb "http://h/a b" "s" m%61in`, want: []Source{deb("http://h/a b/", "s", "main")}},
		{line: "deb http://me:secret@h/d s main",
			want: with(deb("http://h/d/", "s", "main"), func(s *Source) { s.Credentials = true })},
		{line: "deb [arch=amd64] http://h/d s main", want: []Source{deb("http://h/d/", "s", "main")}},
		{line: "deb [ arch+=i386 lang-=de trusted=yes ] http://h/d s main",
			want: with(deb("http://h/d/", "s", "main"), func(s *Source) { s.Trusted = "yes" })},
		{line: "deb-src [signed-by=/k.gpg," + strings.ToLower(fingerprintA) + "!] http://h/d s main",
			want: with(deb("http://h/d/", "s", "main"), func(s *Source) {
				s.Type = "deb-src"
				s.SignedBy = SignedBy{Files: []string{"/k.gpg"}, Fingerprints: []string{fingerprintA + "!"}}
			})},
		{line: `deb [signed-by="/my keys.gpg"] http://h/d s main`, // white space separates, as for apt
			err: "neither an absolute path nor a fingerprint"},
		{line: "deb [signed-by=/a#b.gpg] http://h/d s main",
			want: with(deb("http://h/d/", "s", "main"), func(s *Source) { s.SignedBy.Files = []string{"/a#b.gpg"} })},

		{line: "deb", err: "need TYPE URI SUITE"},
		{line: "deb http://h/d", err: "need TYPE URI SUITE"},
		{line: "deb http://h/d s", err: "needs a component"},
		{line: "deb http://h/d s/ main", err: "no components allowed"},
		{line: "deb h/d s main", err: "not a URI"},
		{line: "deb http:///d s main", err: "not a URI"},
		{line: "deb http://h%0a/d s main", err: "not a URI"},
		{line: "rpm http://h/d s main", err: `unknown type "rpm"`},
		{line: "deb [arch=amd64 http://h/d s main", err: "need NAME=VALUE"},
		{line: "deb [arch=amd64", err: "without ']'"},
		{line: "deb [arch] http://h/d s main", err: "need NAME=VALUE"},
		{line: "deb [signed-by=ABC] http://h/d s main", err: "neither an absolute path nor a fingerprint"},
		{line: `deb "http://h/d s main`, err: `without '"'`},
		{line: "deb mirror+file:/nowhere/list s main", err: "mirror list"},
	}
	for _, tt := range tests {
		dir := etc(t, map[string]string{"sources.list": "\n" + tt.line + "\ndeb http://last/d s main\n"})
		trust, log := load(t, dir)
		want := append(tt.want, deb("http://last/d/", "s", "main"))
		if diff := cmp.Diff(want, trust.Sources(), ignorePlace, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q: %s", tt.line, diff)
		}
		switch text := log.String(); {
		case tt.err == "" && text != "":
			t.Errorf("%q: logged %s", tt.line, text)
		case tt.err != "" && !strings.Contains(text, filepath.Join(dir, "sources.list")+":2"):
			t.Errorf("%q: file and line are missing: %s", tt.line, text)
		case !strings.Contains(strings.ReplaceAll(text, `\`, ""), tt.err):
			t.Errorf("%q: logged %s, want %q", tt.line, text, tt.err)
		}
	}
}

func TestDeb822Style(t *testing.T) {
	text := `# a comment
Types: deb deb-src
URIs: http://a.example/debian
 https://b.example/debian
Suites: stable
# a comment within
 stable-updates
Components: main contrib
Signed-By: /usr/share/keyrings/a.gpg
 /etc/apt/keyrings/b.asc abcdef0123456789abcdef0123456789abcdef01
Trusted: no

Types: deb
URIs: http://disabled.example/
Suites: ./
Enabled: no

types: deb
uris: http://flat.example
suites: ./ sub/
enabled: perhaps

Types: deb
URIs: http://broken.example/
Suites: ./
what is this

Types: deb
URIs: http://without-suites.example/

Types: deb
URIs: http://good.example/ not-a-uri
Suites: ./
 ` + `
Types: deb
URIs: http://embedded.example/
Suites: ./
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDME
 -----END PGP PUBLIC KEY BLOCK-----
`
	text = strings.Replace(text, "Suites: ./\n \nTypes", "Suites: ./\n\n \nTypes", 1)
	dir := etc(t, map[string]string{"sources.list.d/x.sources": strings.ReplaceAll(text, "\n", "\r\n")})
	trust, log := load(t, dir)
	want := []string{
		"deb http://a.example/debian/ stable 2", "deb http://a.example/debian/ stable-updates 2",
		"deb https://b.example/debian/ stable 2", "deb https://b.example/debian/ stable-updates 2",
		"deb-src http://a.example/debian/ stable 2", "deb-src http://a.example/debian/ stable-updates 2",
		"deb-src https://b.example/debian/ stable 2", "deb-src https://b.example/debian/ stable-updates 2",
		"deb http://flat.example/ ./ 18", "deb http://flat.example/ sub/ 18",
		"deb http://embedded.example/ ./ 36",
	}
	var got []string
	for _, s := range trust.Sources() {
		got = append(got, fmt.Sprintf("%s %s %s %d", s.Type, s.URI, s.Suite, s.Line))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	first, last := trust.Sources()[0], trust.Sources()[len(got)-1]
	wantFirst := Source{Type: "deb", URI: "http://a.example/debian/", Suite: "stable", Components: []string{"main", "contrib"},
		Trusted: "no", SignedBy: SignedBy{
			Files:        []string{"/usr/share/keyrings/a.gpg", "/etc/apt/keyrings/b.asc"},
			Fingerprints: []string{"ABCDEF0123456789ABCDEF0123456789ABCDEF01"}}}
	if diff := cmp.Diff(wantFirst, first, ignorePlace); diff != "" {
		t.Error(diff)
	}
	if want := "\n" + beginKey + "\n\nmDME\n" + endKey + "\n"; last.SignedBy.Key != want {
		t.Errorf("embedded key: got %q, want %q", last.SignedBy.Key, want)
	}
	for _, warning := range []string{"x.sources:26", "x.sources:28", "x.sources:31", "the key within Signed-By"} {
		if !strings.Contains(log.String(), warning) {
			t.Errorf("no warning about %s in %s", warning, log)
		}
	}
	if n := strings.Count(log.String(), "WARN"); n != 4 {
		t.Errorf("%d warnings: %s", n, log)
	}
}

func TestWhichFilesAreRead(t *testing.T) {
	line := func(host string) string { return "deb http://" + host + "/ ./\n" }
	dir := etc(t, map[string]string{
		"sources.list":                    line("main"),
		"sources.list.d/b.list":           line("b"),
		"sources.list.d/a.sources":        "Types: deb\nURIs: http://a/\nSuites: ./\n",
		"sources.list.d/c_1-2.3:x.list":   line("c"),
		"sources.list.d/d d.list":         line("d"),
		"sources.list.d/e.list.disabled":  line("e"),
		"sources.list.d/.f.list":          line("f"),
		"sources.list.d/g.list/x":         line("g"),
		"sources.list.d/h.list":           "\x00" + line("h"),
		"sources.list.d/i.list":           strings.Repeat("#\n", maxConfigFile),
		"sources.list.d/README":           line("j"),
		"sources.list.d/k.sources.dpkg-x": line("k"),
	})
	must(t, os.Symlink(os.DevNull, filepath.Join(dir, "sources.list.d", "z.list")))
	trust, log := load(t, dir)
	var got []string
	for _, s := range trust.Sources() {
		got = append(got, s.Host())
	}
	if diff := cmp.Diff([]string{"main", "a", "b", "c"}, got); diff != "" {
		t.Errorf("%s\n%s", diff, log)
	}
	for _, name := range []string{"d d.list", "h.list", "i.list", "z.list"} {
		if !strings.Contains(log.String(), name) {
			t.Errorf("no warning about %s", name)
		}
	}
}

func TestMirrorList(t *testing.T) {
	dir := etc(t, map[string]string{
		"mirrors.txt": "# ours\nhttp://one.example/debian/\tpriority:1 type:index\n\nhttps://two.example/d\nnonsense\n" +
			"mirror+file:ETC/mirrors.txt\n",
		"many.txt":     strings.Repeat("http://h.example/\n", maxMirrors+1),
		"sources.list": "deb mirror+file:ETC/mirrors.txt stable main\ndeb mirror+file:ETC/many.txt ./\n",
	})
	trust, log := load(t, dir)
	var got []string
	for _, s := range trust.Sources()[:2] {
		got = append(got, s.Base())
	}
	if diff := cmp.Diff([]string{"one.example/debian", "two.example/d"}, got); diff != "" {
		t.Error(diff)
	}
	if n := len(trust.Sources()); n != 2+maxMirrors {
		t.Errorf("%d sources", n)
	}
	for _, warning := range []string{"mirrors.txt:5", "mirrors.txt:6", "only the first 100"} {
		if !strings.Contains(log.String(), warning) {
			t.Errorf("no warning about %s in %s", warning, log)
		}
	}
}

func TestTooMuch(t *testing.T) {
	many := func(n int) string { return strings.Repeat(" http://h/", n) }
	for name, files := range map[string]map[string]string{
		"sources": {"sources.list": strings.Repeat("deb http://h/ ./\n", maxSources+1)},
		"product": {"sources.list.d/x.sources": "Types: deb\nURIs:" + strings.Repeat(" cdrom:x", 1000) + "\nSuites:" + strings.Repeat(" ./", 1000) + "\n"},
		"stanzas": {"sources.list.d/x.sources": strings.Repeat("Types: deb\nURIs:"+many(1000)+"\nSuites: ./\n\n", 20)},
		"faults":  {"sources.list": strings.Repeat("x\n", 10_000)},
		"lines":   {"sources.list.d/x.sources": "Types: deb\nURIs: http://h/\nSuites:\n" + strings.Repeat(" \n", 400_000)},
	} {
		trust, log := load(t, etc(t, files))
		if n := len(trust.Sources()); n > maxSources {
			t.Errorf("%s: %d sources", name, n)
		}
		if n := strings.Count(log.String(), "WARN"); n == 0 || n > maxFaults+1 {
			t.Errorf("%s: %d warnings", name, n)
		}
	}
}

func TestHasHost(t *testing.T) {
	trust, _ := load(t, etc(t, map[string]string{"sources.list": "deb http://A.example:80/d ./\n" +
		"deb http://127.0.0.1:8080/d ./\ndeb https://[::1]/d ./\ndeb file:/srv ./\ndeb https://b.example:80/ ./\n"}))
	for host, want := range map[string]bool{
		"a.example": true, "A.Example": true, "127.0.0.1:8080": true, "[::1]": true, "b.example:80": true,
		"127.0.0.1": false, "127.0.0.1:80": false, "b.example": false, "example": false, "": false,
	} {
		if trust.HasHost(host) != want {
			t.Errorf("HasHost(%q) is %v", host, !want)
		}
	}
}

func TestBase(t *testing.T) {
	trust, _ := load(t, etc(t, map[string]string{"sources.list.d/x.sources": "Types: deb\nSuites: ./\n" +
		"URIs: http://u:p@H.example:80/a%2bb/./c// http://h.example http://h.example/%252b\n"}))
	var got []string
	for _, s := range trust.Sources() {
		got = append(got, s.Base())
	}
	if diff := cmp.Diff([]string{"h.example/a+b/c", "h.example", "h.example/%2b"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadErrors(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := Load(Config{EtcDir: missing}); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing directory: got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, fs.ModePerm))
	if _, err := Load(Config{EtcDir: file}); err == nil {
		t.Error("a file was taken for a directory")
	}
	trust, err := Load(Config{EtcDir: t.TempDir(), KeyringDirs: []string{missing}, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	body := inRelease(t, release, nil, fastKey(t, nil).PrivateKey)
	if plain, v, err := trust.VerifyClearsigned(base, suite, body); v != Unknown || err != nil || string(plain) != release {
		t.Errorf("without any key: got %q, %v, %v", plain, v, err)
	}
}

func FuzzOneLine(f *testing.F) {
	for _, line := range []string{
		"deb http://deb.debian.org/debian bookworm main",
		"deb [ arch=amd64 signed-by=/a.gpg ] tor+http://u:p@h:80/d%20 ./ # x",
		`deb ["a=b]"] "http://h" s m`, "deb [a=b%5d]x cdrom:[x y]/ s m", "deb [=",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) { checkParsed(t, "x.list", text) })
}

func FuzzDeb822(f *testing.F) {
	for _, text := range []string{
		"Types: deb\nURIs: http://h/d\nSuites: a b/\nComponents: main\n",
		"types:deb\n \n# x\nuris: http://u@h\nsuites: ./\nSigned-By:\n " + beginKey + "\n .\n x\n",
		" x\n:\n\nTypes: deb", "Enabled: no\r\n\r\nTypes: deb deb-src\r\nURIs: file:/x cdrom:y\r\nSuites: ./",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { checkParsed(t, "x.sources", text) })
}

// checkParsed asserts what holds for every source, whatever was written.
func checkParsed(t *testing.T, name, text string) {
	if strings.Contains(text, "mirror+") {
		return // would read files
	}
	p := &parser{reader: reader{slog.New(slog.DiscardHandler)}}
	p.parse(name, []byte(text))
	lines := strings.Count(text, "\n") + 1
	for _, s := range p.sources {
		flat := strings.HasSuffix(s.Suite, "/")
		switch {
		case s.Type != "deb" && s.Type != "deb-src", s.Suite == "", flat != (len(s.Components) == 0):
			t.Fatalf("malformed source %+v", s)
		case !strings.HasSuffix(s.URI, "/"), s.host != strings.ToLower(s.host), strings.HasSuffix(s.Base(), "/"):
			t.Fatalf("not in normal form: %+v", s)
		case s.Line < 1 || s.Line > lines || s.File != name:
			t.Fatalf("wrong place: %+v", s)
		case strings.Contains(s.host, "@"):
			t.Fatalf("credentials kept: %+v", s)
		}
	}
}
