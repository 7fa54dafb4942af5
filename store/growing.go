// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

const (
	// heldBack is the end of a blob of known digest that readers get only once its hash is right, so
	// that a wrong file never arrives whole.
	heldBack = 16 << 10
	// spaceCheck is how many bytes a Growing writes between two looks at the free disk space.
	spaceCheck = 4 << 20
)

// A Growing is a blob that is being written: from its front by one goroutine, its writer, from its tail
// by PutPiece, and read by many through NewReader. The writer ends it with Commit, Suspend or Discard;
// calls after that do nothing or fail.
type Growing struct {
	s     *Store
	known bool
	want  Digest
	file  *os.File

	// The writer's own.
	chain   *chain
	checked int64 // offset at which free space was looked at last
	kept    *note // what is there of front and tail, until Resume has verified it

	noteMu sync.Mutex // before mu, and held while the note is written; guards following
	noted  noted

	mu       sync.Mutex // guards following
	path     string     // the file's name at present
	size     int64      // -1: unknown
	n        int64      // bytes written from the front, all of them once verified
	hashed   bool       // the chain has all bytes of the front: there are no kept ones that Resume has not read
	border   Digest     // the chain's state after the whole blocks of the front
	tail     *tail      // nil: not to be had in pieces, or size not known yet
	met      error      // nil: front and tail have not met; ErrMet: they have; else the front is wrong
	verified bool       // all bytes may be read
	digest   Digest     // once published
	end      error      // nil: still growing; io.EOF: verified; else why it ended
	more     waiters    // for more to be readable
	written  waiters    // for more to be written
}

// SetSize tells the size in bytes, as learnt from the origin before its first byte. It fails with
// ErrNoSpace if there is no room for it, with a *MismatchError if it contradicts the size known
// already, and with ErrTooLong if more has been written.
func (g *Growing) SetSize(size int64) error {
	g.mu.Lock()
	known, n := g.size, g.n
	g.mu.Unlock()
	if known >= 0 && known != size {
		return &MismatchError{Want: g.want, WantSize: known, GotSize: size}
	}
	if size < n {
		return fmt.Errorf("%w: %d bytes are here already, the size is said to be %d", ErrTooLong, n, size)
	}
	if err := g.s.makeRoom(size - n); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.spanLocked()
	g.size = size
	g.newTailLocked()
	g.wakeLocked(was)
	return nil
}

// Size returns the size in bytes, -1 while it is unknown.
func (g *Growing) Size() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.size
}

// Len returns how many bytes have been written from the front, some of which may not be readable yet;
// it is the size once front and tail have met.
func (g *Growing) Len() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// Write appends to the front. It fails with ErrTooLong, having written nothing, if p goes beyond the
// size, and with ErrNoSpace if the disk has too little room; what the returned count says has then
// been written, and Suspend may keep it. It takes over pieces that are not proven.
//
// It fails with ErrMet as soon as all further bytes are proven, and so all is there; the count may
// then be that of p. If the front does not lead to what is proven the error is a *MismatchError.
func (g *Growing) Write(p []byte) (n int, err error) {
	if err := g.Resume(); err != nil {
		return 0, err
	}
	if err := g.mayWrite(int64(len(p))); err != nil {
		return 0, err
	}
	for err == nil && len(p) > 0 {
		var k int
		k, err = g.append(p)
		n, p = n+k, p[k:]
	}
	return n, err
}

// append writes up to the next border between pieces.
func (g *Growing) append(p []byte) (int, error) {
	at := g.chain.n
	if g.tail != nil { // set before the first byte, by this goroutine
		if !g.tail.enter(int(at / PieceSize)) {
			return 0, g.metError()
		}
		p = p[:min(int64(len(p)), PieceSize-at%PieceSize)]
	}
	n, err := g.file.WriteAt(p, at)
	g.chain.Write(p[:n])
	if err != nil {
		err = fmt.Errorf("store: %w", noSpace(err))
	}
	met := g.wrote(n)
	g.keepNote(false)
	return n, cmp.Or(err, met)
}

// wrote tells of n more bytes. It returns how front and tail have met, if they have.
func (g *Growing) wrote(n int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.spanLocked()
	g.n += int64(n)
	g.border = stateOf(g.chain.h)
	g.wakeLocked(was)
	g.meetLocked()
	return g.met
}

func (g *Growing) metError() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.met
}

// wrong returns what is wrong with the front, as far as the tail tells.
func (g *Growing) wrong() error {
	if err := g.metError(); err != ErrMet {
		return err
	}
	return nil
}

func (g *Growing) mayWrite(k int64) error {
	g.mu.Lock()
	size, n, met, end := g.size, g.n, g.met, g.end
	g.mu.Unlock()
	if end != nil {
		return fmt.Errorf("store: write to a blob that has ended: %w", end)
	}
	if met != nil {
		return met
	}
	if size >= 0 && n+k > size {
		return fmt.Errorf("%w: more than the %d bytes of blob %x", ErrTooLong, size, g.want)
	}
	if n+k-g.checked < spaceCheck {
		return nil
	}
	g.checked = n + k
	if size < 0 && n+k > g.s.cfg.Quota {
		return fmt.Errorf("%w: more than the quota of %d bytes", ErrNoSpace, g.s.cfg.Quota)
	}
	return g.s.makeRoom(k)
}

// Commit verifies and publishes the blob. The error is a *MismatchError if the bytes are not those
// of the digest and size given to Create; nothing is kept then, and the readers get that error. With
// any other error the bytes were right but could not be stored: readers still get all of them.
func (g *Growing) Commit(m Meta) (Digest, error) {
	if g.ended() {
		return Digest{}, fmt.Errorf("store: commit: %w", os.ErrClosed)
	}
	if err := cmp.Or(checkMeta(m), g.Resume(), g.wrong()); err != nil {
		g.Discard(err)
		return Digest{}, err
	}
	g.shutTail()
	c, states := g.candidate()
	m.Size, c.meta = c.n, m
	err := g.s.publish(c)
	if mismatch := (*MismatchError)(nil); errors.As(err, &mismatch) {
		g.finish(err)
		return Digest{}, err
	}
	g.mu.Lock()
	g.verified, g.size, g.digest = true, g.n, c.sum
	g.mu.Unlock()
	g.finish(io.EOF)
	if err != nil {
		return Digest{}, err
	}
	g.s.record(c.sum, m, states)
	return c.sum, nil
}

// candidate returns what is to be published, without its meta, and its chaining states. What has been
// proven piece by piece is not hashed again.
func (g *Growing) candidate() (candidate, []Digest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := candidate{file: g.file, path: g.path, known: g.known, want: g.want, size: g.size, n: g.n}
	if g.met != nil {
		c.sum = g.want
		return c, g.tail.proof.inner(g.chain.states)
	}
	c.sum = g.chain.sum()
	return c, g.chain.inner()
}

// Suspend keeps the front's bytes, and what is proven of the tail, for a later Create of the same digest.
// The readers get ErrSuspended.
// A blob of unknown digest is discarded, and so is one whose front is wrong.
func (g *Growing) Suspend() error {
	if g.ended() {
		return nil
	}
	if !g.known || g.isEmpty() {
		return g.Discard(ErrSuspended)
	}
	g.shutTail()
	if err := g.wrong(); err != nil {
		return g.Discard(err)
	}
	if err := g.keep(); err != nil {
		return errors.Join(err, g.Discard(ErrSuspended))
	}
	g.finish(ErrSuspended)
	return nil
}

// Discard throws the bytes away. The readers get cause, or ErrDiscarded if it is nil, once they have
// read what was readable.
func (g *Growing) Discard(cause error) error {
	if g.ended() {
		return nil
	}
	if cause == nil {
		cause = ErrDiscarded
	}
	g.shutTail()
	err := os.Remove(g.name())
	g.finish(cause)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// isEmpty tells whether there is nothing that is worth keeping.
func (g *Growing) isEmpty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n == 0 && g.kept == nil && g.tailLocked() >= g.size
}

func (g *Growing) name() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.path
}

func (g *Growing) ended() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.end != nil
}

// finish ends the writing. Readers have the file open for themselves.
func (g *Growing) finish(end error) {
	g.mu.Lock()
	g.end = end
	g.file.Close()
	g.more.wake()
	g.written.wake()
	g.mu.Unlock()
	g.endNote(end)
	g.s.releaseWriter(g)
}

// A span is how far a front may be read, and how far it is written.
type span struct{ readable, written int64 }

func (g *Growing) spanLocked() span { return span{g.readableLocked(), g.n} }

// wakeLocked wakes those for whom there is more than there was.
func (g *Growing) wakeLocked(was span) {
	if g.readableLocked() > was.readable {
		g.more.wake()
	}
	if g.n > was.written {
		g.written.wake()
	}
}

// readableLocked returns the offset up to which readers may read.
func (g *Growing) readableLocked() int64 {
	switch {
	case g.verified || !g.known:
		return g.n
	case g.size >= 0:
		return min(g.n, max(g.size-heldBack, 0))
	default:
		return max(g.n-heldBack, 0)
	}
}
