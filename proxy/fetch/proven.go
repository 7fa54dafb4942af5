// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"fmt"
	"hash"
	"io"
)

// heldBack is how much of a file is kept until its hash is known to be right,
// where the store does not do that.
const heldBack = 16 << 10

// provenBody passes a file on up to its end, which it gives only if the whole
// file hashes to what it must.
type provenBody struct {
	io.ReadCloser
	want Digest
	url  string
	hash hash.Hash
	buf  []byte // read, not yet given
	end  error  // of the source
}

// newProvenBody begins with a hash that has the bytes before the body's.
func newProvenBody(body io.ReadCloser, want *Want, before hash.Hash) *provenBody {
	return &provenBody{ReadCloser: body, want: want.Digest, url: want.URL, hash: before}
}

func (b *provenBody) Read(p []byte) (int, error) {
	for b.end == nil && len(b.buf) <= heldBack {
		b.fill()
	}
	free := len(b.buf) - heldBack
	switch {
	case b.end == nil:
	case b.end != io.EOF:
		return 0, b.end
	default:
		free = len(b.buf)
	}
	if free <= 0 {
		return 0, b.end
	}
	n := copy(p, b.buf[:free])
	b.buf = b.buf[n:]
	return n, nil
}

// fill reads on, and judges the file at its end.
func (b *provenBody) fill() {
	piece := make([]byte, 2*heldBack)
	n, err := b.ReadCloser.Read(piece)
	b.hash.Write(piece[:n])
	b.buf = append(b.buf, piece[:n]...)
	if err == io.EOF && Digest(b.hash.Sum(nil)) != b.want {
		err = fmt.Errorf("%s: %w: they hash to %x", b.url, errWrong, b.hash.Sum(nil))
	}
	b.end = err
}
