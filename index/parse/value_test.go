// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"strings"
	"testing"
)

func TestCleanPath(t *testing.T) {
	longest := strings.Repeat("x", MaxPath)
	tests := []struct{ in, want string }{
		{"pool/main/h/hello.deb", "pool/main/h/hello.deb"},
		{"./hello.deb", "hello.deb"},
		{"././a/./b", "a/b"},
		{"pool//hello.deb", "pool//hello.deb"},
		{"a b/c%3a~+ä", "a b/c%3a~+ä"},
		{"..hidden/x..", "..hidden/x.."},
		{".hidden", ".hidden"},
		{longest, longest},

		{longest + "x", ""},
		{"", ""},
		{".", ""},
		{"./", ""},
		{"a/.", ""},
		{"a/", ""},
		{"/etc/passwd", ""},
		{".//etc/passwd", ""},
		{"..", ""},
		{"../a", ""},
		{"a/../b", ""},
		{"a/..", ""},
		{"a\x00b", ""},
		{"a\nb", ""},
		{"a\x7f", ""},
	}
	for _, tt := range tests {
		got, ok := cleanPath([]byte(tt.in))
		if string(got) != tt.want || ok != (tt.want != "") {
			t.Errorf("%.40q: got %.40q, %v", tt.in, got, ok)
		}
	}
}

func TestParseSize(t *testing.T) {
	tests := []struct {
		in   string
		want int64
		ok   bool
	}{
		{"0", 0, true},
		{"007", 7, true},
		{"7891488", 7891488, true},
		{"9223372036854775799", 9223372036854775799, true},
		{"9223372036854775808", 0, false},
		{"99999999999999999999", 0, false},
		{"", 0, false},
		{"-1", 0, false},
		{"+1", 0, false},
		{"1k", 0, false},
		{" 1", 0, false},
	}
	for _, tt := range tests {
		got, ok := parseSize([]byte(tt.in))
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%q: got %d, %v", tt.in, got, ok)
		}
	}
}

func TestFormatOf(t *testing.T) {
	tests := map[string]Format{
		"dists/sid/InRelease":                            FormatRelease,
		"Release":                                        FormatRelease,
		"main/binary-amd64/Packages":                     FormatPackages,
		"main/binary-amd64/Packages.xz":                  FormatPackages,
		"Packages.lz4":                                   FormatPackages,
		"main/source/Sources.zst":                        FormatSources,
		"main/binary-amd64/Packages.diff/Index":          FormatPdiffIndex,
		"main/i18n/Translation-de.diff/Index.gz":         FormatPdiffIndex,
		"main/installer-amd64/current/images/SHA256SUMS": FormatSHA256SUMS,
		"Index":             0,
		"dep11/Index":       0,
		"Release.gpg":       0,
		"Packages.html":     0,
		"Contents-amd64.gz": 0,
		"pool/main/h/hello/hello_2.10-3_amd64.deb":      0,
		"main/binary-amd64/by-hash/SHA256/" + hashA:     0,
		"main/binary-amd64/Packages.diff/2025-05-10.gz": 0,
		"": 0,
	}
	for file, want := range tests {
		if got, ok := FormatOf(file); got != want || ok != (want != 0) {
			t.Errorf("%q: got %v, %v, want %v", file, got, ok, want)
		}
	}
}
