// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"io"
	"net/netip"
	"time"
)

// LAN is the local network, as transfers need it. Its methods are safe for
// concurrent use, and work until the Fetcher has been closed.
type LAN interface {
	Peers
	// Alone tells that no other node is there: leases are then granted at once.
	// It is cheap.
	Alone() bool
	// Find asks the blob's homes. It returns at once; wait, to be called exactly
	// once, gives the answer, within half a second also where homes are dead,
	// and Nowhere when ctx ends. Questions asked at about the same time travel
	// together.
	Find(ctx context.Context, q Question) (wait func() Answer)
}

// Peers fetches from other nodes.
type Peers interface {
	// Fetch asks a peer for the bytes of a blob from offset from up to, but not
	// including, to, which is -1 for the end, and returns once the peer has
	// answered, with the body from that very offset on. The error wraps
	// [ErrNotHere] where the peer is there but does not give these bytes, now or
	// ever; with any other it could not be reached. A body that ends short of to,
	// or of what the peer itself gets at the end, ends in an error, never in
	// io.EOF. The caller closes the body. ctx bounds all reading.
	Fetch(ctx context.Context, p Peer, d Digest, from, to int64) (*PeerBody, error)
	// Failed tells that a peer could not be reached, or that its answer broke.
	Failed(p Peer)
	// Liar tells that a peer sent what is not the blob: it is set aside.
	Liar(p Peer, d Digest, what string)
}

// Peer is another node.
type Peer struct {
	ID   string
	Addr netip.AddrPort
}

// Question is about one blob.
type Question struct {
	Digest Digest
	Size   int64 // bytes, -1 if unknown
	Have   int64 // how many bytes from the start the asker has
	// Lease: the asker would fetch the blob from outside now.
	Lease bool
	// Silent are places that gave the asker nothing, of those it was told.
	Silent []Peer
}

// FindState says how a blob is to be had on the LAN.
type FindState int

const (
	// Nowhere: nobody has it, and no lease was asked for.
	Nowhere FindState = iota
	// Held: the peers in From have it whole.
	Held
	// Coming: somebody fetches it; From[0] relays it, or else From[1]. Where
	// From is empty the asker asks again after 100 ms.
	Coming
	// Leased: the asker fetches it from outside.
	Leased
)

// Answer answers a Question.
type Answer struct {
	State FindState
	From  []Peer
	// Number is the asker's place among those who wait for the blob, -1: none.
	Number int
	// Lease is set where State is Leased. The asker ends it.
	Lease Lease
}

// Lease is the right to fetch a blob from outside for the whole LAN. One of Done
// and GiveUp ends it, or its loss; later calls do nothing.
type Lease interface {
	// Progress tells how many bytes from the start have arrived. It is cheap.
	Progress(have int64)
	// Lost is closed when another node has got the lease.
	Lost() <-chan struct{}
	// Done: the blob is in the store.
	Done()
	// GiveUp: somebody else may go on where this node stopped.
	GiveUp(have int64)
}

// PeerBody is a peer's answer.
type PeerBody struct {
	io.ReadCloser
	// Size of the whole blob in bytes, -1: unknown.
	Size int64
	// Growing: the peer has not got it whole itself; nothing of it is proven.
	Growing bool
	// State is the SHA-256 chaining state before the first byte, where the peer
	// told it (see store.PieceSize). Nil: it did not.
	State *Digest
	// Modified is what the peer says of the origin's Last-Modified.
	Modified time.Time
}
