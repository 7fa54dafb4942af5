// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// ErrNotHere: the blob is neither stored nor on its way, or is not for others.
var ErrNotHere = errors.New("the blob is not here")

// Shared is a blob opened for another node: one that is stored, or one that is
// still arriving. The caller closes it; while it is open, a blob that arrives
// has a reader.
type Shared struct {
	// Size in bytes. -1: not known yet.
	Size int64
	// Modified is the origin's Last-Modified. Zero: unknown, or not known yet.
	Modified time.Time
	// File is the stored blob, for sendfile. Nil: it is still arriving.
	File *os.File
	// Unchanged, if it is not nil, says why what has just been read of File may not be
	// the blob's bytes: others may write into the file.
	Unchanged func() error
	// Arriving is set where File is not.
	Arriving Arriving
	// Release is called by Close, once, if it is not nil.
	Release func()
}

// Close gives the blob up. It may be called twice.
func (s *Shared) Close() {
	if s.Release != nil {
		s.Release()
		s.Release = nil
	}
}

// Arriving is a blob that is being fetched. It serves one goroutine.
type Arriving interface {
	// Wait blocks until bytes beyond off have arrived, proven or not, and returns
	// the offset up to which they have. It returns io.EOF where off is the end of
	// the whole blob, why no more will come where none will, and the cause of ctx
	// when that ends. It also waits for the first byte, and for a size that is
	// not known yet.
	Wait(ctx context.Context, off int64) (int64, error)
	// ReaderAt reads what has arrived.
	io.ReaderAt
}
