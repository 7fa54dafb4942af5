// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"fmt"
	"time"
)

// WAN is the internet's other nodes, as transfers need them: strangers that have
// blobs whole. Its methods are safe for concurrent use, and work until the Fetcher
// has been closed.
type WAN interface {
	// Fetch is never asked for more than three bodies of one peer at a time. Its
	// error wraps [ErrBusy] where the peer would give the bytes at another time.
	Peers
	// Patience is for how long the mirror may wait just now for peers to turn up:
	// 0 where they have brought nothing lately. It is asked once for each blob that
	// is sought from its beginning, and is cheap.
	Patience() time.Duration
	// Seek looks for peers that have the blob and calls found with each, once, on
	// the caller's goroutine; found blocks until the transfer takes note. It returns
	// when no more are to be expected, or soon after ctx has ended. What is to be
	// learnt of a blob that nobody has it learns itself.
	Seek(ctx context.Context, d Digest, found func(Peer))
	// Brought tells how many bytes of a blob that was sought peers have sent: 0
	// where they were of little use, because they were slow or too late. It is told
	// once, at the end, of what was found or sought in vain until then.
	Brought(d Digest, n int64)
}

// ErrBusy: the peer has the blob, and gives to too many others just now. It wraps
// [ErrNotHere].
var ErrBusy = fmt.Errorf("%w just now", ErrNotHere)

const (
	// busyFor is how long a peer that was busy is asked for nothing.
	busyFor = time.Second

	// maxResolving bounds the time for finding out whether a file may be looked
	// for, and maxPublishing that for whether it may be given to others: by then
	// that has mostly been found out.
	maxResolving  = 2 * time.Second
	maxPublishing = time.Second
)

// shareable tells whether the file may be looked for on the internet, and given to
// it, if that can be found out in time.
func (t *transfer) shareable(ctx context.Context, most time.Duration) bool {
	if t.want.Shareable == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return t.want.Shareable(ctx)
}
