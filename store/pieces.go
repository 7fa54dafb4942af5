// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"crypto/sha256"
	"encoding"
	"fmt"
	"hash"
	"io"
)

// PieceSize is the distance in bytes between two kept chaining states of SHA-256.
const PieceSize = 1 << 20

// A chain hashes what is written to it and keeps the chaining state after every whole piece.
type chain struct {
	h      hash.Hash
	n      int64
	states []Digest
	buf    []byte
}

func newChain() *chain { return &chain{h: sha256.New()} }

// Write never fails.
func (c *chain) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		k := min(int64(len(rest)), PieceSize-c.n%PieceSize)
		c.h.Write(rest[:k])
		c.n += k
		rest = rest[k:]
		if c.n%PieceSize == 0 {
			c.keep()
		}
	}
	return len(p), nil
}

// keep takes the state out of the marshalled form: 4 bytes of magic, then 8 big-endian words.
func (c *chain) keep() {
	c.buf, _ = c.h.(encoding.BinaryAppender).AppendBinary(c.buf[:0]) // never fails for SHA-256
	c.states = append(c.states, Digest(c.buf[4:]))
}

func (c *chain) sum() (d Digest) {
	c.h.Sum(d[:0])
	return d
}

// inner returns the states between pieces: none for a file of one piece, and not the one after the
// last piece, which is the digest's own business.
func (c *chain) inner() []Digest { return c.states[:innerStates(c.n)] }

// innerStates is the number of piece borders inside a file of size bytes.
func innerStates(size int64) int {
	if size <= 0 {
		return 0
	}
	return int((size - 1) / PieceSize)
}

// Pieces returns the chaining states s₁…sₙ₋₁ of SHA-256 after each piece of PieceSize bytes of the
// blob, but for the last; none for a blob of one piece. They are computed anew from the file where
// they are not recorded.
func (s *Store) Pieces(d Digest) ([][sha256.Size]byte, error) {
	e, ok := s.table.get(d)
	if !ok {
		return nil, ErrNotFound
	}
	want := innerStates(e.size)
	if want == 0 {
		return nil, nil
	}
	if states := s.rows.states(d, want); states != nil {
		return states, nil
	}
	b, err := s.Get(d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	c := newChain()
	if _, err := io.Copy(c, b.File); err != nil {
		return nil, fmt.Errorf("store: read %s: %w", b.Name(), err)
	}
	if c.sum() != d {
		s.dropBad(d, b.File, &MismatchError{Want: d, Got: c.sum(), WantSize: e.size, GotSize: c.n})
		return nil, ErrNotFound
	}
	s.rows.write(stateRows(d, c.inner())) // without room they are computed anew next time
	return c.inner(), nil
}
