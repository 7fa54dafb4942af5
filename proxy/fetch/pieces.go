// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"apt-dht/store"
)

const (
	// maxUnproven is how many pieces one peer may have sent, or been asked for,
	// that are not proven; it begins with one, and earns each further one by
	// a right piece. So a liar wastes one piece.
	maxUnproven = 8

	// maxFlying is how many of them it is asked for at the same time, so that the
	// next request is there before the last one has been answered.
	maxFlying    = 3
	maxFlyingWAN = 2

	// maxLate is how often in a row one on the internet may be overtaken.
	maxLate = 2

	// pieceTick is how often slow peers are looked for when there is nothing
	// else to ask for, and hastiness how long a piece may take in any case before
	// another peer is asked for it.
	pieceTick = 100 * time.Millisecond
	hastiness = 300 * time.Millisecond

	// hopelessly is for how much longer a piece must take for an unknown peer to be
	// given it.
	hopelessly = 10 * time.Second
)

// A puller brings what one side's nodes have of a blob in pieces, the last one
// first, so that each is proven by the one behind it (package store says how). Its
// fields belong to the goroutine that drives it: search.pull, or outing.run.
type puller struct {
	t     *transfer
	side  *side
	tally *tally // may be nil
	g     *store.Growing
	ctx   context.Context // of everything that it starts
	stop  context.CancelFunc
	work  sync.WaitGroup

	peers    []*holder
	pieces   []piece // by number; none where there is but one
	low      int     // the pieces from here on are proven
	flying   int     // requests under way
	ended    chan *request
	modified time.Time
}

// A holder is a peer that is being asked for pieces.
type holder struct {
	Peer
	flying int           // requests under way
	put    int           // pieces that came, and are not proven
	proven int           // pieces that were right
	took   time.Duration // how long its last whole piece took; 0: none has come
	late   int           // how often others were faster since then
	gone   bool
}

// A piece is one that is not proven yet.
type piece struct {
	asked []*request // under way
	got   *request   // answered
	tried bool       // one of which nothing was known has been given it
}

func (t *transfer) newPuller(ctx context.Context, of *side) *puller {
	g := t.growing.Load()
	p := &puller{t: t, side: of, g: g, ended: make(chan *request)}
	if t.want.Size > store.PieceSize {
		p.pieces = make([]piece, (t.want.Size+store.PieceSize-1)/store.PieceSize)
		p.low = int((g.Tail() + store.PieceSize - 1) / store.PieceSize)
	}
	p.ctx, p.stop = context.WithCancel(ctx)
	return p
}

// add lets one more peer send pieces.
func (p *puller) add(peer Peer) { p.peers = append(p.peers, &holder{Peer: peer}) }

// live are the peers that may be asked, now or soon.
func (p *puller) live() int {
	n := 0
	for _, h := range p.peers {
		if !h.gone {
			n++
		}
	}
	return n
}

// end ends everything that the puller has started.
func (p *puller) end() {
	p.stop()
	p.work.Wait()
	p.t.noteModified(p.modified)
}

// whole tells whether front and tail have met.
func (p *puller) whole() bool { return p.g.Len() >= p.g.Tail() }

// floor is the number of the first piece that the front has not reached.
func (p *puller) floor() int { return int((p.g.Len() + store.PieceSize - 1) / store.PieceSize) }

// rest are the peers that are left.
func (p *puller) rest() []Peer {
	var left []Peer
	for _, h := range p.peers {
		if !h.gone {
			left = append(left, h.Peer)
		}
	}
	return left
}

// assign gives each peer what it may be asked for, in turns.
func (p *puller) assign() {
	if p.side.levels {
		p.leastAskedFirst()
	}
	for more := true; more; {
		more = false
		for _, h := range p.peers {
			if !p.free(h) || h.flying >= p.most(h) {
				continue
			}
			number := p.blocking(h)
			if h.flying+h.put < min(maxUnproven, 1+h.proven) {
				number = p.next(h)
			}
			if number >= 0 {
				p.begin(h, number)
				more = true
			}
		}
	}
}

// leastAskedFirst orders the peers by how much all transfers together ask of them.
func (p *puller) leastAskedFirst() {
	if len(p.pieces) == 0 {
		return
	}
	slices.SortStableFunc(p.peers, func(a, b *holder) int {
		return cmp.Compare(p.side.bodies.users(a.Peer), p.side.bodies.users(b.Peer))
	})
}

// free tells whether a peer may be asked now.
func (p *puller) free(h *holder) bool { return !h.gone && !p.side.busy.has(h.Peer) }

// most is how many requests to a peer may be under way.
func (p *puller) most(h *holder) int {
	if h.took >= p.side.slowPiece || p.side.levels && p.unasked() <= p.live() {
		return 1
	}
	return p.side.flying
}

// unasked is how many pieces nobody has been asked for.
func (p *puller) unasked() (n int) {
	for i := p.floor(); i < p.low; i++ {
		if p.pieces[i].got == nil && len(p.pieces[i].asked) == 0 {
			n++
		}
	}
	return n
}

// blocking is the piece that must be proven next, if another peer takes too long
// for it, or it was lost with one and nobody is left who may be asked: those that
// have come prove nothing without it, however many. -1: it is not so.
func (p *puller) blocking(h *holder) int {
	i := p.low - 1
	if i < p.floor() || p.pieces[i].got != nil {
		return -1
	}
	if asked := p.pieces[i].asked; p.flying == 0 || len(asked) == 1 && asked[0].keepsWaiting(h) {
		return i
	}
	return -1
}

// next is the piece that h should be asked for: the last one that nobody has
// been asked for, else one that another peer takes too long for. -1: none.
func (p *puller) next(h *holder) int {
	late := -1
	for i := p.low - 1; i >= p.floor(); i-- {
		one := &p.pieces[i]
		switch {
		case one.got != nil:
		case len(one.asked) == 0, p.queues(one, h):
			return i
		case late < 0 && len(one.asked) == 1 && (one.asked[0].keepsWaiting(h) || p.mayTry(i, h)):
			late = i
		}
	}
	return late
}

// queues tells whether the only one who was asked for a piece has others to serve
// first, and h has not.
func (p *puller) queues(one *piece, h *holder) bool {
	return p.side.levels && len(one.asked) == 1 && one.asked[0].of != h && !one.asked[0].served.Load() && p.isIdle(h)
}

// isIdle tells whether a peer would serve one more request at once.
func (p *puller) isIdle(h *holder) bool { return p.side.bodies.users(h.Peer) < p.side.bodies.most }

// keepsWaiting tells whether another peer takes longer than h, which has shown
// how fast it is, would have needed twice. Of one that has only shown that it is
// honest that is assumed.
func (r *request) keepsWaiting(h *holder) bool {
	took := h.took
	if took == 0 && h.proven > 0 {
		took = slowPieceWAN
	}
	return r.of != h && took > 0 && time.Since(r.began) > max(2*took, hastiness)
}

// mayTry tells whether h, of which nothing is known, is given a piece for which
// another peer will take very long still. What that one has sent is lost by it,
// so that this is done but once for a piece.
func (p *puller) mayTry(number int, h *holder) bool {
	one := &p.pieces[number]
	if one.tried || h.took > 0 || h.proven > 0 || len(one.asked) != 1 || one.asked[0].of == h {
		return false
	}
	r, now := one.asked[0], time.Now()
	came, passed := r.progress.come(now), now.Sub(r.began)
	size := min(store.PieceSize, p.t.want.Size-int64(number)*store.PieceSize)
	return came > 0 && float64(size-came)*passed.Seconds() > hopelessly.Seconds()*float64(came)
}
