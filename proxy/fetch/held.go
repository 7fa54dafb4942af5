// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"apt-dht/store"
)

// maxCompleting is how many missing pieces are held in memory at a time, of all
// transfers together, until they are proven.
const maxCompleting = 8

// errNobody: none of the peers that were said to have the blob gives it.
var errNobody = errors.New("no peer gives it")

// takeHeld takes the blob from peers that have it whole, from several at once
// where it is large. Nobody reads what is not proven.
func (s *search) takeHeld(from []Peer) error {
	if s.want.Size < 0 {
		return s.takeWhole(from)
	}
	g := s.growing.Load()
	if g.Tail()-g.Len() <= store.PieceSize {
		return s.complete(from)
	}
	return s.pull(from)
}

// patient ends when mirrors are to be asked, unless they have been, or are of no
// use.
func (s *search) patient() context.Context {
	if s.refused != nil || s.suspect {
		return s.ctx
	}
	return s.calm
}

// complete takes what is missing, at most a piece, from one peer or another.
func (s *search) complete(from []Peer) error {
	var misfit error
	for _, p := range from {
		began := time.Now()
		err := s.completeFrom(p)
		switch {
		case err == nil:
			s.f.lan.shunned.clear(p)
			return nil
		case s.ctx.Err() != nil:
			return context.Cause(s.ctx)
		case s.patient().Err() != nil:
			if time.Since(began) >= peerSilence {
				s.f.lan.shunned.add(p, shunnedFor) // for no more than a piece
			}
			return errImpatient
		case isStorage(err):
			return err
		case !errors.As(err, new(*store.MismatchError)):
			s.lost(&s.f.lan, p, err)
		case s.have() == 0:
			s.f.lan.Liar(p, s.want.Digest, "it does not have the hash")
		default:
			misfit = err // of the beginning, or of what was added
		}
	}
	if misfit != nil && s.trusted.Load() != allTrusted {
		return s.wrong(misfit)
	}
	return errNobody
}

func (s *search) completeFrom(p Peer) error {
	ctx := s.patient()
	select {
	case s.f.completing <- struct{}{}:
		defer func() { <-s.f.completing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	g := s.growing.Load()
	release, err := s.f.lan.bodies.acquire(ctx, p)
	if err != nil {
		return err
	}
	body, err := s.openHolder(ctx, &s.f.lan, p, g.Len(), g.Tail(), nil, release)
	if err != nil {
		return err
	}
	defer body.Close()
	r := &errorReader{Reader: body}
	err = g.Complete(r)
	if err != nil && !r.blames(err) && !errors.As(err, new(*store.MismatchError)) {
		return storageError{err}
	}
	s.noteModified(body.Modified)
	return err
}

// openHolder asks a peer that has the blob whole for a part of it, which counts in
// by, if that is not nil. release, which gives the slot for it back, is called in
// any case.
func (t *transfer) openHolder(ctx context.Context, of *side, p Peer, from, to int64, by *tally, release func()) (*peerBody, error) {
	if by != nil {
		release = of.serves(by, release)
	}
	body, err := of.open(ctx, p, t.want.Digest, from, to, of.silence, release)
	if err != nil {
		return nil, err
	}
	body.tally = by
	if body.Growing || body.Size >= 0 && body.Size != t.want.Size {
		body.Close()
		return nil, fmt.Errorf("from %s: %w: growing %v, %d bytes", p.Addr, errUnfit, body.Growing, body.Size)
	}
	return body, nil
}

// lost takes note of why a peer that has the blob does not give it.
func (t *transfer) lost(of *side, p Peer, err error) {
	t.f.cfg.Log.Debug("a peer did not give what it holds", "url", t.want.URL, "peer", p.Addr, "err", err)
	switch {
	case errors.Is(err, errSilent), errors.Is(err, errSlow), errors.Is(err, errUnfit):
		of.shunned.add(p, shunnedFor)
	case t.ctx.Err() == nil:
		of.shunned.strike(p, shunnedFor)
	}
}

// takeWhole takes a blob of unknown size, which can be proven only as a whole.
// When a reader cannot wait for that, nothing of it is of use.
func (s *search) takeWhole(from []Peer) error {
	for _, p := range from {
		err := s.watchWhole(s.read(p))
		switch {
		case err == nil, s.ctx.Err() != nil, isStorage(err), errors.Is(err, errWrong):
			return err
		case errors.Is(err, errImpatient):
			s.anew()
			return err
		}
		s.lost(&s.f.lan, p, err)
	}
	return errNobody
}

func (s *search) watchWhole(st *stream) error {
	tick := time.NewTicker(peerSilence / 8)
	defer tick.Stop()
	for {
		select {
		case err := <-st.done:
			return err
		case <-s.patient().Done():
			if st.stop() == nil {
				return nil
			}
			return errImpatient
		case <-tick.C:
			if !st.fair(peerSilence, pace{fair: slowRate}) && st.stop() != nil {
				return errSilent
			}
		}
	}
}

// errorReader remembers what broke it, to tell a peer's failure from one of our
// own disk.
type errorReader struct {
	io.Reader
	err error
}

func (r *errorReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// blames tells whether err, of whoever read from r, is r's fault.
func (r *errorReader) blames(err error) bool {
	return r.err != nil || errors.Is(err, io.ErrUnexpectedEOF)
}
