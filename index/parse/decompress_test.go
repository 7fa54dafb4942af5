// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

const hello = "hello, index\n"

// helloBzip2 is hello: no Go library writes bzip2.
const helloBzip2 = "BZh91AY&SY\xcf\x83\x06\xc6\x00\x00\x03\x51\x80\x00\x10\x40\x04\x06" +
	"\x65\x80\x40\x20\x00\x31\x00\xd3\x4d\x04\x00\x1e\xa1\x01\xb9\x79\xa0\xcf\xe2\xee\x48\xa7\x0a\x12" +
	"\x19\xf0\x60\xd8\xc0"

var extensions = []string{".xz", ".gz", ".bz2", ".zst", ".lz4", ".lzma"}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// pack compresses plain as the extension says; .bz2 knows hello alone.
func pack(ext string, plain []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	switch ext {
	case ".xz":
		w = must(xz.WriterConfig{DictCap: 1 << 16}.NewWriter(&out))
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".zst":
		w = must(zstd.NewWriter(&out))
	case ".lz4":
		lz := lz4.NewWriter(&out)
		must(lz, lz.Apply(lz4.BlockSizeOption(lz4.Block64Kb)))
		w = lz
	case ".lzma":
		w = must(lzma.WriterConfig{DictCap: 1 << 16}.NewWriter(&out))
	case ".bz2":
		return []byte(helloBzip2)
	}
	must(w.Write(plain))
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func unpack(name string, packed io.Reader) (string, error) {
	r, err := Decompress(name, packed)
	if err != nil {
		return "", err
	}
	plain, err := io.ReadAll(r)
	return string(plain), errors.Join(err, r.Close())
}

func TestDecompress(t *testing.T) {
	for _, ext := range append(extensions, "") {
		t.Run(ext, func(t *testing.T) {
			packed := []byte(hello)
			if ext != "" {
				packed = pack(ext, packed)
			}
			for _, r := range []io.Reader{bytes.NewReader(packed), iotest.OneByteReader(bytes.NewReader(packed))} {
				got, err := unpack("Packages"+ext, r)
				if err != nil || got != hello {
					t.Errorf("%T: got %q, %v", r, got, err)
				}
			}
		})
	}
}

// TestDecompressTruncated cuts everywhere, between the blocks of a long file too.
func TestDecompressTruncated(t *testing.T) {
	long := []byte(strings.Repeat(hello, 10_000))
	for _, ext := range extensions {
		for _, plain := range [][]byte{[]byte(hello), long} {
			packed := pack(ext, plain)
			for n := range packed {
				if got, err := unpack("Packages"+ext, bytes.NewReader(packed[:n])); err == nil {
					t.Errorf("%s: %d of %d bytes: got %d bytes and no error", ext, n, len(packed), len(got))
				}
			}
		}
	}
}

func TestDecompressConcatenated(t *testing.T) {
	for _, ext := range extensions {
		packed := pack(ext, []byte(hello))
		got, err := unpack("Packages"+ext, bytes.NewReader(append(packed, packed...)))
		if ext == ".lzma" {
			if err == nil {
				t.Errorf("%s: the format knows no concatenation, got %q", ext, got)
			}
			continue
		}
		if err != nil || got != hello+hello {
			t.Errorf("%s: got %q, %v", ext, got, err)
		}
	}
}

func TestDecompressTrailingGarbage(t *testing.T) {
	for _, ext := range extensions {
		for _, tail := range []string{"x", "junk", strings.Repeat("<html>", 100)} {
			packed := append(pack(ext, []byte(hello)), tail...)
			if got, err := unpack("Packages"+ext, bytes.NewReader(packed)); err == nil {
				t.Errorf("%s: %q was accepted: got %q", ext, tail, got)
			}
		}
	}
}

func TestDecompressXZPadding(t *testing.T) {
	packed := append(pack(".xz", []byte(hello)), 0, 0, 0, 0)
	if got, err := unpack("Packages.xz", bytes.NewReader(packed)); err != nil || got != hello {
		t.Errorf("padding of four bytes: got %q, %v", got, err)
	}
	if got, err := unpack("Packages.xz", bytes.NewReader(append(packed, 0))); err == nil {
		t.Errorf("padding of five bytes was accepted: got %q", got)
	}
}

func TestDecompressWrongContent(t *testing.T) {
	plain := "Package: hello\nVersion: 2.10-3\n"
	for _, ext := range extensions {
		for _, content := range []string{"", plain} {
			_, err := unpack("dists/x/Packages"+ext, strings.NewReader(content))
			if err == nil || !strings.Contains(err.Error(), "dists/x/Packages"+ext) {
				t.Errorf("%s: %q: error %v does not name the file", ext, content, err)
			}
		}
	}
	_, err := Decompress("Packages.gz", strings.NewReader(plain))
	if want := `Packages.gz: not gzip data: the file begins with "Pa"`; err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

func TestDecompressReadError(t *testing.T) {
	broken := errors.New("connection reset")
	for _, ext := range append(extensions, "") {
		for _, n := range []int{0, 1, 8} {
			packed := []byte(hello)
			if ext != "" {
				packed = pack(ext, packed)
			}
			_, err := unpack("Packages"+ext, io.MultiReader(bytes.NewReader(packed[:n]), iotest.ErrReader(broken)))
			if !errors.Is(err, broken) {
				t.Errorf("%s: after %d bytes: got %v, want the reader's own error", ext, n, err)
			}
		}
	}
}

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestDecompressLimit(t *testing.T) {
	const limit = 1 << 20
	open := func(n int64) io.Reader {
		return &bounded{io.NopCloser(io.LimitReader(zeros{}, n)), "Packages.xz", limit}
	}
	if n, err := io.Copy(io.Discard, open(limit)); n != limit || err != nil {
		t.Errorf("exactly the limit: %d bytes, %v", n, err)
	}
	for _, size := range []int64{limit + 1, 1 << 40} {
		n, err := io.Copy(io.Discard, open(size))
		if n != limit || err == nil || !strings.Contains(err.Error(), fmt.Sprint(int64(MaxPlain))) {
			t.Errorf("%d bytes: got %d and %v, want the limit and its error", size, n, err)
		}
	}
}

func TestDecompressDictionary(t *testing.T) {
	tests := []struct {
		name   string
		packed []byte
		ok     bool
	}{
		{"64MiB.xz", xzWithDictionary(28), true},
		{"96MiB.xz", xzWithDictionary(29), false},
		{"64MiB.lzma", lzmaWithDictionary(64 << 20), true},
		{"128MiB.lzma", lzmaWithDictionary(128 << 20), false},
		{"64MiB.zst", zstdWithWindow(26), true},
		{"128MiB.zst", zstdWithWindow(27), false},
	}
	for _, tt := range tests {
		got, err := unpack(tt.name, bytes.NewReader(tt.packed))
		if (err == nil) != tt.ok || tt.ok && got != hello {
			t.Errorf("%s: got %q, %v", tt.name, got, err)
		}
	}
}

// xzWithDictionary packs hello, with that dictionary size in the first block's
// header (xz file format, section 5.3.1: 28 is 64 MiB).
func xzWithDictionary(bits byte) []byte {
	packed := pack(".xz", []byte(hello))
	block := packed[12:24]
	block[4] = bits
	binary.LittleEndian.PutUint32(block[8:], crc32.ChecksumIEEE(block[:8]))
	return packed
}

func lzmaWithDictionary(size uint32) []byte {
	packed := pack(".lzma", []byte(hello))
	binary.LittleEndian.PutUint32(packed[1:], size)
	return packed
}

// zstdWithWindow packs hello as a frame of one raw block (RFC 8878, section 3.1.1).
func zstdWithWindow(log byte) []byte {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3, byte(len(hello)<<3 | 1), 0, 0}
	return append(frame, hello...)
}
