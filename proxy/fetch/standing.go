// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"time"

	"apt-dht/store"
)

const (
	// usefulShare is what of the mirrors' rate the internet's nodes must bring, all
	// together, for mirrors to stand back.
	usefulShare = 2.0 / 3

	// grace is how long nodes may take to begin.
	grace = 500 * time.Millisecond

	// wholeWithin is how long readers may wait for a file of which nodes bring the
	// end first, if it will be whole by then: half of the time that apt waits.
	wholeWithin = 15 * time.Second

	// suspectPatience is how long mirrors wait for a node to be found where they
	// have all sent wrong bytes.
	suspectPatience = 2 * time.Second

	// leaseWait is how long the front may stay where it is while other nodes of
	// the local network wait: after 5 s their homes would move the lease.
	leaseWait = 4 * time.Second
)

// A standing says whether mirrors stand back for nodes on the internet.
type standing struct {
	patience time.Duration // for the first node to be found
	first    time.Time     // when it was
	judged   time.Time     // when it was looked how fast they are
	used     time.Duration // for that they were read from, or not asked though they could be
	share    float64       // of the bodies that nodes send this node, how many are this blob's
	alone    time.Duration // used, counting only this blob's share of it
	last     mark          // when they were measured last
	rates    [2]float64    // of the last two samples, in bytes per second of alone
	seen     int64         // bytes that had come when that was looked at last
	moved    time.Time     // when there were more of them than before
	failed   bool          // mirrors have been asked because nodes were of no use
}

// A mark is how far a standing was.
type mark struct {
	used, alone time.Duration
	bytes       int64
}

func (s *standing) isMet() bool { return !s.first.IsZero() }

func (s *standing) met(now time.Time) {
	if !s.isMet() {
		s.first, s.judged, s.share = now, now, 1
	}
}

// isMirrorDue tells whether mirrors are to be asked: where no node is found in
// time, where those that are do not bring the file as fast as mirrors would, or
// where somebody cannot wait for them.
func (o *outing) isMirrorDue(now time.Time) bool {
	s := &o.standing
	switch {
	case len(o.t.sources) == 0: // that is told at once
		return true
	case o.t.suspect && o.live() > 0:
		return o.nodesAreQuiet(now)
	case o.live() == 0:
		s.failed = s.isMet()
		return o.sought == nil || now.Sub(o.began) >= s.patience
	case o.areTooSlow(now):
		s.failed = true
		return true
	}
	return o.isHurried(now)
}

// areTooSlow tells whether nodes bring the blob more slowly than usefulShare of what
// mirrors would. Before that can be told of this blob, and while it waits for its
// turn behind others, it is told of all that nodes bring.
func (o *outing) areTooSlow(now time.Time) bool {
	s := &o.standing
	passed := now.Sub(s.judged)
	s.judged = now
	fair := usefulShare * float64(o.t.f.gate.mirrorRate())
	served := o.tally.served.Load()
	waits := served == 0 && o.flying+len(o.gap.under) > 0
	if !waits {
		s.use(passed, o.share(served), o.tally.bytes.Load())
	}
	if waits || s.used < grace {
		rate, measured := o.side.speed.rate()
		return measured && float64(rate) < fair
	}
	missing := o.g.Tail() - o.g.Len()
	left := o.left(now)
	within := grace.Seconds() + float64(missing)/fair
	return float64(left) > max(s.rates[0], s.rates[1])*within
}

// nodesAreSooner tells whether nodes would bring the last piece before the mirror
// that feeds the front gets there: what both have under way at the end crosses the
// uplink twice. It says so, too, where that has to be found out again.
func (o *outing) nodesAreSooner() bool {
	rate, measured := o.side.speed.rate()
	if o.front == nil || !measured || rate == 0 || o.side.speed.isOld() {
		return true
	}
	missing := o.g.Tail() - o.g.Len()
	return float64(missing)*float64(rate) >= float64(store.PieceSize)*float64(o.t.f.gate.mirrorRate())
}

// share is how many of the bodies that nodes send this node are this blob's, of
// which so many are served: mirrors would have others to serve as well.
func (o *outing) share(served int64) float64 {
	if served == 0 {
		return 1
	}
	return float64(served) / float64(max(served, o.side.bodies.inUse.Load()))
}

// use counts time in which bytes could come, the blob's share being what it is now,
// and was when time was counted last, if that was less: what is new has hardly begun.
func (s *standing) use(passed time.Duration, share float64, bytes int64) {
	s.used += passed
	s.alone += time.Duration(float64(passed) * min(share, s.share))
	s.share = share
	if s.used-s.last.used < grace {
		return
	}
	s.rates = [2]float64{s.rates[1], float64(bytes-s.last.bytes) / (s.alone - s.last.alone).Seconds()}
	s.last = mark{s.used, s.alone, bytes}
}

// left is how many bytes nodes still have to bring: what has come of a piece
// counts once, and not if no more of it does.
func (o *outing) left(now time.Time) int64 {
	if len(o.pieces) == 0 {
		return o.g.Tail() - o.g.Len() - o.gap.come(now)
	}
	floor := o.floor()
	left := min(int64(floor)*store.PieceSize, o.g.Tail()) - o.g.Len() - o.gap.come(now)
	for i := floor; i < o.low; i++ {
		one := &o.pieces[i]
		if one.got != nil {
			continue
		}
		most := int64(0)
		for _, r := range one.asked {
			most = max(most, r.progress.come(now))
		}
		left += min(store.PieceSize, o.t.want.Size-int64(i)*store.PieceSize) - most
	}
	return left
}

// nodesAreQuiet tells whether no node has sent anything for proofWait.
func (o *outing) nodesAreQuiet(now time.Time) bool {
	s := &o.standing
	if n := o.tally.bytes.Load(); n != s.seen {
		s.seen, s.moved = n, now
	}
	since := s.first
	if s.moved.After(since) {
		since = s.moved
	}
	return now.Sub(since) >= proofWait
}

// isHurried tells whether somebody waits for the front who cannot wait until the
// blob is whole: other nodes, or a reader who has waited for proofWait.
func (o *outing) isHurried(now time.Time) bool {
	if o.t.lease != nil && !o.t.f.alone() && now.Sub(o.began) >= leaseWait {
		return true
	}
	return o.t.calm.Err() != nil && !o.isWholeSoon(now)
}

// isWholeSoon tells whether nodes, as fast as they have been, bring the blob within
// wholeWithin.
func (o *outing) isWholeSoon(now time.Time) bool {
	missing := o.left(now)
	brought := o.t.want.Size - o.had - missing
	left := o.began.Add(wholeWithin).Sub(now)
	return brought > 0 && float64(missing)*float64(now.Sub(o.standing.first)) <= float64(brought)*float64(left)
}
