// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

func TestNameOf(t *testing.T) {
	tests := []struct{ url, want string }{
		{"http://deb.debian.org/debian/dists/sid/InRelease", "deb.debian.org/debian/dists/sid/InRelease"},
		{"https://DEB.Debian.org:443/x", "deb.debian.org/x"},
		{"http://deb.debian.org:80/x", "deb.debian.org/x"},
		{"http://h:443/x", "h:443/x"},
		{"https://h:80/x", "h:80/x"},
		{"http://h:/x", "h/x"},
		{"http://user:secret@h/x?token=1#part", "h/x"},
		{"http://[2001:db8::1]:80/x", "[2001:db8::1]/x"},
		{"HTTP://h/x", "h/x"},
		{"http://h", "h/"},
		{"http://h/pool/g++_1%2b2%7e3%3a4.deb", "h/pool/g++_1+2~3:4.deb"},
		{"http://h/a%253ab", "h/a%3ab"},
		{"http://h/a%2fb", "h/a/b"},
		{"http://h/repo/./InRelease", "h/repo/InRelease"},
		{"http://h/repo/.", "h/repo/"},
		{"http://h/a//b", "h/a//b"},
		{"http://h//b", "h//b"},
		{"http://h/...", "h/..."},
	}
	for _, tt := range tests {
		if got, err := NameOf(tt.url); got != tt.want || err != nil {
			t.Errorf("NameOf(%q) = %q, %v; want %q", tt.url, got, err, tt.want)
		}
	}
}

func TestNameOfRefuses(t *testing.T) {
	for _, url := range []string{
		"", "h/x", "/x", "http:///x", "http://:80/x", "ftp://h/x", "http:h/x",
		"http://h/a/../b", "http://h/..", "http://h/a%2f..%2fb", "http://h/%2e%2e/b",
		"http://h/a%00b", "http://h/a%0ab", "http://h/a%7fb", "http://h/a\nb", "http://h/%zz", "http://é/x",
		"http://h/" + strings.Repeat("x", 2048), "http://h" + strings.Repeat("/x", 65),
	} {
		if name, err := NameOf(url); err == nil {
			t.Errorf("NameOf(%.40q) = %q, want an error", url, name)
		}
	}
}

func TestSplitRoot(t *testing.T) {
	tests := []struct {
		name, dir string
		root      bool
	}{
		{"h/debian/dists/sid/InRelease", "h/debian/dists/sid", true},
		{"h/debian/dists/sid/Release", "h/debian/dists/sid", true},
		{"h/debian/dists/sid/Release.gpg", "h/debian/dists/sid", true},
		{"h/InRelease", "h", true},
		{"h/source/Release", "h/source", true},
		{"h/debian/dists/sid/main/binary-amd64/Release", "", false},
		{"h/debian/dists/sid/main/source/Release", "", false},
		{"h/debian/dists/sid/main/binary-amd64/Packages", "", false},
		{"/InRelease", "", false},
		{"InRelease", "", false},
	}
	for _, tt := range tests {
		dir, _, ok := splitRoot(tt.name)
		if ok != tt.root || ok && dir != tt.dir {
			t.Errorf("splitRoot(%q) = %q, %v", tt.name, dir, ok)
		}
	}
}

func TestSplitSuite(t *testing.T) {
	tests := []struct{ dir, base, suite string }{
		{"h/debian/dists/sid", "h/debian", "sid"},
		{"h/debian/dists/stable/updates", "h/debian", "stable/updates"},
		{"h/dists/sid", "h", "sid"},
		{"h/dists/x/dists/y", "h/dists/x", "y"},
		{"h/repo", "h/repo", ""},
		{"h/repo/dists", "h/repo/dists", ""},
		{"h", "h", ""},
	}
	for _, tt := range tests {
		if base, suite := splitSuite(tt.dir); base != tt.base || suite != tt.suite {
			t.Errorf("splitSuite(%q) = %q, %q", tt.dir, base, suite)
		}
	}
}

func TestByHashDigest(t *testing.T) {
	sum := sha256.Sum256([]byte("x"))
	hash := fmt.Sprintf("%x", sum)
	for _, name := range []string{"h/by-hash/SHA256/" + hash, "h/d/by-hash/SHA256/" + strings.ToUpper(hash)} {
		if got, ok := byHashDigest(name); !ok || got != sum {
			t.Errorf("byHashDigest(%q) = %x, %v", name, got, ok)
		}
	}
	for _, name := range []string{
		"", hash, "h/by-hash/SHA512/" + hash, "h/by-hash/SHA256/" + hash[1:], "h/by-hash/SHA256/g" + hash[1:],
		"h/by-hash/SHA256/" + hash + "x", "h/by-hash/SHA256/" + hash + "/x",
	} {
		if _, ok := byHashDigest(name); ok {
			t.Errorf("byHashDigest(%q) is true", name)
		}
	}
}
