// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// relayPatience is how long a place that fetches the blob itself may send
	// nothing before the homes are asked for another, and perPlace how much longer
	// for each place between it and the lease holder: the first to notice a dead
	// one must be who reads from it.
	relayPatience = 2 * time.Second
	perPlace      = 500 * time.Millisecond

	// maxDepth bounds the places between: a tree of 255 askers has eight levels,
	// and it is a home that says where in it this node is.
	maxDepth = 8

	// complaints is how often the homes are asked in a row, askAgain apart.
	complaints = 5

	// maxUnsized bounds a file whose size no index names, in bytes: a peer must
	// not fill the store with it.
	maxUnsized = 1 << 30
)

// errPeersWrong marks wrong bytes that were not the mirror's alone.
var errPeersWrong = fmt.Errorf("%w, from other nodes", errWrong)

// A feeder is a peer whose bytes are in the front, unproven.
type feeder struct {
	Peer
	from  int64
	whole bool // it said that it has the blob whole
}

// coming reads from a place that fetches the blob itself, for as long as the
// homes know no better.
func (s *search) coming(a Answer) (Answer, error) {
	s.entry.goInside()
	places := s.usable(a.From, &s.f.lan.shunned, &s.f.barred)
	if len(places) == 0 {
		s.missed(a.From...)
		if len(a.From) > 0 { // the home insists on those who gave nothing
			s.misses += freeMisses
		}
		if !sleep(s.ctx, askAgain) {
			return Answer{}, context.Cause(s.ctx)
		}
		return s.ask()
	}
	st := s.read(places[0])
	defer st.stop()
	depth := min(bits.Len(uint(max(a.Number, 0))), maxDepth)
	return s.watch(st, relayPatience+perPlace*time.Duration(depth))
}

// watch waits for the end of a stream, and asks the homes for another place when
// it is silent or slow. Until there is one the stream goes on.
func (s *search) watch(st *stream, patience time.Duration) (Answer, error) {
	tick := time.NewTicker(patience / 10)
	defer tick.Stop()
	for {
		select {
		case err := <-st.done:
			return s.ended(st, err)
		case <-tick.C:
		}
		if s.f.lan.shunned.has(st.peer) {
			return s.desert(st)
		}
		if st.fair(patience, s.f.gate.pace()) {
			continue
		}
		if st.bytes.Load() > 0 { // who has not begun may only wait for its turn at the mirror
			s.f.lan.shunned.strike(st.peer, shunnedFor)
		}
		if st.good.After(s.moved) {
			s.moved, s.misses = st.good, 0
		}
		mute := st.bytes.Load() == 0
		a := s.complain(st)
		if a.State == Leased && mute && st.bytes.Load() > 0 { // it has just begun, perhaps with all of it
			a.Lease.GiveUp(s.have())
			continue
		}
		switch places := s.usable(a.From, &s.f.lan.shunned, &s.f.barred); {
		case a.State == Leased, a.State == Held && len(places) > 0:
		case s.hopeless():
			s.f.lan.shunned.add(st.peer, shunnedFor)
			a = Answer{State: Nowhere}
		case len(places) == 0 || places[0] == st.peer:
			continue
		}
		s.lease = a.Lease // also where the stream has just ended well
		return s.leave(st, a)
	}
}

// complain asks the homes for another place than a stream's. Where they have
// none just then it asks some more times: a lease may be about to move, to the
// next who asks.
func (s *search) complain(st *stream) (a Answer) {
	silent := append(s.silent[:len(s.silent):len(s.silent)], st.peer)
	bytes := st.bytes.Load()
	for range complaints {
		a = s.find(s.ctx, s.refused == nil && s.entry.mayLease(), silent)
		if a.State != Coming || len(a.From) > 0 || st.bytes.Load() > bytes || !sleep(s.ctx, askAgain) {
			break
		}
	}
	return a
}

// desert ends a stream from a peer that has left several blobs unfinished.
func (s *search) desert(st *stream) (Answer, error) {
	if a, err := s.leave(st, Answer{}); err != nil {
		return a, err
	}
	return s.again()
}

// leave ends a stream for what another answer says.
func (s *search) leave(st *stream, a Answer) (Answer, error) {
	err := st.stop()
	switch {
	case err == nil:
		return a, io.EOF
	case isStorage(err) || errors.Is(err, errWrong):
		return a, err
	}
	s.missed(st.peer)
	return a, nil
}

// ended is for a stream that has ended by itself.
func (s *search) ended(st *stream, err error) (Answer, error) {
	switch {
	case err == nil:
		return Answer{}, io.EOF
	case s.ctx.Err() != nil || isStorage(err) || errors.Is(err, errWrong):
		return Answer{}, err
	}
	s.f.cfg.Log.Debug("a peer's answer broke; asking for another", "url", s.want.URL, "peer", st.peer.Addr, "at", s.have(), "err", err)
	if st.bytes.Load() >= slowRate {
		s.got()
	}
	s.missed(st.peer)
	return s.again()
}

// A stream copies what one peer sends to the front.
type stream struct {
	peer   Peer
	cancel context.CancelFunc
	done   chan error // receives the end, once
	err    error      // the end, once received
	bytes  atomic.Int64
	last   atomic.Int64 // when bytes came last, in Unix nanoseconds; 0: not asked yet

	// The watcher's own.
	seen   int64     // bytes when the rate was looked at
	since  time.Time // and the time
	good   time.Time // when the rate was above the floor
	rested time.Time // when the homes were asked last
}

// read begins to read from a peer at the offset that is here.
func (t *transfer) read(p Peer) *stream {
	ctx, cancel := context.WithCancel(t.ctx)
	st := &stream{peer: p, cancel: cancel, done: make(chan error, 1)}
	t.f.wg.Go(func() {
		st.done <- t.pour(ctx, st)
		close(st.done)
	})
	return st
}

// stop ends the stream, and returns how it ended. It may be called again.
func (st *stream) stop() error {
	st.cancel()
	if err, first := <-st.done; first {
		st.err = err
	}
	return st.err
}

// fair tells whether the stream is as it should be, and notes whether it is at
// least worth waiting for. Where it is not as it should be, that is told again
// after as long.
func (st *stream) fair(patience time.Duration, should pace) bool {
	last := st.last.Load()
	if last == 0 {
		return true // it waits for its turn here
	}
	now := time.Now()
	if st.since.IsZero() {
		st.since = now
	}
	slow := false
	if passed := now.Sub(st.since); passed >= slowWindow {
		n := st.bytes.Load()
		slow = n-st.seen < int64(float64(should.fair)*passed.Seconds())
		if n-st.seen >= int64(float64(should.floor)*passed.Seconds()) {
			st.good = now
		}
		st.since, st.seen = now, n
	}
	silent := now.Sub(time.Unix(0, last)) >= patience && now.Sub(st.rested) >= patience
	if slow || silent {
		st.rested = now
	}
	return !slow && !silent
}

// pour is the stream's work.
func (t *transfer) pour(ctx context.Context, st *stream) error {
	release, err := t.f.lan.bodies.acquire(ctx, st.peer)
	if err != nil {
		return err
	}
	st.last.Store(time.Now().UnixNano())
	from := t.have()
	body, err := t.f.lan.open(ctx, st.peer, t.want.Digest, from, -1, 0, release)
	if err != nil {
		return err
	}
	defer body.Close()
	if t.want.Size >= 0 && body.Size >= 0 && body.Size != t.want.Size {
		return fmt.Errorf("from %s: %w: it is of %d bytes", st.peer.Addr, errUnfit, body.Size)
	}
	t.noteModified(body.Modified)
	end := sizeOr(t.want.Size, sizeOr(body.Size, maxUnsized))
	if end > maxUnsized && t.want.Size < 0 {
		return fmt.Errorf("from %s: %w: it is of %d bytes, and its size is not known here", st.peer.Addr, errUnfit, end)
	}
	first := func() { t.fed(feeder{st.peer, from, !body.Growing}) }
	err = t.copy(&notingReader{io.LimitReader(body, end-from), first}, func(n int64) {
		st.bytes.Add(n)
		st.last.Store(time.Now().UnixNano())
		t.flow()
	})
	if err == nil && (t.want.Size >= 0 || body.Size >= 0) && t.have() < end {
		err = fmt.Errorf("from %s: %w after %d of %d bytes", st.peer.Addr, io.ErrUnexpectedEOF, t.have(), end)
	}
	return err
}

func sizeOr(size, other int64) int64 {
	if size < 0 {
		return other
	}
	return size
}

// noteModified takes a peer's word for the date where it can do no harm: the
// bytes under this name do not change.
func (t *transfer) noteModified(modified time.Time) {
	if t.want.Exact && t.head.Modified.IsZero() {
		t.head.Modified = modified
	}
}

// fed takes note of unproven bytes before they are added to the front.
func (t *transfer) fed(by feeder) {
	if t.trusted.Load() == allTrusted {
		t.trusted.Store(t.have())
		t.growing.Load().SetOrigin(FromLAN)
	}
	t.feeders = append(t.feeders, by)
}

// flow lets in those who may have unproven bytes, once there are some.
func (t *transfer) flow() {
	if t.trusted.Load() == allTrusted || t.want.Size <= heldBack {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.view.flows {
		t.view.flows = true
		t.changeLocked()
	}
}

// blame finds who is to be left alone for wrong bytes. Who had the blob whole
// and sent all of it has lied; who relayed may have been lied to.
func (t *transfer) blame() {
	if len(t.feeders) == 1 && t.feeders[0].whole && t.feeders[0].from == 0 {
		t.f.lan.Liar(t.feeders[0].Peer, t.want.Digest, "it does not have the hash")
		return
	}
	for _, by := range t.feeders {
		t.f.barred.add(by.Peer, barredFor)
	}
}

// notingReader calls first before it returns its first bytes.
type notingReader struct {
	io.Reader
	first func()
}

func (r *notingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 && r.first != nil {
		r.first()
		r.first = nil
	}
	return n, err
}
