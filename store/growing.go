// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
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

// A Growing is a blob that is being written: by one goroutine, and read by many through NewReader.
// The writer ends it with Commit, Suspend or Discard; calls after that do nothing or fail.
type Growing struct {
	s     *Store
	known bool
	want  Digest

	// The writer's own.
	file    *os.File
	chain   *chain
	checked int64 // offset at which free space was looked at last

	mu       sync.Mutex // guards following
	size     int64      // -1: unknown
	n        int64      // bytes written
	verified bool       // all bytes may be read
	digest   Digest     // once published
	end      error      // nil: still growing; io.EOF: verified; else why it ended
	more     chan struct{}
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
	before := g.readableLocked()
	g.size = size
	g.wakeFromLocked(before)
	return nil
}

// Size returns the size in bytes, -1 while it is unknown.
func (g *Growing) Size() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.size
}

// Len returns how many bytes have been written; some of them may not be readable yet.
func (g *Growing) Len() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// Write appends. It fails with ErrTooLong, having written nothing, if p goes beyond the size, and
// with ErrNoSpace if the disk has too little room; what the returned count says has then been
// written, and Suspend may keep it.
func (g *Growing) Write(p []byte) (int, error) {
	if err := g.mayWrite(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := g.file.Write(p)
	g.chain.Write(p[:n])
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.readableLocked()
	g.n += int64(n)
	g.wakeFromLocked(before)
	if err != nil {
		return n, fmt.Errorf("store: %w", noSpace(err))
	}
	return n, nil
}

func (g *Growing) mayWrite(k int64) error {
	g.mu.Lock()
	size, n, end := g.size, g.n, g.end
	g.mu.Unlock()
	if end != nil {
		return fmt.Errorf("store: write to a blob that has ended: %w", end)
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
	if err := checkMeta(m); err != nil {
		g.Discard(err)
		return Digest{}, err
	}
	sum := g.chain.sum()
	m.Size = g.chain.n
	err := g.s.publish(candidate{file: g.file, known: g.known, want: g.want, size: g.Size(), sum: sum, n: g.chain.n, meta: m})
	if mismatch := (*MismatchError)(nil); errors.As(err, &mismatch) {
		g.finish(err)
		return Digest{}, err
	}
	g.mu.Lock()
	g.verified, g.size, g.digest = true, g.n, sum
	g.mu.Unlock()
	g.finish(io.EOF)
	if err != nil {
		return Digest{}, err
	}
	g.s.record(sum, m, g.chain.inner())
	return sum, nil
}

// Suspend keeps the bytes so far for a later Create of the same digest. The readers get
// ErrSuspended. A blob of unknown digest is discarded.
func (g *Growing) Suspend() error {
	if g.ended() {
		return nil
	}
	if !g.known || g.Len() == 0 {
		return g.Discard(ErrSuspended)
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
	err := os.Remove(g.file.Name())
	g.finish(cause)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
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
	g.wakeLocked()
	g.mu.Unlock()
	g.s.releaseWriter(g)
}

// wakeFromLocked wakes the readers if more may be read than before.
func (g *Growing) wakeFromLocked(before int64) {
	if g.readableLocked() > before {
		g.wakeLocked()
	}
}

func (g *Growing) wakeLocked() {
	if g.more != nil {
		close(g.more)
		g.more = nil
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
