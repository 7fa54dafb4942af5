// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"fmt"
	"slices"
)

// A proof says which pieces of a file are right, from its end backwards. SHA-256 is a chain: the last
// piece, hashed on from the state claimed before it, and padded, must give the file's digest. If it
// does, piece and state are right: others would be a second preimage. Then the piece before it must
// lead to that state, and so on down to the constant state before the first. So each piece is proven
// or convicted alone, together with the state that its sender claimed.
type proof struct {
	want   Digest   // the file's digest
	at     int      // pieces from here on are proven
	next   Digest   // what piece at-1 must lead to: the state before piece at, or at first the digest
	states []Digest // the proven states, the one before piece at last
}

func newProof(pieces int, want Digest) proof { return proof{want: want, at: pieces, next: want} }

// prove takes note of piece i if it is right, which leads from the state start to the state end (the
// last one: to the digest). It fails with ErrUnproven if that cannot be told yet, with ErrTaken if
// the piece is proven already, and with a *MismatchError if piece or start are wrong.
func (p *proof) prove(i int, start, end Digest) error {
	switch {
	case i < p.at-1:
		return ErrUnproven
	case i >= p.at:
		return ErrTaken
	case end != p.next:
		return fmt.Errorf("store: piece %d is wrong: %w", i, &MismatchError{Want: p.want, Got: end, WantSize: -1})
	}
	p.at, p.next = i, start
	p.states = append(p.states, start)
	return nil
}

// inner returns the states between all pieces, of a file whose front reaches piece at through the
// states given.
func (p *proof) inner(front []Digest) []Digest {
	behind := slices.Clone(p.states[:len(p.states)-1]) // the last of them is front's last, too
	slices.Reverse(behind)
	return append(slices.Clip(front[:p.at]), behind...)
}
