// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"apt-dht/store"
)

// A request is for one piece from one peer.
type request struct {
	number int
	of     *holder
	began  time.Time
	cancel context.CancelFunc
	served atomic.Bool // its turn at the peer has come
	// overtaken: another peer has brought the piece meanwhile.
	overtaken bool
	written   store.Piece
	err       error
	progress  progress
	ours      bool // err is our own disk's
	date      time.Time
}

// begin asks a peer for a piece.
func (p *puller) begin(h *holder, number int) {
	ctx, cancel := context.WithCancel(p.ctx)
	r := &request{number: number, of: h, began: time.Now(), cancel: cancel}
	one := &p.pieces[number]
	if p.queues(one, h) {
		one.asked[0].cancel()
	}
	one.tried = one.tried || p.mayTry(number, h)
	one.asked = append(one.asked, r)
	h.flying++
	p.flying++
	turn := p.side.bodies.queue(h.Peer)
	r.served.Store(turn.next)
	p.work.Go(func() {
		r.err = p.bring(ctx, r, turn)
		cancel()
		select {
		case p.ended <- r:
		case <-p.ctx.Done():
		}
	})
}

// bring has a piece written, on a goroutine of its own.
func (p *puller) bring(ctx context.Context, r *request, turn ticket) error {
	size := p.t.want.Size
	from := int64(r.number) * store.PieceSize
	to := min(from+store.PieceSize, size)
	release, err := turn.wait(ctx)
	if err != nil {
		return err
	}
	r.served.Store(true)
	body, err := p.t.openHolder(ctx, p.side, r.of.Peer, from, to, p.tally, release)
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
	reader := &errorReader{Reader: &r.progress}
	r.progress.Reader = body
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
		if h.took > 0 || h.proven > 0 { // so that two which have become slower do not go on taking it from each other
			h.took = max(h.took, time.Since(r.began))
		}
		return nil // by another peer, or by the front
	case r.err != nil:
		p.lose(h, r.err)
		if r.overtaken {
			p.overtook(h)
		}
		return nil
	}
	p.shows(r)
	p.modified = r.date
	p.keep(r, one)
	return p.prove()
}

// shows takes note of how fast a peer is. The last piece may be short, and tells
// something only of one of which nothing is known, if it is not too short.
func (p *puller) shows(r *request) {
	took := time.Since(r.began)
	switch size := p.t.want.Size - int64(r.number)*store.PieceSize; {
	case size >= store.PieceSize:
		r.of.took = took
	case r.of.took == 0 && size >= store.PieceSize/4:
		r.of.took = took * store.PieceSize / time.Duration(size)
	}
}

// keep takes an answer. Of two, the one asked for later has got the place.
func (p *puller) keep(r *request, one *piece) {
	for _, other := range one.asked {
		other.overtaken = other.served.Load()
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
			r.of.late = 0
			p.low--
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
	p.side.Liar(r.of.Peer, p.t.want.Digest, fmt.Sprintf("piece %d is wrong", r.number))
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
	switch {
	case errors.Is(err, context.Canceled):
	case errors.Is(err, ErrBusy):
		p.side.busy.add(h.Peer, busyFor)
	default:
		p.t.lost(p.side, h.Peer, err)
		p.drop(h)
	}
}

// overtook goes on without a peer of the internet that was too slow, with nothing
// right in between, for as often as bad luck explains.
func (p *puller) overtook(h *holder) {
	if h.late++; p.side.levels && h.late >= maxLate && p.live() > 1 {
		p.drop(h)
	}
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
