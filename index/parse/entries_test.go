// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// Hashes to be told apart at a glance: one byte, 32 times over.
var (
	hashA = strings.Repeat("aa", 32)
	hashB = strings.Repeat("bb", 32)
	hashC = strings.Repeat("cc", 32)
)

type reader func(io.Reader, Emit) (Summary, error)

// result is what a reader made of its input: each entry as "path size xx",
// where xx is the first byte of its hash.
type result struct {
	Entries []string
	Skipped int
	Err     string
}

func run(read reader, r io.Reader) result {
	var got result
	sum, err := read(r, func(path []byte, size int64, d Digest) error {
		got.Entries = append(got.Entries, fmt.Sprintf("%s %d %x", path, size, d[0]))
		return nil
	})
	got.Skipped = sum.Skipped
	if err != nil {
		got.Err = err.Error()
	}
	return got
}

type readerTest struct {
	name, input string
	want        result
}

// testReader runs each test as it is, in one-byte reads and with CRLF.
func testReader(t *testing.T, read reader, tests []readerTest) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			crlf := strings.ReplaceAll(tt.input, "\n", "\r\n")
			for form, r := range map[string]io.Reader{
				"as is":          strings.NewReader(tt.input),
				"one byte reads": iotest.OneByteReader(strings.NewReader(tt.input)),
				"CRLF":           strings.NewReader(crlf),
			} {
				if diff := cmp.Diff(tt.want, run(read, r)); diff != "" {
					t.Errorf("%s: -want +got\n%s", form, diff)
				}
			}
		})
	}
}

func TestReadPackages(t *testing.T) {
	stanza := func(fields string) string {
		return "Package: x\n" + fields + "Description: an x\n of two lines\n\n"
	}
	good := stanza("Filename: pool/x.deb\nSize: 9\nSHA256: " + hashA + "\n")
	only := []string{"pool/x.deb 9 aa"}
	skipped := result{Entries: only, Skipped: 1}

	testReader(t, ReadPackages, []readerTest{
		{"empty", "", result{}},
		{"blank lines alone", "\n\n\n", result{}},
		{"two packages", `Package: 0ad
Version: 0.0.26-3
Depends: 0ad-data (>= 0.0.26),
 0ad-data-common
Filename: pool/main/0/0ad/0ad_0.0.26-3_amd64.deb
Size: 7891488
MD5sum: 4d471183a39a3a11d00cd35bf9f6803d
SHA256: ` + hashA + `


# a comment
Package: g++
Filename: ./g%2b%2b_1%3a12.2.0-3_amd64.deb
Size: 1356
SHA256: ` + strings.ToUpper(hashB), result{Entries: []string{
			"pool/main/0/0ad/0ad_0.0.26-3_amd64.deb 7891488 aa",
			"g%2b%2b_1%3a12.2.0-3_amd64.deb 1356 bb",
		}}},
		{"names in any case", "PACKAGE: x\nFILENAME:pool/x.deb\nsize :\t9 \nsha256:" + hashA, result{Entries: only}},
		{"no size", "Filename: a\nSHA256: " + hashA, result{Entries: []string{"a -1 aa"}}},
		{"the last of a field counts", "Filename: a\nFilename: b\nSHA256: " + hashA + "\nSHA256: " + hashB, result{Entries: []string{"b -1 bb"}}},
		{"a line of blanks does not end a stanza", "Filename: a\nDescription: b\n \nSHA256: " + hashA, result{Entries: []string{"a -1 aa"}}},
		{"no file", good + stanza(""), skipped},
		{"no hash", good + stanza("Filename: y\nSize: 1\n"), skipped},
		{"no path", stanza("SHA256: "+hashA+"\n") + good, skipped},
		{"short hash", stanza("Filename: y\nSHA256: aabb\n") + good, skipped},
		{"bad digit", stanza("Filename: y\nSHA256: "+hashA[1:]+"g\n") + good, skipped},
		{"negative size", stanza("Filename: y\nSize: -1\nSHA256: "+hashB+"\n") + good, skipped},
		{"overflowing size", stanza("Filename: y\nSize: 9223372036854775808\nSHA256: "+hashB+"\n") + good, skipped},
		{"climbing path", stanza("Filename: pool/../../etc/passwd\nSHA256: "+hashB+"\n") + good, skipped},
		{"folded path", stanza("Filename: y\n z\nSHA256: "+hashB+"\n") + good, skipped},
		{"line without colon", good + stanza("Filename: y\nSHA256: "+hashB+"\nfie\n"), skipped},
		{"no deb822", "<!DOCTYPE html PUBLIC \"-//W3C//DTD: XHTML\">\n", result{
			Err: `not a file of fields (deb822): line 1 is "<!DOCTYPE html PUBLIC \"-//W3C//DTD: XHTM"`}},
		{"begins with a continuation", "\n x: y\n", result{
			Err: `not a file of fields (deb822): line 2 is " x: y"`}},
	})
}

func TestReadSources(t *testing.T) {
	testReader(t, ReadSources, []readerTest{
		{"directory last", `Package: hello
Files:
 e5a3f6b4d0f2a1d6c1c9a5f3c2b1a099 1706 hello_2.10-3.dsc
Checksums-Sha256:
 ` + hashA + ` 1706 hello_2.10-3.dsc
 ` + hashB + ` 725946 hello_2.10.orig.tar.gz
Package-List:
 hello deb devel optional arch=any
Directory: pool/main/h/hello

Package: flat
Directory: .
checksums-sha256:
 ` + hashC + `   7 flat_1.dsc
`, result{Entries: []string{
			"pool/main/h/hello/hello_2.10-3.dsc 1706 aa",
			"pool/main/h/hello/hello_2.10.orig.tar.gz 725946 bb",
			"flat_1.dsc 7 cc",
		}}},
		{"no directory", "Checksums-Sha256: \n " + hashA + " 1 a", result{Entries: []string{"a 1 aa"}}},
		{"directory ends in a slash", "Directory: d/\nChecksums-Sha256: \n " + hashA + " 1 a", result{Entries: []string{"d/a 1 aa"}}},
		{"on the field's own line", "Checksums-Sha256: " + hashA + " 1 a", result{Entries: []string{"a 1 aa"}}},
		{"a directory is not the next stanza's", "Directory: d\nChecksums-Sha256:\n " + hashA + " 1 a\n\nChecksums-Sha256:\n " + hashB + " 2 b",
			result{Entries: []string{"d/a 1 aa", "b 2 bb"}}},
		{"bad lines", `Directory: d
Checksums-Sha256:
 ` + hashA + ` 1 a
 ` + hashA + ` -1 b
 ` + hashA + ` 1
 ` + hashA + ` 1 two words
 ffff 1 c
 ` + hashB + ` 2 ../../b
 ` + hashC + ` 3 c`, result{Entries: []string{"d/a 1 aa", "d/c 3 cc"}, Skipped: 5}},
		{"no checksums", "Directory: d\n\nDirectory: e\nChecksums-Sha256:\n " + hashA + " 1 a", result{Entries: []string{"e/a 1 aa"}, Skipped: 1}},
		{"absolute directory", "Directory: /etc\nChecksums-Sha256:\n " + hashA + " 1 passwd", result{Skipped: 1}},
		{"folded directory", "Directory: d\n e\nChecksums-Sha256:\n " + hashA + " 1 a", result{Skipped: 1}},
		{"line without colon", "Directory: d\nfie\nChecksums-Sha256:\n " + hashA + " 1 a", result{Skipped: 1}},
		{"too many files", "Checksums-Sha256:\n" + strings.Repeat(" "+hashA+" 1 a\n", maxStanzaFiles+1), result{Skipped: 1}},
		{"no deb822", "\x1f\x8b\x08\n", result{Err: `not a file of fields (deb822): line 1 is "\x1f\x8b\b"`}},
	})
}

func TestReadPdiffIndex(t *testing.T) {
	testReader(t, ReadPdiffIndex, []readerTest{
		{"merged patches", `SHA256-Current: ` + hashC + ` 64988655
SHA256-History:
 ` + hashC + ` 64851791 T-2025-05-11-0800.00-F-2025-05-10-0800.00
SHA256-Patches:
 ` + hashC + ` 3142 T-2025-05-11-0800.00-F-2025-05-10-0800.00
SHA1-Download:
 ` + hashC[:40] + ` 1180 T-2025-05-11-0800.00-F-2025-05-10-0800.00.gz
SHA256-Download:
 ` + hashA + ` 1180 T-2025-05-11-0800.00-F-2025-05-10-0800.00.gz
X-Unmerged-SHA256-Download:
 ` + hashB + `    214 2025-05-10-0800.00.gz
X-Patch-Precedence: merged
`, result{Entries: []string{"T-2025-05-11-0800.00-F-2025-05-10-0800.00.gz 1180 aa", "2025-05-10-0800.00.gz 214 bb"}}},
		{"without hashes of the downloads", "SHA256-Patches:\n " + hashA + " 12 2025-05-10-0800.00\n", result{}},
		{"bad lines", "SHA256-Download:\n " + hashA + " x p.gz\n " + hashA + " 1 /p.gz\nfie\n " + hashB + " 1 q.gz\n",
			result{Entries: []string{"q.gz 1 bb"}, Skipped: 3}},
		{"no deb822", "<html>", result{Err: `not a file of fields (deb822): line 1 is "<html>"`}},
	})
}

func TestReadSHA256SUMS(t *testing.T) {
	testReader(t, ReadSHA256SUMS, []readerTest{
		{"empty", "", result{}},
		{"text and binary", hashA + "  ./netboot/mini.iso\n" + hashB + " *ubuntu-24.04-desktop-amd64.iso\n\n# comment\n" + hashC + "  a b",
			result{Entries: []string{"netboot/mini.iso -1 aa", "ubuntu-24.04-desktop-amd64.iso -1 bb", "a b -1 cc"}}},
		{"bad lines", hashA + "\n" + hashA + "  \n" + hashA + "xx\n\\" + hashA + "  a\\nb\n" + hashA[2:] + "  c\n" + hashA + "  ../d\n" + hashB + "  e\n",
			result{Entries: []string{"e -1 bb"}, Skipped: 6}},
		{"another file", "<html>\n<body>\n", result{Skipped: 2, Err: "not a SHA256SUMS file: none of 2 lines is a checksum"}},
	})
}

// TestOverlongLine puts a line over the limit into fields that matter and into
// those that do not.
func TestOverlongLine(t *testing.T) {
	long := strings.Repeat("x", maxLine+1)
	entry := []string{"a 1 aa"}
	tooLong := func(line int) string { return fmt.Sprintf("line %d is longer than %d bytes", line, maxLine) }
	tests := []struct {
		name  string
		read  reader
		input string
		want  result
	}{
		{"description", ReadPackages, "Description: " + long + "\n " + long + "\nFilename: a\nSize: 1\nSHA256: " + hashA, result{Entries: entry}},
		{"comment", ReadPackages, "#" + long + "\nFilename: a\nSize: 1\nSHA256: " + hashA, result{Entries: entry}},
		{"filename", ReadPackages, "Package: a\nFilename: " + long, result{Err: tooLong(2)}},
		{"hash", ReadPackages, "SHA256: " + long, result{Err: tooLong(1)}},
		{"size", ReadPackages, "Size: " + long, result{Err: tooLong(1)}},
		{"binary", ReadSources, "Binary: " + long + "\nChecksums-Sha256:\n " + hashA + " 1 a", result{Entries: entry}},
		{"directory", ReadSources, "Directory: " + long, result{Err: tooLong(1)}},
		{"source file", ReadSources, "Checksums-Sha256:\n " + hashA + " 1 " + long, result{Skipped: 0, Err: tooLong(2)}},
		{"patch", ReadPdiffIndex, "SHA256-Download:\n " + hashA + " 1 " + long, result{Err: tooLong(2)}},
		{"sum", ReadSHA256SUMS, hashA + "  " + long, result{Err: tooLong(1)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, run(tt.read, strings.NewReader(tt.input))); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestBigLine has lines just at and around the sizes at which they are copied.
func TestBigLine(t *testing.T) {
	for _, n := range []int{lineBuffer - 1, lineBuffer, lineBuffer + 1, 3 * lineBuffer, maxLine} {
		pad := strings.Repeat(" ", n-len("Filename:a\n"))
		got := run(ReadPackages, strings.NewReader("Filename:"+pad+"a\nSize: 1\nSHA256: "+hashA))
		if diff := cmp.Diff(result{Entries: []string{"a 1 aa"}}, got); diff != "" {
			t.Errorf("line of %d bytes: -want +got\n%s", n, diff)
		}
	}
}

func TestTooManyEntries(t *testing.T) {
	out := sink{Summary: Summary{Entries: maxEntries - 1}, emit: func([]byte, int64, Digest) error { return nil }}
	if err := out.add([]byte("a"), 1, new(Digest)); err != nil {
		t.Errorf("the last that is allowed: %v", err)
	}
	err := out.add([]byte("b"), 1, new(Digest))
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxEntries)) || out.Entries != maxEntries {
		t.Errorf("got %v after %d entries, want the limit and its error", err, out.Entries)
	}
}

func TestErrorsPassThrough(t *testing.T) {
	broken := errors.New("broken")
	inputs := map[string]struct {
		read reader
		text string
	}{
		"Packages":   {ReadPackages, "Filename: a\nSHA256: " + hashA + "\n\n"},
		"Sources":    {ReadSources, "Checksums-Sha256:\n " + hashA + " 1 a\n\n"},
		"Index":      {ReadPdiffIndex, "SHA256-Download:\n " + hashA + " 1 a\n\n"},
		"SHA256SUMS": {ReadSHA256SUMS, hashA + "  a\n"},
	}
	for name, in := range inputs {
		t.Run(name, func(t *testing.T) {
			_, err := in.read(strings.NewReader(in.text), func([]byte, int64, Digest) error { return broken })
			if err != broken {
				t.Errorf("Emit's error: got %v", err)
			}
			r := io.MultiReader(strings.NewReader(in.text), iotest.ErrReader(broken))
			sum, err := in.read(r, func([]byte, int64, Digest) error { return nil })
			if !errors.Is(err, broken) || sum.Entries != 1 {
				t.Errorf("the reader's error: got %v after %+v", err, sum)
			}
		})
	}
}
