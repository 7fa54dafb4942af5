// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// Why a peer is left. None of these is anybody's fault for certain.
var (
	errSilent = errors.New("the peer has gone silent")
	errSlow   = errors.New("the peer is too slow")
	errUnfit  = errors.New("the peer's answer is not the blob that is wanted")
)

// A peerBody is what a peer sends, as it is wanted: within bounds of time, and
// counted. The caller closes it.
type peerBody struct {
	*PeerBody
	side     *side
	patience time.Duration
	cancel   context.CancelCauseFunc
	ctx      context.Context
	timer    *time.Timer // ends ctx
	release  func()
	tally    *tally // of the transfer; may be nil
	begun    bool   // it has brought bytes

	window time.Duration // spent reading since the rate was looked at
	bytes  int64         // that came meanwhile
}

// A tally is what a transfer gets from a side's nodes.
type tally struct {
	bytes  atomic.Int64
	served atomic.Int64  // bodies that it has asked for, or is getting
	took   func(n int64) // is told of bytes
}

func (t *tally) add(n int64) {
	t.bytes.Add(n)
	t.took(n)
}

// A progress is a reader that others ask how far it has come.
type progress struct {
	io.Reader
	bytes atomic.Int64
	moved atomic.Int64 // when bytes came last, in Unix nanoseconds
}

func (r *progress) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.bytes.Add(int64(n))
		r.moved.Store(time.Now().UnixNano())
	}
	return n, err
}

// come is how many bytes have come, 0 if none does any more.
func (r *progress) come(now time.Time) int64 {
	if now.UnixNano()-r.moved.Load() >= int64(peerSilence) {
		return 0
	}
	return r.bytes.Load()
}

// open asks a peer for the bytes of a blob from from up to to, -1 for the end. A
// peer that keeps silent in its body for longer than patience is left; 0: it is
// not. release, which gives the slot for it back, is called in any case.
func (s *side) open(ctx context.Context, p Peer, d Digest, from, to int64, patience time.Duration, release func()) (*peerBody, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(peerSilence, func() { cancel(errSilent) })
	body, err := s.Fetch(ctx, p, d, from, to)
	if !timer.Stop() && err == nil {
		body.Close()
		err = errSilent
	}
	if err != nil {
		err = causeOr(ctx, err)
		s.lost(ctx, p, err)
		cancel(nil)
		release()
		return nil, fmt.Errorf("from %s: %w", p.Addr, err)
	}
	return &peerBody{PeerBody: body, side: s, patience: patience, cancel: cancel, ctx: ctx, timer: timer, release: release}, nil
}

// causeOr is why ctx has ended, or err.
func causeOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Read implements io.Reader. Where it fails because the peer was too slow, the
// error says so.
func (b *peerBody) Read(p []byte) (int, error) {
	if b.patience > 0 {
		b.timer.Reset(b.patience)
		defer b.timer.Stop()
	}
	began := time.Now()
	n, err := b.PeerBody.Read(p)
	b.count(int64(n))
	if err != nil && err != io.EOF {
		err = causeOr(b.ctx, err)
	}
	if err == nil && b.patience > 0 {
		err = b.judge(time.Since(began), int64(n))
	}
	return n, err
}

func (b *peerBody) count(n int64) {
	if n == 0 {
		return
	}
	b.side.received.Add(n)
	if b.tally == nil {
		return
	}
	if !b.begun {
		b.begun = true
		b.side.speed.opens()
	}
	b.side.speed.add(n)
	b.tally.add(n)
}

// judge looks at the rate of what has come in a time.
func (b *peerBody) judge(took time.Duration, n int64) error {
	b.window += took
	b.bytes += n
	if b.window < slowWindow {
		return nil
	}
	fair := max(b.side.slowRate/max(b.side.bodies.inUse.Load(), 1), slowest)
	if b.bytes < int64(float64(fair)*b.window.Seconds()) {
		return errSlow
	}
	b.window, b.bytes = 0, 0
	return nil
}

// Close ends the request. It may be called once.
func (b *peerBody) Close() error {
	b.timer.Stop()
	b.cancel(nil)
	err := b.PeerBody.Close()
	if b.begun {
		b.side.speed.closes()
	}
	b.release()
	return err
}
