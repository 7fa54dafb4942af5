// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// A Reader follows a Growing. It outlives it: a file that was published and evicted, suspended or
// discarded stays open until Close.
type Reader struct {
	g *Growing
	// File is open for this reader alone, so its offset is too: sendfile works from it. Nothing
	// beyond what Wait returned may be read from it.
	File *os.File
}

// NewReader opens the blob for one more reader, who closes it. After Commit it opens the blob itself;
// after Suspend or Discard it returns the readers' error.
func (g *Growing) NewReader() (*Reader, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.end != nil && g.end != io.EOF {
		return nil, g.end
	}
	// By descriptor, the file is found whatever its name is just now.
	path := fmt.Sprintf("/proc/self/fd/%d", g.file.Fd())
	if g.end == io.EOF {
		path = g.s.blobPath(g.digest)
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return &Reader{g: g, File: f}, nil
}

// Wait is Growing.Wait.
func (r *Reader) Wait(ctx context.Context, off int64) (int64, error) { return r.g.Wait(ctx, off) }

// WaitWritten is Growing.WaitWritten.
func (r *Reader) WaitWritten(ctx context.Context, off int64) (int64, error) {
	return r.g.WaitWritten(ctx, off)
}

// ReadAt reads what may be read already, as io.ReaderAt; io.EOF says that there is no more so far.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	return r.readAt(p, off, r.g.span().readable)
}

// ReadWrittenAt is ReadAt for those who may get what is held back, too.
func (r *Reader) ReadWrittenAt(p []byte, off int64) (int, error) {
	return r.readAt(p, off, r.g.span().written)
}

func (r *Reader) readAt(p []byte, off, end int64) (int, error) {
	if off >= end {
		return 0, io.EOF
	}
	short := int64(len(p)) > end-off
	if short {
		p = p[:end-off]
	}
	n, err := r.File.ReadAt(p, off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// Close frees the file. It does not touch the Growing.
func (r *Reader) Close() error { return r.File.Close() }

// Wait blocks until bytes beyond off may be read, and returns the offset up to which they may. It
// returns io.EOF once the blob is verified and off is its end, the reason once it has ended otherwise
// and off is at the end of what may be read, and the cause of ctx when that ends first.
//
// Any number of goroutines may wait. They are woken when more may be read, not otherwise: while the
// end is held back nobody is.
func (g *Growing) Wait(ctx context.Context, off int64) (int64, error) {
	return g.wait(ctx, off, (*Growing).readable)
}

// WaitWritten is Wait for those who may get what is held back, too: it blocks until bytes beyond off
// are written. They may turn out to be wrong. Read from a Reader, by ReadWrittenAt.
func (g *Growing) WaitWritten(ctx context.Context, off int64) (int64, error) {
	return g.wait(ctx, off, (*Growing).writtenBeyond)
}

func (g *Growing) wait(ctx context.Context, off int64, look func(*Growing, int64) (int64, <-chan struct{}, error)) (int64, error) {
	for {
		end, more, err := look(g, off)
		if end > off || err != nil {
			return end, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return end, context.Cause(ctx)
		}
	}
}

// readable returns how far may be read, and if that is not beyond off, either why there will not be
// more or a channel that is closed when that may have changed.
func (g *Growing) readable(off int64) (int64, <-chan struct{}, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.beyondLocked(off, g.readableLocked(), &g.more)
}

// writtenBeyond is readable for all that is written.
func (g *Growing) writtenBeyond(off int64) (int64, <-chan struct{}, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.beyondLocked(off, g.n, &g.written)
}

func (g *Growing) beyondLocked(off, end int64, more *waiters) (int64, <-chan struct{}, error) {
	switch {
	case end > off:
		return end, nil, nil
	case g.end != nil:
		return end, nil, g.end
	default:
		return end, more.wait(), nil
	}
}

func (g *Growing) span() span {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.spanLocked()
}

// waiters wait until they are woken. A lock guards it.
type waiters struct{ c chan struct{} }

func (w *waiters) wait() <-chan struct{} {
	if w.c == nil {
		w.c = make(chan struct{})
	}
	return w.c
}

func (w *waiters) wake() {
	if w.c != nil {
		close(w.c)
		w.c = nil
	}
}
