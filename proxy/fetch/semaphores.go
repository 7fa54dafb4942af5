// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
)

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
	return s.queue(p).wait(ctx)
}

// A ticket is a place in the queue for a slot. Its wait must be called.
type ticket struct {
	s    *semaphores
	p    Peer
	sem  *semaphore
	next bool // there is a slot for it
}

// queue counts as one of p's users from here on.
func (s *semaphores) queue(p Peer) ticket {
	sem, users := s.use(p)
	return ticket{s, p, sem, users <= s.most}
}

// wait is acquire.
func (t ticket) wait(ctx context.Context) (release func(), err error) {
	select {
	case t.sem.slots <- struct{}{}:
		t.s.inUse.Add(1)
		return func() {
			t.s.inUse.Add(-1)
			<-t.sem.slots
			t.s.drop(t.p, t.sem)
		}, nil
	case <-ctx.Done():
		t.s.drop(t.p, t.sem)
		return nil, context.Cause(ctx)
	}
}

// users is how many have a slot of p, or wait for one.
func (s *semaphores) users(p Peer) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sem := s.peers[p.Addr]; sem != nil {
		return sem.users
	}
	return 0
}

func (s *semaphores) use(p Peer) (sem *semaphore, users int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers == nil {
		s.peers = map[netip.AddrPort]*semaphore{}
	}
	sem = s.peers[p.Addr]
	if sem == nil {
		sem = &semaphore{slots: make(chan struct{}, s.most)}
		s.peers[p.Addr] = sem
	}
	sem.users++
	return sem, sem.users
}

func (s *semaphores) drop(p Peer, sem *semaphore) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sem.users--; sem.users == 0 {
		delete(s.peers, p.Addr)
	}
}
