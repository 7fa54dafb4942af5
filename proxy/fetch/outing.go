// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// WorthSeeking is the size from which on a file is looked for on the internet
	// at once, in bytes; smaller ones are when mirrors fail.
	WorthSeeking = 64 << 10

	// mirrorSilence is how long mirrors may send nothing at all before smaller
	// files are looked for, too.
	mirrorSilence = 2 * time.Second

	// maxAbroad bounds the nodes on the internet that one transfer asks.
	maxAbroad = 64
)

// An outing brings a blob from outside: from the internet's nodes in pieces, the
// last one first, and from mirrors, from its front. It says when mirrors are asked
// (standing.go), and has one node fetch what is left at last (gap.go). It belongs
// to the transfer's goroutine.
type outing struct {
	*puller
	began time.Time
	had   int64 // bytes that were here then
	wake  *time.Timer

	seeking bool
	looked  atomic.Bool   // it may be looked for, and is
	found   chan Peer     // those who have the blob
	sought  chan struct{} // closed when there will be no more; nil once that is known
	spared  []Peer        // those that are shunned, while mirrors can be asked

	standing standing
	asked    bool       // mirrors have been asked
	front    chan error // mirrors' end; nil: they are not asked now
	leave    context.CancelFunc
	frontAt  time.Time // when they were asked, and what was here then
	frontHad int64
	frontLen int64     // what was here when that was looked at last
	moved    time.Time // when there was more than before
	refused  error     // why they do not give it

	gap gap
}

func newOuting(ctx context.Context, t *transfer) *outing {
	o := &outing{puller: t.newPuller(ctx, &t.f.wan), began: time.Now(), had: t.total(), found: make(chan Peer), sought: make(chan struct{})}
	o.tally = &tally{took: t.entry.tookAbroad}
	o.wake = time.NewTimer(0)
	o.gap.ended = make(chan *filling)
	return o
}

// run returns when all bytes are here, or neither nodes nor mirrors give more.
func (o *outing) run() error {
	o.start()
	err := o.drive()
	o.wake.Stop()
	o.end()
	o.t.abroad = o.t.abroad || o.tally.bytes.Load() > 0
	o.tell(err)
	return err
}

// start looks for nodes, unless the file is too small, and decides for how long
// mirrors wait.
func (o *outing) start() {
	if o.t.want.Size < WorthSeeking {
		return
	}
	o.seek()
	o.standing.patience = o.t.f.cfg.WAN.Patience()
	if o.t.suspect {
		o.standing.patience = suspectPatience
	}
	if o.standing.patience > 0 {
		o.t.entry.goAbroad()
	}
}

func (o *outing) drive() error {
	for !o.whole() {
		now := time.Now()
		if o.nodesAreSooner() || o.frontStalls(now) {
			o.assign()
		}
		o.assignGap(now)
		if !o.asked && o.isMirrorDue(now) {
			o.askMirrors(now)
		}
		if err := o.over(now); err != nil {
			return err
		}
		if err := o.await(now); err != nil {
			return err
		}
	}
	return nil
}

// await waits until something has happened, or has to be looked at again.
func (o *outing) await(now time.Time) error {
	o.wake.Reset(o.pause(now))
	select {
	case p := <-o.found:
		o.meet(p)
	case <-o.sought:
		o.sought = nil
	case r := <-o.puller.ended:
		return o.settle(r)
	case f := <-o.gap.ended:
		return o.fill(f)
	case err := <-o.front:
		o.front = nil
		return o.frontEnded(err)
	case <-o.wake.C:
	case <-o.ctx.Done():
		return context.Cause(o.ctx)
	}
	return nil
}

// pause is after how long something may be due because time has passed.
func (o *outing) pause(now time.Time) time.Duration {
	switch {
	case o.live() > 0:
		return pieceTick
	case !o.asked:
		return max(o.began.Add(o.standing.patience).Sub(now), 0)
	case !o.seeking:
		return mirrorSilence
	case o.refused != nil:
		return max(o.began.Add(lanPatience).Sub(now), pieceTick)
	}
	return time.Hour // somebody is found, or the mirror comes to its end
}

// seek looks for nodes that have the blob, if it may be looked for, on a goroutine
// of its own.
func (o *outing) seek() {
	if o.seeking {
		return
	}
	o.seeking = true
	sought := o.sought
	o.t.f.wg.Go(func() {
		defer close(sought)
		if !o.t.shareable(o.ctx, maxResolving) {
			return
		}
		o.looked.Store(true)
		o.t.f.cfg.WAN.Seek(o.ctx, o.t.want.Digest, func(p Peer) {
			select {
			case o.found <- p:
			case <-o.ctx.Done():
			}
		})
	})
}

// meet takes note of a node that says that it has the blob.
func (o *outing) meet(p Peer) {
	o.standing.met(time.Now())
	switch {
	case len(o.peers)+len(o.spared) >= maxAbroad:
	case o.refused == nil && o.side.shunned.has(p):
		o.spared = append(o.spared, p)
	default:
		o.add(p)
	}
}

// askMirrors has mirrors feed the front.
func (o *outing) askMirrors(now time.Time) {
	ctx, cancel := context.WithCancel(o.ctx)
	o.asked, o.leave, o.frontAt, o.frontHad = true, cancel, now, o.g.Len()
	o.frontLen, o.moved = o.frontHad, now
	front := make(chan error, 1)
	o.front = front
	o.work.Go(func() { front <- o.t.mirrors(ctx) })
}

// stopMirrors returns how they ended, nil if nothing else is wrong.
func (o *outing) stopMirrors() error {
	if o.front == nil {
		return nil
	}
	o.leave()
	err := <-o.front
	o.front = nil
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return o.frontEnded(err)
}

// frontEnded goes on without mirrors, if they are what failed.
func (o *outing) frontEnded(err error) error {
	o.leave()
	if err == nil || o.ctx.Err() != nil || isStorage(err) || errors.Is(err, errWrong) {
		return err
	}
	o.refused = err
	o.t.entry.goAbroad()
	for _, p := range o.spared { // there may be nobody else
		o.add(p)
	}
	o.spared = nil
	o.seek()
	return nil
}

// over tells why nothing more will come; nil: something may.
func (o *outing) over(now time.Time) error {
	if o.refused == nil && !o.seeking && o.mirrorIsQuiet(now) {
		o.seek()
	}
	switch {
	case o.refused == nil, o.flying > 0, len(o.gap.under) > 0:
		return nil
	case o.mayCome() && now.Sub(o.began) < lanPatience:
		return nil
	case o.gap.misfit != nil && o.t.restarts <= maxRestarts:
		return o.unfit()
	}
	return o.refused
}

// unfit is for a beginning that several nodes' bytes do not fit, and no mirror can
// tell who is wrong: it is thrown away. Nobody is to blame for certain.
func (o *outing) unfit() error {
	if o.t.begun() {
		o.t.f.taint(o.t.want.Digest)
	}
	return fmt.Errorf("%s: %w: %w", o.t.want.URL, errPeersWrong, o.gap.misfit)
}

// mayCome tells whether somebody is looked for still, or is only busy.
func (o *outing) mayCome() bool { return o.seeking && o.sought != nil || o.live() > 0 }

// frontStalls tells whether this file's mirror has sent nothing for mirrorSilence,
// whatever others send.
func (o *outing) frontStalls(now time.Time) bool {
	if n := o.g.Len(); n != o.frontLen {
		o.frontLen, o.moved = n, now
	}
	return o.front != nil && now.Sub(o.moved) >= mirrorSilence
}

func (o *outing) mirrorIsQuiet(now time.Time) bool {
	return now.Sub(o.frontAt) >= mirrorSilence && o.t.f.gate.mirrorQuiet(mirrorSilence)
}

// tell lets the seeking learn from what has come of it.
func (o *outing) tell(err error) {
	switch {
	case !o.looked.Load(), !o.standing.isMet() && o.sought == nil: // that has been learnt
		return
	case errors.Is(err, context.Canceled), errors.Is(err, errLost):
		return
	}
	n := o.tally.bytes.Load()
	if o.standing.failed || n < (o.t.want.Size-o.had)/3 {
		n = 0
	}
	o.t.f.cfg.WAN.Brought(o.t.want.Digest, n)
}
