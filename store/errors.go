// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotFound: the store does not have this blob or record (any more).
	ErrNotFound = errors.New("store: not found")
	// ErrNoSpace: storing more would break the quota or the floor of free disk space, or the disk
	// is full. What was asked for can still be passed on without being stored.
	ErrNoSpace = errors.New("store: no space")
	// ErrBusy: somebody is writing this blob already.
	ErrBusy = errors.New("store: blob is being written")
	// ErrLocked: another process has the directory.
	ErrLocked = errors.New("store: directory is in use")
	// ErrTooLong: more bytes than the announced size, or a record above its bounds.
	ErrTooLong = errors.New("store: too long")
	// ErrSuspended is what the readers of a suspended Growing get.
	ErrSuspended = errors.New("store: writing was suspended")
	// ErrDiscarded is what the readers of a discarded Growing get when no cause was given.
	ErrDiscarded = errors.New("store: writing was given up")
	// ErrMet: a blob's front has met its proven tail, so that all of it is there.
	ErrMet = errors.New("store: front and tail of the blob have met")
	// ErrUnproven: a piece can be proven only after the one behind it.
	ErrUnproven = errors.New("store: the next piece is not proven yet")
	// ErrTaken: a piece's place in the blob has been taken by somebody else's bytes, or by none.
	ErrTaken = errors.New("store: the piece's place is taken")
	// ErrNoStore: a directory is none of a store.
	ErrNoStore = errors.New("is no store of apt-dht")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("store: closed")
)

// A MismatchError says that bytes are not what their name promised.
type MismatchError struct {
	Want, Got         Digest // Want is zero where the digest was not known beforehand; Got may be SHA-256's state at a border of pieces
	WantSize, GotSize int64  // WantSize is -1 where the size was not known beforehand
}

func (e *MismatchError) Error() string {
	if e.WantSize >= 0 && e.WantSize != e.GotSize {
		return fmt.Sprintf("store: blob %x: got %d bytes, want %d", e.Want, e.GotSize, e.WantSize)
	}
	return fmt.Sprintf("store: blob %x: the bytes hash to %x", e.Want, e.Got)
}
