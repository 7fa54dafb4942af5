// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"time"
)

// WAN is the internet's other nodes, as transfers need them. Its methods are
// safe for concurrent use.
type WAN interface {
	Peers
	// Patience is for how long the mirror may wait just now for peers to turn up:
	// 0 where they have brought nothing lately. It is cheap.
	Patience() time.Duration
	// Seek looks for peers that have the blob and calls found with each, on the
	// caller's goroutine. It returns when no more are to be expected, or ctx ends.
	Seek(ctx context.Context, d Digest, found func(Peer))
	// Brought tells how many bytes of a blob that was sought peers have sent: 0
	// where it came from elsewhere.
	Brought(d Digest, n int64)
}
