// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
)

const (
	// MaxPlain is the most that a file may unpack to, in bytes. Debian's
	// largest index, Contents-source of sid, has 1.1 GB.
	MaxPlain = 2 << 30

	// maxDict bounds the window of xz, lzma and zstd: that of xz -9.
	maxDict = 64 << 20
)

// codec is one compression that apt knows.
type codec struct {
	name  string
	magic []byte // what its data always begin with, if anything
	open  func(*bufio.Reader) (io.ReadCloser, error)
}

// codecs are keyed by file extension.
var codecs = map[string]codec{
	".xz":   {"xz", []byte("\xfd7zXZ\x00"), openXZ},
	".gz":   {"gzip", []byte("\x1f\x8b"), openGzip},
	".bz2":  {"bzip2", []byte("BZh"), openBzip2},
	".zst":  {"zstd", nil, openZstd},
	".lz4":  {"lz4", nil, openLZ4},
	".lzma": {"lzma", nil, openLZMA},
}

// Decompress returns r's bytes unpacked, as the extension of name demands:
// .xz, .gz, .bz2, .zst, .lz4 or .lzma; of any other name, as they are.
//
// Data that are empty or not of that compression are an error, here or at the
// first Read. Concatenated streams (gzip members, xz streams, frames) are read as one;
// anything else that follows is an error, and so are data that end early,
// unpack to more than [MaxPlain] or need a window over 64 MiB. Errors name
// name. The caller closes the result, which does not close r.
func Decompress(name string, r io.Reader) (io.ReadCloser, error) {
	c, ok := codecs[path.Ext(name)]
	if !ok {
		return &bounded{io.NopCloser(r), name, MaxPlain}, nil
	}
	br := bufio.NewReaderSize(r, 64<<10)
	if err := c.check(br); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	plain, err := c.open(br)
	if err != nil {
		return nil, fmt.Errorf("%s: unpacking %s: %w", name, c.name, err)
	}
	return &bounded{plain, name, MaxPlain}, nil
}

// check looks at the first bytes, so that a plain file with a wrong extension
// gets a better error than the codec's.
func (c codec) check(br *bufio.Reader) error {
	head, err := br.Peek(max(1, len(c.magic)))
	if err != nil && err != io.EOF {
		return err
	}
	if len(head) == 0 {
		return fmt.Errorf("not %s data: the file is empty", c.name)
	}
	if !bytes.HasPrefix(head, c.magic) {
		return fmt.Errorf("not %s data: the file begins with %q", c.name, head)
	}
	return nil
}

// bounded ends with an error where more than left bytes would come out, and
// puts the name into all errors.
type bounded struct {
	io.ReadCloser
	name string
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, b.left = int(b.left), 0
		return n, fmt.Errorf("%s: unpacks to more than the limit of %d bytes", b.name, int64(MaxPlain))
	}
	b.left -= int64(n)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: unpacking: %w", b.name, err)
	}
	return n, err
}

// openXZ uses the fastest decoder in pure Go: some 40 MB/s.
func openXZ(r *bufio.Reader) (io.ReadCloser, error) {
	d, err := xz.NewReader(r, maxDict)
	return io.NopCloser(d), err
}

func openGzip(r *bufio.Reader) (io.ReadCloser, error) {
	return gzip.NewReader(r)
}

func openBzip2(r *bufio.Reader) (io.ReadCloser, error) {
	return io.NopCloser(bzip2.NewReader(r)), nil
}

func openZstd(r *bufio.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxDict))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

func openLZ4(r *bufio.Reader) (io.ReadCloser, error) {
	d := lz4.NewReader(r)
	return io.NopCloser(d), d.Apply(lz4.ConcurrencyOption(1))
}

func openLZMA(r *bufio.Reader) (io.ReadCloser, error) {
	d, err := lzma.ReaderConfig{DictCap: maxDict}.NewReader(r)
	return io.NopCloser(&lzmaReader{d, r}), err
}

// lzmaReader demands that nothing follows the stream: the format knows no
// concatenation, and its decoder does not look.
type lzmaReader struct {
	*lzma.Reader
	src *bufio.Reader
}

func (l *lzmaReader) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if err != io.EOF {
		return n, err
	}
	if _, err := l.src.Peek(1); err != io.EOF {
		return n, errors.Join(errors.New("data after the end of the stream"), err)
	}
	return n, io.EOF
}
