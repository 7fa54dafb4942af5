// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]target{
		"http://deb.debian.org/debian/dists/x/InRelease": {false, "deb.debian.org", "80", "http://deb.debian.org/debian/dists/x/InRelease", false},
		"https://Download.Example.:8443/a%2bb?c#d":       {true, "download.example", "8443", "https://download.example:8443/a%2bb?c", false},
		"http://user:secret@mirror.example/":             {false, "mirror.example", "80", "http://mirror.example/", true},
		"http://[fe80::1%25eth0]/x":                      {false, "fe80::1%eth0", "80", "http://[fe80::1%25eth0]/x", false},
		"http://[::ffff:127.0.0.1]/":                     {false, "127.0.0.1", "80", "http://127.0.0.1/", false},
		"http://bücher.example/":                         {false, "xn--bcher-kva.example", "80", "http://xn--bcher-kva.example/", false},
		"http://my_mirror/":                              {false, "my_mirror", "80", "http://my_mirror/", false},
	} {
		got, err := parseTarget(text)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "DIRECT", "ftp://a/b", "file:///a", "http:", "http://", "http:///x", "//host/x", "http://a b/", "http://a\r\nX: y/",
		"http://a%20b/", "http://a;b/", "http://host:port/", "http://[::1/", "mirror+http://a/", "http://\x00/", "cdrom:[x]/",
	} {
		if got, err := parseTarget(text); err == nil {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

// FuzzParseTarget: what comes of a URL can stand in a request's line and fields.
func FuzzParseTarget(f *testing.F) {
	f.Add("http://deb.debian.org/debian/dists/bookworm/InRelease")
	f.Add("https://u:p@[fe80::1%25eth0]:8443/%0d%0a?x y#z")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseTarget(text)
		if err != nil {
			return
		}
		for _, part := range []string{got.url, got.authority()} {
			if part == "" || strings.ContainsFunc(part, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
				t.Errorf("%q gives %q", text, part)
			}
		}
		if strings.Contains(got.url, "@") && !strings.Contains(got.url[strings.Index(got.url, "://")+3:], "/") {
			t.Errorf("%q gives %q, which has credentials", text, got.url)
		}
	})
}

func TestReach(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	text := "127.0.0.1 localhost\n127.0.1.1\tthis-host.example this-host # a comment other.example\n" +
		"10.0.0.5 Mirror.Office.Example\nnonsense bad.example\n0.0.0.0 blocked.example\n" + strings.Repeat("x", 100000) + " long.example\n"
	if err := os.WriteFile(hosts, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]reach{
		"http://localhost/":              throughNone,
		"http://repo.localhost:8080/":    throughNone,
		"http://127.0.0.1:9977/deb/":     throughNone,
		"http://127.3.4.5/":              throughNone,
		"http://[::1]/":                  throughNone,
		"http://0.0.0.0/":                throughNone,
		"https://this-host/":             throughNone,
		"http://THIS-HOST.example./":     throughNone,
		"http://blocked.example/":        throughNone,
		"http://mirror.office.example/":  throughOwn,
		"http://10.9.9.9/":               throughOwn,
		"http://[fd00::1]/":              throughOwn,
		"http://169.254.169.254/":        throughOwn,
		"http://user:pw@deb.example/":    throughOwn,
		"http://other.example/":          throughAny,
		"http://bad.example/":            throughAny,
		"http://deb.debian.org/":         throughAny,
		"https://192.0.2.1/":             throughAny,
		"http://office.example/":         throughAny,
		"http://notlocalhost/":           throughAny,
		"http://localhost.example:3142/": throughAny,
	} {
		parsed, err := parseTarget(url)
		if err != nil {
			t.Fatal(err)
		}
		if got := parsed.reach(hosts); got != want {
			t.Errorf("%s: %d, want %d", url, got, want)
		}
	}
	parsed, _ := parseTarget("http://this-host/")
	if got := parsed.reach(hosts + ".missing"); got != throughAny {
		t.Errorf("without a hosts file: %d", got)
	}
}
