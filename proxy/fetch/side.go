// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	// peerSilence is how long a peer that holds a blob may not answer, or send
	// nothing.
	peerSilence = 2 * time.Second

	// A peer must send slowRate bytes per second over slowWindow, or its share of
	// that where many are read from at the same time; slowest in any case.
	slowRate   = 64_000
	slowest    = 1000
	slowWindow = 5 * time.Second

	// maxBodies is how many bodies one node of the local network is asked for at a
	// time, of all transfers together, and maxBodiesWAN one on the internet. They
	// stay below what a node gives to one other.
	maxBodies    = 24
	maxBodiesWAN = 3

	// A piece that takes as long as this comes alone from its peer: to ask for the
	// next one before it is there would save little.
	slowPiece    = 250 * time.Millisecond
	slowPieceWAN = 2 * time.Second

	// A node on the internet shares out some 500 kB/s, in steps of 80 kB.
	slowRateWAN = 16_000
	silenceWAN  = 2 * peerSilence
)

// A side is the nodes that are reached in one way: the local network's, or the
// internet's. What is known of one is not mixed up with the other's.
type side struct {
	Peers
	silence   time.Duration // peerSilence, in a body
	slowRate  int64
	slowPiece time.Duration
	flying    int  // pieces that one transfer asks a peer for at a time
	levels    bool // the last pieces are shared out evenly

	received atomic.Int64 // body bytes
	bodies   semaphores   // of peers' answers
	shunned  places       // for everything
	busy     places       // with others, just now
	speed    meter        // of all bodies together
}

// lost tells of a peer that could not be reached, if that is what err says.
func (s *side) lost(ctx context.Context, p Peer, err error) {
	if ctx.Err() == nil || errors.Is(err, errSilent) {
		s.speed.fails()
	}
	if errors.Is(err, ErrNotHere) || ctx.Err() != nil && !errors.Is(err, errSilent) {
		return
	}
	s.Failed(p)
}

// serves counts a body that is asked for until the returned function is called,
// which gives back its slot.
func (s *side) serves(by *tally, release func()) func() {
	by.served.Add(1)
	s.speed.asks()
	return func() {
		s.speed.ends()
		by.served.Add(-1)
		release()
	}
}
