// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"time"
)

// A pull takes a blob of several pieces from nodes of the local network that have
// it whole. When a reader gets impatient, the front is fetched from mirrors
// meanwhile.
type pull struct {
	*puller
	s *search
}

// pull brings all that can be brought in pieces, and what is then missing.
func (s *search) pull(from []Peer) error {
	p := &pull{s.newPuller(s.ctx, &s.f.lan), s}
	for _, peer := range from {
		p.add(peer)
	}
	err := p.run()
	p.end()
	if err == nil && !p.whole() {
		return s.complete(p.rest())
	}
	return err
}

// run returns when the blob is whole, or no pieces are left to be had of it.
func (p *pull) run() error {
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
			err = p.settled(r)
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

func (p *pull) settled(r *request) error {
	low := p.low
	err := p.settle(r)
	if p.low < low {
		p.s.got()
	}
	return err
}

// why is for when nothing is left to be asked for: all is there but what is
// missing of the piece where the front ends, or the peers have gone.
func (p *pull) why() error {
	if p.low > p.floor() {
		return errNobody
	}
	return nil
}

// startFront has mirrors feed the front.
func (p *pull) startFront() chan error {
	front := make(chan error, 1)
	p.work.Go(func() { front <- p.s.mirrors(p.ctx) })
	return front
}

// frontEnded goes on without mirrors, if they are what failed.
func (p *pull) frontEnded(err error) error {
	if p.ctx.Err() != nil || isStorage(err) || errors.Is(err, errWrong) {
		return err
	}
	p.s.refused = err
	p.s.entry.goInside()
	return nil
}
