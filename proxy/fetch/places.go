// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// barredFor is how long a node through which wrong bytes came feeds no
	// unfinished blobs: it may have been lied to itself.
	barredFor = 10 * time.Minute

	// shunnedFor is how long a node that gave nothing in time is asked for
	// nothing. It may have been busy, or asleep.
	shunnedFor = time.Minute

	// maxStrikes is how often in a row a node may fail to give what it is said to
	// have, which once or twice is bad luck.
	maxStrikes = 4

	// maxPlaces bounds how many nodes are remembered.
	maxPlaces = 1024
)

// places are nodes that are not to be read from for a while.
type places struct {
	mu      sync.Mutex // guards following
	until   map[netip.AddrPort]time.Time
	strikes map[netip.AddrPort]int
}

// strike adds p for d when it has failed often enough.
func (s *places) strike(p Peer, d time.Duration) {
	s.mu.Lock()
	if s.strikes == nil || len(s.strikes) >= maxPlaces {
		s.strikes = map[netip.AddrPort]int{}
	}
	s.strikes[p.Addr]++
	out := s.strikes[p.Addr] >= maxStrikes
	if out {
		delete(s.strikes, p.Addr)
	}
	s.mu.Unlock()
	if out {
		s.add(p, d)
	}
}

// clear forgets p's strikes: it has just given what it has.
func (s *places) clear(p Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.strikes, p.Addr)
}

func (s *places) add(p Peer, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if len(s.until) >= maxPlaces {
		s.expireLocked(now)
	}
	if s.until == nil {
		s.until = map[netip.AddrPort]time.Time{}
	}
	s.until[p.Addr] = now.Add(d)
}

// expireLocked drops what is over, and everything where that is not enough.
func (s *places) expireLocked(now time.Time) {
	for addr, until := range s.until {
		if now.After(until) {
			delete(s.until, addr)
		}
	}
	if len(s.until) >= maxPlaces {
		clear(s.until)
	}
}

func (s *places) has(p Peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.until[p.Addr]
	return ok && time.Now().Before(until)
}
