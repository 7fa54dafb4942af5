// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
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
	// next request is there before the last one has been answered, and slowPiece
	// is how long a piece may take for that to matter.
	maxFlying = 3
	slowPiece = 250 * time.Millisecond

	// pieceTick is how often slow peers are looked for when there is nothing
	// else to ask for, and hastiness how long a piece may take in any case before
	// another peer is asked for it.
	pieceTick = 100 * time.Millisecond
	hastiness = 300 * time.Millisecond
)

// A puller brings a blob from several peers in pieces, the last one first, so
// that each is proven by the one behind it (package store says how). Its fields
// belong to run's goroutine. When a reader gets impatient, the front is fetched
// from mirrors meanwhile.
type puller struct {
	s    *search
	g    *store.Growing
	ctx  context.Context // of everything that it starts
	stop context.CancelFunc
	work sync.WaitGroup

	peers    []*holder
	pieces   []piece // by number
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
	gone   bool
}

// A piece is one that is not proven yet.
type piece struct {
	asked []*request // under way
	got   *request   // answered
}

// A request is for one piece from one peer.
type request struct {
	number  int
	of      *holder
	began   time.Time
	cancel  context.CancelFunc
	written store.Piece
	err     error
	ours    bool // err is our own disk's
	date    time.Time
}

func newPuller(s *search, from []Peer) *puller {
	g := s.growing.Load()
	n := int((s.want.Size + store.PieceSize - 1) / store.PieceSize)
	p := &puller{s: s, g: g, pieces: make([]piece, n), ended: make(chan *request)}
	p.low = int((g.Tail() + store.PieceSize - 1) / store.PieceSize)
	p.ctx, p.stop = context.WithCancel(s.ctx)
	for _, peer := range from {
		p.add(peer)
	}
	return p
}

// add lets one more peer send pieces.
func (p *puller) add(peer Peer) { p.peers = append(p.peers, &holder{Peer: peer}) }

// run brings all that can be brought in pieces, and what is then missing.
func (p *puller) run() error {
	err := p.pull()
	p.stop()
	p.work.Wait()
	p.s.noteModified(p.modified)
	if err == nil && !p.whole() {
		return p.s.complete(p.rest())
	}
	return err
}

// pull returns when the blob is whole, or no pieces are left to be had of it.
func (p *puller) pull() error {
	var front chan error
	impatient := p.s.patient().Done()
	tick := time.NewTicker(pieceTick)
	defer tick.Stop()
	for !p.whole() {
		p.assign()
		if p.flying == 0 && front == nil {
			return p.why()
		}
		var err error
		select {
		case r := <-p.ended:
			err = p.settle(r)
		case <-impatient:
			if p.ctx.Err() == nil {
				impatient, front = nil, p.startFront()
			}
		case err = <-front:
			front = nil
			if err == nil {
				return nil
			}
			err = p.frontEnded(err)
		case <-tick.C:
		case <-p.ctx.Done():
			err = context.Cause(p.ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// whole tells whether front and tail have met.
func (p *puller) whole() bool { return p.g.Len() >= p.g.Tail() }

// floor is the number of the first piece that the front has not reached.
func (p *puller) floor() int { return int((p.g.Len() + store.PieceSize - 1) / store.PieceSize) }

// why is for when nothing is left to be asked for: all is there but what is
// missing of the piece where the front ends, or the peers have gone.
func (p *puller) why() error {
	if p.low > p.floor() {
		return errNobody
	}
	return nil
}

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

// startFront has mirrors feed the front.
func (p *puller) startFront() chan error {
	front := make(chan error, 1)
	p.work.Go(func() { front <- p.s.outside(p.ctx) })
	return front
}

// frontEnded goes on without mirrors, if they are what failed.
func (p *puller) frontEnded(err error) error {
	if p.ctx.Err() != nil || isStorage(err) || errors.Is(err, errWrong) {
		return err
	}
	p.s.refused = err
	p.s.entry.goInside()
	return nil
}

// assign gives each peer what it may be asked for, in turns.
func (p *puller) assign() {
	for more := true; more; {
		more = false
		for _, h := range p.peers {
			if h.gone || h.flying >= h.most() {
				continue
			}
			number := p.blocking(h)
			if h.flying+h.put < min(maxUnproven, 1+h.proven) {
				number = p.next(h)
			}
			if number >= 0 {
				p.ask(h, number)
				more = true
			}
		}
	}
}

// most is how many requests to a peer may be under way.
func (h *holder) most() int {
	if h.took < slowPiece {
		return maxFlying
	}
	return 1
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
		case len(one.asked) == 0:
			return i
		case late < 0 && len(one.asked) == 1 && one.asked[0].keepsWaiting(h):
			late = i
		}
	}
	return late
}

// keepsWaiting tells whether another peer takes longer than h, which has shown
// how fast it is, would have needed twice.
func (r *request) keepsWaiting(h *holder) bool {
	return r.of != h && h.took > 0 && time.Since(r.began) > max(2*h.took, hastiness)
}

func (p *puller) ask(h *holder, number int) {
	ctx, cancel := context.WithCancel(p.ctx)
	r := &request{number: number, of: h, began: time.Now(), cancel: cancel}
	p.pieces[number].asked = append(p.pieces[number].asked, r)
	h.flying++
	p.flying++
	p.work.Go(func() {
		r.err = p.bring(ctx, r)
		cancel()
		select {
		case p.ended <- r:
		case <-p.ctx.Done():
		}
	})
}

// bring has a piece written, on a goroutine of its own.
func (p *puller) bring(ctx context.Context, r *request) error {
	size := p.s.want.Size
	from := int64(r.number) * store.PieceSize
	to := min(from+store.PieceSize, size)
	body, err := p.s.askHolder(ctx, r.of.Peer, from, to, size)
	if err != nil {
		return err
	}
	defer body.Close()
	var start Digest
	switch {
	case body.State != nil:
		start = *body.State
	case from > 0:
		return fmt.Errorf("from %s: %w: it did not tell the state before piece %d", r.of.Addr, errUnfit, r.number)
	}
	reader := &errorReader{Reader: body}
	r.date = body.Modified
	r.written, err = p.g.PutPiece(r.number, start, reader)
	r.ours = err != nil && !reader.blames(err) && !errors.Is(err, store.ErrTaken)
	return err
}

// settle takes note of how a request ended.
func (p *puller) settle(r *request) error {
	h, one := r.of, &p.pieces[r.number]
	p.flying--
	h.flying--
	one.asked = slices.DeleteFunc(one.asked, func(other *request) bool { return other == r })
	switch {
	case r.ours:
		return storageError{r.err}
	case errors.Is(r.err, store.ErrTaken):
		return nil // by another peer, or by the front
	case r.err != nil:
		p.lose(h, r.err)
		return nil
	}
	if r.number < len(p.pieces)-1 { // the last one may be short
		h.took = time.Since(r.began)
	}
	p.modified = r.date
	p.keep(r, one)
	return p.prove()
}

// keep takes an answer. Of two, the one asked for later has got the place.
func (p *puller) keep(r *request, one *piece) {
	for _, other := range one.asked {
		other.cancel()
	}
	if one.got != nil {
		if one.got.began.After(r.began) {
			return
		}
		one.got.of.put--
	}
	one.got = r
	r.of.put++
}

// prove proves what can be proven, and convicts whoever lied.
func (p *puller) prove() error {
	for p.low > 0 && p.pieces[p.low-1].got != nil {
		one := &p.pieces[p.low-1]
		r := one.got
		err := p.g.Prove(r.written)
		one.got = nil
		r.of.put--
		switch {
		case err == nil:
			r.of.proven++
			p.low--
			p.s.got()
		case errors.Is(err, store.ErrTaken):
			return nil // it has changed hands
		case errors.As(err, new(*store.MismatchError)):
			p.convict(r)
		default:
			return storageError{err}
		}
	}
	return nil
}

// convict sets a peer aside whose piece is proven to be wrong, with everything
// that it sent.
func (p *puller) convict(r *request) {
	p.s.f.cfg.LAN.Liar(r.of.Peer, p.s.want.Digest, fmt.Sprintf("piece %d is wrong", r.number))
	for i := range p.pieces {
		if got := p.pieces[i].got; got != nil && got.of == r.of {
			p.pieces[i].got = nil
		}
	}
	r.of.put = 0
	p.drop(r.of)
}

// lose goes on without a peer, unless it was not it that ended the request.
func (p *puller) lose(h *holder, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	p.s.lost(h.Peer, err)
	p.drop(h)
}

// drop asks a peer for nothing any more.
func (p *puller) drop(h *holder) {
	h.gone = true
	for i := range p.pieces {
		for _, r := range p.pieces[i].asked {
			if r.of == h {
				r.cancel()
			}
		}
	}
}
