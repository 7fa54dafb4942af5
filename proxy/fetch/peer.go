// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// peerSilence is how long a peer that holds a blob may send nothing.
	peerSilence = 2 * time.Second

	// A peer must send slowRate bytes per second over slowWindow, or its share of
	// that where many are read from at the same time; slowest in any case.
	slowRate   = 64_000
	slowest    = 1000
	slowWindow = 5 * time.Second

	// maxBodies is how many bodies one peer is asked for at a time, of all
	// transfers together. It stays below what a node gives to one other.
	maxBodies = 24
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
	f        *Fetcher
	patience time.Duration
	cancel   context.CancelCauseFunc
	ctx      context.Context
	timer    *time.Timer // ends ctx
	release  func()

	window time.Duration // spent reading since the rate was looked at
	bytes  int64         // that came meanwhile
}

// openPeer asks a peer for the bytes of a blob from from up to to, -1 for the
// end. A peer that keeps silent in its body for longer than patience is left; 0:
// it is not. release, which gives the slot for it back, is called in any case.
func (f *Fetcher) openPeer(ctx context.Context, p Peer, d Digest, from, to int64, patience time.Duration, release func()) (*peerBody, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(peerSilence, func() { cancel(errSilent) })
	body, err := f.cfg.LAN.Fetch(ctx, p, d, from, to)
	if !timer.Stop() && err == nil {
		body.Close()
		err = errSilent
	}
	if err != nil {
		err = causeOr(ctx, err)
		f.lostPeer(ctx, p, err)
		cancel(nil)
		release()
		return nil, fmt.Errorf("from %s: %w", p.Addr, err)
	}
	return &peerBody{PeerBody: body, f: f, patience: patience, cancel: cancel, ctx: ctx, timer: timer, release: release}, nil
}

// causeOr is why ctx has ended, or err.
func causeOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// lostPeer tells of a peer that could not be reached, if that is what err says.
func (f *Fetcher) lostPeer(ctx context.Context, p Peer, err error) {
	if errors.Is(err, ErrNotHere) || ctx.Err() != nil && !errors.Is(err, errSilent) {
		return
	}
	f.cfg.LAN.Failed(p)
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
	b.f.fromLAN.Add(int64(n))
	if err != nil && err != io.EOF {
		err = causeOr(b.ctx, err)
	}
	if err == nil && b.patience > 0 {
		err = b.judge(time.Since(began), int64(n))
	}
	return n, err
}

// judge looks at the rate of what has come in a time.
func (b *peerBody) judge(took time.Duration, n int64) error {
	b.window += took
	b.bytes += n
	if b.window < slowWindow {
		return nil
	}
	fair := max(slowRate/max(b.f.bodies.inUse.Load(), 1), slowest)
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
	b.release()
	return err
}

// semaphores bounds how many things are done with each peer at a time.
type semaphores struct {
	most  int
	inUse atomic.Int64 // of all peers

	mu    sync.Mutex // guards following
	peers map[netip.AddrPort]*semaphore
}

type semaphore struct {
	slots chan struct{}
	users int // who have it, or wait; guarded by semaphores.mu
}

// acquire waits for a slot. The returned function gives it back.
func (s *semaphores) acquire(ctx context.Context, p Peer) (release func(), err error) {
	sem := s.use(p)
	select {
	case sem.slots <- struct{}{}:
		s.inUse.Add(1)
		return func() {
			s.inUse.Add(-1)
			<-sem.slots
			s.drop(p, sem)
		}, nil
	case <-ctx.Done():
		s.drop(p, sem)
		return nil, context.Cause(ctx)
	}
}

func (s *semaphores) use(p Peer) *semaphore {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers == nil {
		s.peers = map[netip.AddrPort]*semaphore{}
	}
	sem := s.peers[p.Addr]
	if sem == nil {
		sem = &semaphore{slots: make(chan struct{}, s.most)}
		s.peers[p.Addr] = sem
	}
	sem.users++
	return sem
}

func (s *semaphores) drop(p Peer, sem *semaphore) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sem.users--; sem.users == 0 {
		delete(s.peers, p.Addr)
	}
}
