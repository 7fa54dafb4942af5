// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"apt-dht/proxy"
)

func TestMeaning(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hello_1_all.deb")
	if err := os.WriteFile(file, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hash := strings.Repeat("aB", 32)
	for what, want := range map[string]string{
		hash:                   "sha256=" + strings.ToLower(hash),
		"http://a/b?c=d&e":     "url=http%3A%2F%2Fa%2Fb%3Fc%3Dd%26e",
		"HTTPS://a/b%2b_1.deb": "url=HTTPS%3A%2F%2Fa%2Fb%252b_1.deb",
		file:                   "sha256=5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
	} {
		got, err := meaning(t.Context(), what)
		if err != nil || got.Encode() != want {
			t.Errorf("%s: got %s, %v; want %s", what, got.Encode(), err, want)
		}
	}
	for _, what := range []string{"", hash[1:], hash + "00", "ftp://a/b", "/nowhere", file + "/", "a_b_c.deb\n"} {
		if got, err := meaning(t.Context(), what); err == nil {
			t.Errorf("%q: got %v", what, got)
		}
	}
}

// A pipe is not waited for, and a file that cannot be read in time not for ever.
func TestHashFileEnds(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hashFile(t.Context(), pipe); err == nil {
		t.Error("a pipe was hashed")
	}
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<40); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := hashFile(ctx, large); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestPackageFile(t *testing.T) {
	for name, want := range map[string][]string{
		"hello_2.10-3_amd64.deb":                   {"hello", "2.10-3", "amd64"},
		"libstdc++6_12.2.0-14+deb12u1_arm64.deb":   {"libstdc++6", "12.2.0-14+deb12u1", "arm64"},
		"a.b_1%3a2~rc1_all.udeb":                   {"a.b", "1%3a2~rc1", "all"},
		"x32_1_kfreebsd-amd64.deb":                 {"x32", "1", "kfreebsd-amd64"},
		"-oDir::State=_1_all.deb":                  nil,
		"hello_1.deb":                              nil,
		"pool/hello_1_all.deb":                     nil,
		"hello_1_all.deb.asc":                      nil,
		"hello_2.10-3_amd64.deb --help":            nil,
		"hello world_1_all.deb":                    nil,
		"hello_1;rm_all.deb":                       nil,
		"h_1_all.deb":                              nil,
		"longer-name_1_hurd-i386.deb":              {"longer-name", "1", "hurd-i386"},
		"0ad_0.0.26-3_amd64.deb":                   {"0ad", "0.0.26-3", "amd64"},
		"google-chrome_123.0.6312.58-1_amd64.deb ": nil,
	} {
		var got []string
		if parts := packageFile.FindStringSubmatch(name); parts != nil {
			got = parts[1:]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestHashesOf(t *testing.T) {
	records := "Package: e\nVersion: 2:1.0\nArchitecture: all\nFilename: ./pool/e/e_1.0_all.deb\nSHA256: " + strings.Repeat("1", 64) +
		"\n\nPackage: e\nVersion: 1.0\nArchitecture: all\nFilename: pool/x/other.deb\nSHA256: " + strings.Repeat("2", 64) +
		"\n\nPackage: f\nVersion: 1\nArchitecture: all\nFilename: f_1_all.deb\nSHA256: short\n"
	for name, want := range map[string]string{
		"e_1.0_all.deb":     "1 2", // by its file, and by its version
		"e_2%3a1.0_all.deb": "1",
		"e_2%3A1.0_all.deb": "1",
		"other.deb":         "2",
		"f_1_all.deb":       "",
		"e_3_all.deb":       "",
	} {
		var got []string
		for _, h := range hashesOf(strings.NewReader(records), name) {
			got = append(got, h[:1])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestLimited(t *testing.T) {
	var b bytes.Buffer
	l := &limited{&b, 5}
	for range 3 {
		if n, err := l.Write([]byte("abc")); n != 3 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	}
	if b.String() != "abcab" {
		t.Errorf("kept %q", b.String())
	}
}

func TestPrintFound(t *testing.T) {
	hash := strings.Repeat("0", 64)
	for _, tt := range []struct {
		found proxy.Found
		want  string
	}{
		{proxy.Found{Why: "nobody knows", Size: -1}, "x.deb: its SHA-256 is not known: nobody knows\n"},
		{proxy.Found{SHA256: hash, Size: -1, LAN: "not asked", Internet: "0 have it"}, "SHA-256   " + hash + "\nLAN       not asked\ninternet  0 have it\n"},
		{proxy.Found{SHA256: hash, Size: -1, Private: true, LAN: "0 have it", Internet: "1 has it", Places: []proxy.FoundPlace{
			{Where: "wan", Addr: netip.MustParseAddrPort("10.0.0.7:9978"), AfterMS: 5, Used: true},
		}}, "SHA-256   " + hash + "\nLAN       0 have it\nDHT       1 has it\n\n" +
			"WHERE  ADDRESS        FOUND AFTER  USED\n" +
			"DHT    10.0.0.7:9978  5 ms         yes\n"},
		{proxy.Found{SHA256: hash, Size: 1234, LAN: "1 has it", Internet: "1 has it", Places: []proxy.FoundPlace{
			{Where: "store", Used: true},
			{Where: "wan", Addr: netip.MustParseAddrPort("[2001:db8::1]:9978"), AfterMS: 412, Note: "not needed: this node has it"},
		}}, "SHA-256   " + hash + ", 1.2 kB\nLAN       1 has it\ninternet  1 has it\n\n" +
			"WHERE      ADDRESS             FOUND AFTER  USED\n" +
			"this node  -                   0 ms         yes\n" +
			"internet   [2001:db8::1]:9978  412 ms       no, not needed: this node has it\n"},
	} {
		var out bytes.Buffer
		if err := printFound(&out, "x.deb", &tt.found); err != nil || out.String() != tt.want {
			t.Errorf("got %v\n%s\nwant\n%s", err, &out, tt.want)
		}
	}
}
