// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const releaseText = `Origin: Debian
Label: Debian-Security
Suite: stable-security
Version: 13
Codename: trixie-security
Date: Sat, 10 May 2025 09:10:11 UTC
Valid-Until: Sat, 17 May 2025 09:10:11 UTC
Acquire-By-Hash: yes
Architectures: all amd64
 arm64
Components: main contrib
Description: Debian 13 - Security Updates
MD5Sum:
 11111111111111111111111111111111       12 main/binary-amd64/Packages
 22222222222222222222222222222222        7 main/binary-amd64/Packages.xz
SHA256:
 3333333333333333333333333333333333333333333333333333333333333333 12 main/binary-amd64/Packages
 4444444444444444444444444444444444444444444444444444444444444444 9 ./main/source/Sources.gz

SHA256:
 5555555555555555555555555555555555555555555555555555555555555555 5 after/the/stanza
`

func TestReadRelease(t *testing.T) {
	hash := func(digit string, size int) []byte { return bytes.Repeat([]byte{digit[0] & 0xf * 0x11}, size) }
	want := &Release{
		Origin: "Debian", Label: "Debian-Security", Suite: "stable-security", Codename: "trixie-security", Version: "13",
		Date:          time.Date(2025, 5, 10, 9, 10, 11, 0, time.UTC),
		ValidUntil:    time.Date(2025, 5, 17, 9, 10, 11, 0, time.UTC),
		AcquireByHash: true,
		Architectures: []string{"all", "amd64", "arm64"},
		Components:    []string{"main", "contrib"},
		Files: []ReleaseFile{
			{Path: "main/binary-amd64/Packages", Size: 12, MD5: hash("1", 16), SHA256: hash("3", 32)},
			{Path: "main/binary-amd64/Packages.xz", Size: 7, MD5: hash("2", 16)},
			{Path: "main/source/Sources.gz", Size: 9, SHA256: hash("4", 32)},
		},
	}
	for form, text := range map[string]string{
		"as is":           releaseText,
		"CRLF":            strings.ReplaceAll(releaseText, "\n", "\r\n"),
		"lower case":      strings.NewReplacer("MD5Sum:", "md5sum:", "SHA256:", "sha256:", "Date:", "date:").Replace(releaseText),
		"comments":        "# made by hand\n" + strings.ReplaceAll(releaseText, "\nSHA256:", "\n#x\nSHA256:"),
		"leading newline": "\n" + releaseText,
	} {
		got, err := ReadRelease(iotest.HalfReader(strings.NewReader(text)))
		if err != nil {
			t.Errorf("%s: %v", form, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", form, diff)
		}
	}
}

func TestReadReleaseAllHashes(t *testing.T) {
	var text strings.Builder
	for name, s := range sections {
		fmt.Fprintf(&text, "%s:\n %s 1 Packages\n", name, strings.Repeat("ab", s.size))
	}
	rel, err := ReadRelease(strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	ab := func(n int) []byte { return bytes.Repeat([]byte{0xab}, n) }
	want := []ReleaseFile{{Path: "Packages", Size: 1, MD5: ab(16), SHA1: ab(20), SHA256: ab(32), SHA512: ab(64)}}
	if diff := cmp.Diff(want, rel.Files); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestReadReleaseSkips(t *testing.T) {
	text := "SHA256:\n " + hashA + " 1 a\n " + hashA + " 1 ../b\n " + hashA[2:] + " 1 c\n " + hashA + " x d\n " + hashB + " 2 a\nfie\n"
	rel, err := ReadRelease(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if rel.Skipped != 4 || len(rel.Files) != 1 || rel.Files[0].Size != 2 || rel.Files[0].SHA256[0] != 0xbb {
		t.Errorf("got %+v, want the later line for a, and 4 skipped", rel)
	}
}

func TestReadReleaseErrors(t *testing.T) {
	tests := map[string]struct{ input, want string }{
		"empty":          {"", "no list of checksums"},
		"no list":        {"Origin: x\nSuite: y\n", "no list of checksums"},
		"HTML":           {"<html>\n<title>Welcome: log in</title>\n", `line 1 is "<html>"`},
		"armour":         {"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSHA256:\n", "line 1 is"},
		"overlong line":  {"SHA256:\n " + hashA + " 1 " + strings.Repeat("x", maxLine), "line 2 is longer"},
		"overlong field": {"Architectures:\n" + strings.Repeat(" "+strings.Repeat("a", 1000)+"\n", 20), "makes a field longer"},
	}
	for name, tt := range tests {
		if rel, err := ReadRelease(strings.NewReader(tt.input)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %+v and error %v, want %q", name, rel, err, tt.want)
		}
	}
}

func TestReadReleaseTooManyFiles(t *testing.T) {
	var text strings.Builder
	text.WriteString("SHA256:\n")
	for i := range maxReleaseFiles + 1 {
		fmt.Fprintf(&text, " %s 1 f%d\n", hashA, i)
	}
	if _, err := ReadRelease(strings.NewReader(text.String())); err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxReleaseFiles)) {
		t.Errorf("got %v, want the limit's error", err)
	}
}

func TestParseDate(t *testing.T) {
	want := time.Date(2025, 5, 3, 9, 1, 2, 0, time.UTC)
	for _, s := range []string{
		"Sat, 03 May 2025 09:01:02 UTC",
		"Sat, 03 May 2025 09:01:02 GMT",
		"Sat, 03 May 2025 09:01:02 Z",
		"Sat, 03 May 2025 09:01:02 +0000",
		"Sat, 03 May 2025 09:01:02 -0000",
		"Sat, 03 May 2025 11:01:02 +0200",
		"Sat, 03 May 2025 09:01:02 +0000 (UTC)",
		"Sat, 03 May 2025 09:01:02",
		"Sat, 3 May 2025 9:01:02 UTC",
		"Sat,  3 May 2025  9:01:02 UTC",
		"3 May 2025 09:01:02 UTC",
		"Saturday, 03-May-25 09:01:02 GMT",
		"Sat May  3 09:01:02 2025",
		"Sat May  3 09:01:02 UTC 2025",
		"2025-05-03T09:01:02Z",
		"2025-05-03T11:01:02+02:00",
		"2025-05-03 09:01:02 UTC",
	} {
		if got := parseDate(s); got != want {
			t.Errorf("%q: got %v", s, got)
		}
	}
	for _, s := range []string{"", "soon", "Sat, 03 May 2025 09:01:02 CEST", "Sat, 32 May 2025 09:01:02 UTC", "UTC"} {
		if got := parseDate(s); !got.IsZero() {
			t.Errorf("%q: got %v, want zero", s, got)
		}
	}
}

func TestIsTrue(t *testing.T) {
	for word, want := range map[string]bool{"yes": true, "Yes": true, "true": true, "1": true, "no": false, "": false, "force": false} {
		if isTrue(word) != want {
			t.Errorf("%q: want %v", word, want)
		}
	}
}
