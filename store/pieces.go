// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"slices"
)

// PieceSize is the distance in bytes between two kept chaining states of SHA-256.
const PieceSize = 1 << 20

// A chain hashes what is written to it and keeps the chaining state after every whole piece.
type chain struct {
	h      hash.Hash
	n      int64
	states []Digest
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
			c.states = append(c.states, stateOf(c.h))
		}
	}
	return len(p), nil
}

// clone returns a chain that goes its own way from here.
func (c *chain) clone() *chain {
	h := sha256.New()
	unmarshal(h, marshal(c.h))
	return &chain{h: h, n: c.n, states: slices.Clone(c.states)}
}

// border returns the state after c.n bytes, a multiple of PieceSize.
func (c *chain) border() Digest {
	if c.n == 0 {
		return initialState
	}
	return c.states[len(c.states)-1]
}

func (c *chain) sum() (d Digest) {
	c.h.Sum(d[:0])
	return d
}

// inner returns the states between pieces: none for a file of one piece, and not the one after the
// last piece, which is the digest's own business.
func (c *chain) inner() []Digest { return c.states[:innerStates(c.n)] }

// initialState is the state before the first byte.
var initialState = stateOf(sha256.New())

// A marshalled SHA-256 is 4 bytes of magic, the state as 8 words, a block of input that has not been
// hashed, and the number of bytes so far in 8 bytes; all are big-endian.
const (
	stateAt  = 4
	lengthAt = stateAt + sha256.Size + sha256.BlockSize
)

// SHA-256 can always be marshalled, and what was marshalled be unmarshalled.
func marshal(h hash.Hash) []byte {
	b, _ := h.(encoding.BinaryAppender).AppendBinary(make([]byte, 0, lengthAt+8))
	return b
}

func unmarshal(h hash.Hash, b []byte) { _ = h.(encoding.BinaryUnmarshaler).UnmarshalBinary(b) }

// stateOf returns the chaining state of a SHA-256 that has been given whole blocks.
func stateOf(h hash.Hash) Digest { return Digest(marshal(h)[stateAt:]) }

// hashFrom returns a SHA-256 that has come to state after n bytes, which are whole blocks.
func hashFrom(state Digest, n int64) hash.Hash {
	h := sha256.New()
	b := marshal(h)
	copy(b[stateAt:], state[:])
	binary.BigEndian.PutUint64(b[lengthAt:], uint64(n))
	unmarshal(h, b)
	return h
}

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
	b, err := s.Peek(d) // whoever wants its bytes says so
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
