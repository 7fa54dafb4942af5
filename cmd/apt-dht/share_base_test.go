// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBaseURI(t *testing.T) {
	for text, want := range map[string]string{
		"http://deb.example/debian/":    "http://deb.example/debian/pool/a+b_1%3a2.deb",
		"https://deb.example":           "https://deb.example/pool/a+b_1%3a2.deb",
		"http://[fd00::7]:8080/a%20b/":  "http://[fd00::7]:8080/a%20b/pool/a+b_1%3a2.deb",
		"http://127.0.0.1/x//":          "http://127.0.0.1/x/pool/a+b_1%3a2.deb",
		"http://deb.example/debian?a=b": "", "http://deb.example/#a": "", "http://": "", "deb.example": "", "": "",
		"http://me@deb.example/": "", "file:///srv/debian": "", "http://a b/": "",
	} {
		var b baseURI
		err := b.UnmarshalText([]byte(text))
		if (err != nil) != (want == "") {
			t.Errorf("%q: %v", text, err)
		}
		if err == nil && !strings.HasSuffix(b.of("a%3ab"), "/a%253ab") {
			t.Errorf("%q: the name of a file is taken for %s", text, b.of("a%3ab"))
		}
		if err == nil && strings.ReplaceAll(b.of("pool/a+b_1:2.deb"), ":2.deb", "%3a2.deb") != want {
			t.Errorf("%q: got %s, want %s", text, b.of("pool/a+b_1:2.deb"), want)
		}
	}
}

// tree makes files with their own names as content; those that begin with "-" are
// for their owner alone, and with "=" empty.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		mode := os.FileMode(0o644)
		if rest, ok := strings.CutPrefix(name, "-"); ok {
			name, mode = rest, 0o600
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		body := name + "\n"
		if name[0] == '=' {
			body = ""
		}
		if err := os.WriteFile(path, []byte(body), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindSample(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  string
	}{
		{[]string{"pool/a.deb", "dists/x/main/binary-amd64/Release", "dists/x/InRelease", "dists/x/Release"}, "dists/x/InRelease"},
		{[]string{"dists/x/main/binary-amd64/Release", "dists/x/Release", "pool/a.deb"}, "dists/x/Release"},
		{[]string{"-InRelease", "larger.deb", "a.deb", ".hidden/InRelease"}, "a.deb"},
		{[]string{"Release"}, "Release"},
		{[]string{"=empty", "z.deb"}, "z.deb"},
		{[]string{"-a", ".hidden/b"}, ""},
		{nil, ""},
	} {
		got, err := findSample(t.Context(), tree(t, tt.names...))
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%v: got %q, %v; want %q", tt.names, got, err, tt.want)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(tree(t, "Release"), link); err != nil {
		t.Fatal(err)
	}
	if got, err := findSample(t.Context(), link); got != "Release" {
		t.Errorf("by a link: got %q, %v", got, err)
	}
}

// told runs tellUsers for a directory that a server at url is to serve, and
// returns its log and what users are told.
func told(t *testing.T, dir, url string, private bool) (log, users string) {
	t.Helper()
	cfg := shareConfig{Dir: dir, Internet: internetConfig{Private: private}}
	if err := cfg.Base.UnmarshalText([]byte(url)); err != nil {
		t.Fatal(err)
	}
	var logged, out bytes.Buffer
	if err := tellUsers(t.Context(), cfg, slog.New(slog.NewTextHandler(&logged, nil)), &out); err != nil {
		t.Fatal(err)
	}
	return logged.String(), out.String()
}

func TestTellUsers(t *testing.T) {
	dir := tree(t, "dists/stable/updates/InRelease", "pool/a.deb")
	release := "Origin: x\nComponents: main contrib\n"
	if err := os.WriteFile(filepath.Join(dir, "dists/stable/updates/InRelease"), []byte(release), 0o644); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.StripPrefix("/debian", http.FileServer(http.Dir(dir))))
	defer server.Close()

	log, users := told(t, dir, server.URL+"/debian/", true)
	if !strings.HasPrefix(users, "In your users' sources.list:\n") {
		t.Errorf("users are told %s", users)
	}
	if !strings.Contains(log, "--base-uri serves this directory") || strings.Contains(log, "WARN") {
		t.Errorf("the log is %s", log)
	}
	for _, want := range []string{"deb " + server.URL + "/debian stable/updates main contrib\n", "Acquire::http::Proxy", "--dht-private"} {
		if !strings.Contains(users, want) {
			t.Errorf("users are not told %q: %s", want, users)
		}
	}
	if log, _ := told(t, dir, server.URL+"/debian", false); !strings.Contains(log, "private address") {
		t.Errorf("a private address is not told of: %s", log)
	}
	log, users = told(t, dir, server.URL, true)
	if !strings.Contains(log, "404 Not Found, though") || !strings.HasPrefix(users, "Once that URL serves this directory, in your users' sources.list:\n") {
		t.Errorf("a wrong directory is not noticed: %s%s", log, users)
	}
	if _, users := told(t, filepath.Join(dir, "pool"), server.URL+"/debian/pool", true); !strings.HasPrefix(users, "There is no InRelease file here: the sources line is the one that your users have.\n") {
		t.Errorf("without a Release file: %s", users)
	}
}

func TestCompareAt(t *testing.T) {
	here := tree(t, "InRelease", "large")
	if err := os.Truncate(filepath.Join(here, "large"), maxCompared+1); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		file string
		body func(http.ResponseWriter)
		want string
	}{
		"the same":         {"InRelease", func(w http.ResponseWriter) { w.Write([]byte("InRelease\n")) }, ""},
		"other bytes":      {"InRelease", func(w http.ResponseWriter) { w.Write([]byte("inrelease\n")) }, "has other bytes than InRelease"},
		"another size":     {"InRelease", func(w http.ResponseWriter) { w.Write([]byte("x")) }, "has 1 bytes, InRelease here has 10"},
		"a size by itself": {"large", func(w http.ResponseWriter) { w.Header().Set("Content-Length", "4194305") }, ""},
		"a wrong one":      {"large", func(w http.ResponseWriter) { w.Header().Set("Content-Length", "7") }, "has 7 bytes"},
		"an error":         {"large", func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }, "403 Forbidden"},
		"not here":         {"none", func(http.ResponseWriter) {}, "no such file"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tt.body(w) }))
		err := compareAt(t.Context(), here, tt.file, server.URL)
		server.Close()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func TestSourcesLine(t *testing.T) {
	dir := tree(t, "InRelease", "sub/Release", "dists/x/Release", "debian/dists/y/InRelease", "a.deb")
	for rel, want := range map[string]string{
		"InRelease":                "deb URL ./",
		"sub/Release":              "deb URL sub/",
		"dists/x/Release":          "deb URL x main",
		"debian/dists/y/InRelease": "deb URL/debian y main",
		"a.deb":                    "",
	} {
		if got, ok := sourcesLine(dir, rel, "URL"); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, want %q", rel, got, want)
		}
	}
}
