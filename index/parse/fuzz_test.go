// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// More seeds lie in testdata/fuzz.

func FuzzReadPackages(f *testing.F)   { fuzzReader(f, ReadPackages) }
func FuzzReadSources(f *testing.F)    { fuzzReader(f, ReadSources) }
func FuzzReadPdiffIndex(f *testing.F) { fuzzReader(f, ReadPdiffIndex) }
func FuzzReadSHA256SUMS(f *testing.F) { fuzzReader(f, ReadSHA256SUMS) }

// fuzzReader demands valid entries, no more of them than the input has room
// for, and that the size of the reads makes no difference.
func fuzzReader(f *testing.F, read reader) {
	f.Fuzz(func(t *testing.T, input []byte) {
		sum, err := read(bytes.NewReader(input), func(path []byte, size int64, _ Digest) error {
			if err := checkEntry(string(path), size); err != nil {
				t.Error(err)
			}
			return nil
		})
		if len(input) < 64*sum.Entries || len(input) < sum.Skipped {
			t.Errorf("%+v (%v) from %d bytes", sum, err, len(input))
		}
		whole := run(read, bytes.NewReader(input))
		bytewise := run(read, iotest.OneByteReader(bytes.NewReader(input)))
		if diff := cmp.Diff(whole, bytewise); diff != "" {
			t.Errorf("-whole +byte by byte\n%s", diff)
		}
	})
}

// checkEntry states the package's promises independently of cleanPath.
func checkEntry(p string, size int64) error {
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	clean := strings.TrimPrefix(path.Clean("/"+p), "/")
	folded := p
	for strings.Contains(folded, "//") {
		folded = strings.ReplaceAll(folded, "//", "/")
	}
	if p == "" || len(p) > MaxPath || clean != folded || strings.ContainsFunc(p, isControl) || size < -1 {
		return fmt.Errorf("emitted %q with size %d", p, size)
	}
	return nil
}

func FuzzReadRelease(f *testing.F) {
	f.Fuzz(func(t *testing.T, input []byte) {
		rel, err := ReadRelease(bytes.NewReader(input))
		bytewise, err2 := ReadRelease(iotest.OneByteReader(bytes.NewReader(input)))
		if diff := cmp.Diff(rel, bytewise); diff != "" || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Errorf("%v, byte by byte %v: -whole +byte by byte\n%s", err, err2, diff)
		}
		if err != nil {
			return
		}
		seen := make(map[string]bool)
		for _, file := range rel.Files {
			if err := checkEntry(file.Path, file.Size); err != nil || seen[file.Path] {
				t.Errorf("%q twice, or %v", file.Path, err)
			}
			seen[file.Path] = true
			if file.MD5 == nil && file.SHA1 == nil && file.SHA256 == nil && file.SHA512 == nil {
				t.Errorf("%q without a hash", file.Path)
			}
		}
	})
}

// FuzzDecompress compares whole and one-byte reads of the first MiB: the same
// bytes, or else the same failure, before which a decoder may have given out
// more or fewer of the good bytes. n chooses the compression.
func FuzzDecompress(f *testing.F) {
	const enough = 1 << 20
	for i, ext := range extensions {
		f.Add(i, pack(ext, []byte(hello)))
	}
	f.Add(0, xzWithDictionary(29))
	f.Add(3, zstdWithWindow(27))
	f.Add(5, lzmaWithDictionary(128<<20))
	f.Fuzz(func(t *testing.T, n int, input []byte) {
		name := "Packages" + extensions[uint(n)%uint(len(extensions))]
		read := func(r io.Reader) ([]byte, error) {
			d, err := Decompress(name, r)
			if err != nil {
				return nil, err
			}
			defer d.Close()
			return io.ReadAll(io.LimitReader(d, enough))
		}
		whole, err := read(bytes.NewReader(input))
		bytewise, err2 := read(iotest.OneByteReader(bytes.NewReader(input)))
		common := min(len(whole), len(bytewise))
		same := err != nil || len(whole) == len(bytewise)
		if !same || !bytes.Equal(whole[:common], bytewise[:common]) || (err == nil) != (err2 == nil) {
			t.Errorf("%s: %d bytes and %v, byte by byte %d and %v", name, len(whole), err, len(bytewise), err2)
		}
		if err != nil && !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("error does not name the file: %v", err)
		}
	})
}
