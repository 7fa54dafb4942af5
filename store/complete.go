// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"fmt"
	"io"
)

// Complete reads from r, into memory, what is missing between front and tail, which must be no more
// than a piece. It appends these bytes if they are right: if the front with them leads to what is
// proven of the tail, or to the digest where nothing is. Else the error is a *MismatchError, and
// nothing has changed; where Len is 0 the sender lied, elsewhere the front may be what is wrong.
// So a small blob can come from anybody, and nobody reads it before it is right.
//
// Complete is for the writer. It reads nothing beyond the missing bytes; where there are too few in r
// the error is io.ErrUnexpectedEOF.
func (g *Growing) Complete(r io.Reader) error {
	if err := g.Resume(); err != nil {
		return err
	}
	from, to := g.Len(), g.Tail()
	if !g.known || to < 0 || to-from > PieceSize {
		return fmt.Errorf("%w: %d to %d of blob %x", errNoPiece, from, to, g.want)
	}
	missing := make([]byte, max(to-from, 0))
	if _, err := io.ReadFull(r, missing); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("store: bytes %d to %d of blob %x: %w", from, to, g.want, err)
	}
	if err := g.fits(missing, to); err != nil {
		return err
	}
	if _, err := g.Write(missing); !errors.Is(err, ErrMet) {
		return err
	}
	return nil
}

// fits tells whether the front leads with missing to what must be at offset to.
func (g *Growing) fits(missing []byte, to int64) error {
	c := g.chain.clone()
	c.Write(missing)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.met != nil || g.tailLocked() != to {
		return nil // Write tells
	}
	got, want := c.sum(), g.want
	if to < g.size {
		got, want = c.border(), g.tail.proof.next
	}
	if got != want {
		return fmt.Errorf("store: bytes %d to %d do not fit: %w", to-int64(len(missing)), to, &MismatchError{Want: g.want, Got: got, WantSize: -1})
	}
	return nil
}
