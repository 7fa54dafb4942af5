// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"
)

const (
	// lanPatience is how long a transfer goes without a byte before it asks a
	// mirror whatever the other nodes say, and a reader without one before it
	// asks a mirror for itself: apt waits for 30 s.
	lanPatience = 20 * time.Second

	// maxMisses is how many places in a row may give nothing before that, and
	// freeMisses how many of them may follow each other without a pause.
	maxMisses  = 16
	freeMisses = 4

	// askAgain is the pause before the homes are asked again where there was
	// nobody to read from.
	askAgain = 100 * time.Millisecond

	// maxRestarts is how often a transfer may begin anew with other nodes' bytes.
	maxRestarts = 4

	// maxSilent is how many places that gave nothing the homes are told.
	maxSilent = 16
)

// errImpatient: a reader has waited for long enough for proofs.
var errImpatient = errors.New("a reader waits")

// climb brings all bytes here, from other nodes if they have them, else from
// mirrors.
func (t *transfer) climb() error {
	if t.isWhole() {
		return nil // it was suspended at its very end
	}
	if !t.want.known() || t.f.alone() {
		err := t.climbAlone()
		if !errors.Is(err, errLost) {
			return err
		}
	}
	if t.restarts > maxRestarts {
		return t.outside(t.ctx)
	}
	s := &search{transfer: t, moved: time.Now()}
	if err := s.run(); err != io.EOF {
		return err
	}
	return nil
}

// climbAlone asks the mirror at once: there is nobody else.
func (t *transfer) climbAlone() error {
	if t.want.known() && t.f.cfg.LAN != nil {
		// Others may come, and are to find the lease. It is granted at once.
		t.lease = t.find(t.ctx, true, nil).Lease
	}
	return t.outside(t.ctx)
}

// isWhole tells whether the front has come to its end.
func (t *transfer) isWhole() bool { return t.want.Size > 0 && t.have() >= t.want.Size }

// find puts a question to the blob's homes.
func (t *transfer) find(ctx context.Context, lease bool, silent []Peer) Answer {
	return t.f.cfg.LAN.Find(ctx, Question{
		Digest: t.want.Digest,
		Size:   t.want.Size,
		Have:   t.have(),
		Lease:  lease,
		Silent: silent,
	})()
}

// endLease tells how a lease ended, if there is one.
func (t *transfer) endLease(stored Digest) {
	switch {
	case t.lease == nil:
	case stored != Digest{}:
		t.lease.Done()
	default:
		t.lease.GiveUp(t.have())
	}
	t.lease = nil
}

// A search is a transfer's way over the local network: it does what the blob's
// homes say. Its steps return the next answer; the error is io.EOF when all
// bytes are here.
type search struct {
	*transfer
	silent  []Peer    // places that gave nothing, the latest last
	misses  int       // how many have given nothing since bytes came
	moved   time.Time // when bytes came last, at first when the search began
	refused error     // why the mirrors, which have been asked, did not give it
}

func (s *search) run() error {
	a, err := s.ask()
	for err == nil {
		switch {
		case a.State == Leased:
			a, err = s.leased(a.Lease)
		case a.State == Nowhere, a.State == Coming && s.strict, s.hopeless():
			a, err = s.unleased()
		case a.State == Held:
			a, err = s.held(a.From)
		default:
			a, err = s.coming(a)
		}
	}
	return err
}

// ask asks the homes, for a lease if this node would use it soon. Where nobody
// has the blob it waits until it would.
func (s *search) ask() (Answer, error) {
	for {
		if s.isWhole() { // what sent it broke afterwards
			return Answer{}, io.EOF
		}
		lease := s.refused == nil && s.entry.mayLease()
		a := s.find(s.ctx, lease, s.silent)
		switch {
		case s.ctx.Err() != nil:
			s.lease = a.Lease // to be given back
			return a, context.Cause(s.ctx)
		case s.refused != nil && len(a.From) == 0:
			return a, s.refused
		case a.State != Nowhere || lease:
			return a, nil
		}
		select {
		case <-s.entry.awaitTurn():
			s.moved = time.Now()
		case <-s.ctx.Done():
			return a, context.Cause(s.ctx)
		}
	}
}

// hopeless tells that nothing has come for so long that the mirrors are asked
// whatever the homes say.
func (s *search) hopeless() bool {
	return s.misses > maxMisses || time.Since(s.moved) >= lanPatience
}

// leased fetches from outside for all.
func (s *search) leased(lease Lease) (Answer, error) {
	s.lease = lease
	err := s.outside(s.ctx)
	switch {
	case err == nil:
		return Answer{}, io.EOF
	case errors.Is(err, errLost):
		s.lease = nil
		s.moved = time.Now()
		s.entry.goInside()
		return s.ask()
	}
	return s.otherwise(err)
}

// unleased fetches from outside for this node.
func (s *search) unleased() (Answer, error) {
	if err := s.outside(s.ctx); err != nil {
		return s.otherwise(err)
	}
	return Answer{}, io.EOF
}

// otherwise is for a file that the mirrors do not give: others may have it by
// now.
func (s *search) otherwise(err error) (Answer, error) {
	if s.ctx.Err() != nil || s.refused != nil || isStorage(err) || errors.Is(err, errWrong) {
		return Answer{}, err
	}
	s.refused = err
	s.moved, s.misses = time.Now(), 0
	s.endLease(Digest{})
	return s.ask()
}

// held takes the blob from those who have it whole. When a reader cannot wait
// for that any longer, mirrors are asked.
func (s *search) held(from []Peer) (Answer, error) {
	s.entry.goInside()
	places := s.usable(from, &s.f.lan.shunned)
	if len(places) == 0 && s.refused != nil {
		places = s.usable(from) // there is nobody else
	}
	if len(places) == 0 { // the home insists on those who gave nothing
		s.misses += freeMisses
	}
	err := s.takeHeld(places)
	switch {
	case err == nil:
		return Answer{}, io.EOF
	case errors.Is(err, errImpatient):
		return s.unleased()
	case errors.Is(err, errNobody):
		s.missed(from...)
		return s.again()
	}
	return Answer{}, err
}

// usable are the peers that are neither shunned nor have failed this transfer.
func (s *search) usable(from []Peer, shunned ...*places) []Peer {
	return slices.DeleteFunc(slices.Clone(from), func(p Peer) bool {
		return slices.Contains(s.silent, p) || slices.ContainsFunc(shunned, func(list *places) bool { return list.has(p) })
	})
}

// missed takes note of places that gave nothing.
func (s *search) missed(from ...Peer) {
	s.misses += len(from)
	s.silent = append(s.silent, from...)
	s.silent = s.silent[max(0, len(s.silent)-maxSilent):]
}

// got takes note that bytes have come: who was silent before may be no more.
func (s *search) got() {
	s.moved, s.misses, s.silent = time.Now(), 0, nil
}

// again asks the homes again, after a pause where that has not helped before.
func (s *search) again() (Answer, error) {
	if s.misses > freeMisses && !sleep(s.ctx, askAgain) {
		return Answer{}, context.Cause(s.ctx)
	}
	return s.ask()
}
