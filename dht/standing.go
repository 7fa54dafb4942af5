// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// standing is where others find this node, in one family: at its outside address and
// the port that it announces.
type standing struct {
	mu sync.Mutex // guards following

	now    netip.AddrPort // announced last; its port is 0 where nothing ever was
	since  time.Time      // when that address and port came to be
	former []formerAddr
}

// formerAddr is one that other nodes may still name to whoever looks us up.
type formerAddr struct {
	addr  netip.AddrPort
	until time.Time
}

const (
	// maxFormer bounds the former addresses that are remembered.
	maxFormer = 8
	// moveLasts is how long an address that others report is kept in any case:
	// whoever lies about ours shall not have us announce all again all the time.
	moveLasts = 10 * time.Minute
)

// follow notes where others find this node, and reports whether that is elsewhere
// than it was: what has been announced before leads nowhere then. Where the address
// is not known, it is taken to be the one that other nodes report, if they agree.
func (s *standing) follow(at netip.AddrPort, reported netip.Addr, now time.Time) (moved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.Port() == 0 {
		return false
	}
	last, port, told := s.now, at.Port(), known(at.Addr())
	switch {
	case told:
		s.now = at
	case reported.IsValid():
		s.now = netip.AddrPortFrom(reported, port)
	default:
		s.now = netip.AddrPortFrom(last.Addr(), port)
	}
	switch {
	case s.now == last:
		return false
	case last.Port() == 0, last.Port() == port && !known(last.Addr()):
		return false // more is known, and nothing else
	case !told && last.Port() == port && now.Sub(s.since) < moveLasts:
		s.now = last
		return false
	}
	if len(s.former) >= maxFormer {
		s.former = slices.Delete(s.former, 0, 1)
	}
	s.former = append(s.former, formerAddr{last, now.Add(peerTTL)})
	s.since = now
	return true
}

func known(addr netip.Addr) bool { return addr.IsValid() && !addr.IsUnspecified() }

// restore takes over what an earlier run has noted.
func (s *standing) restore(at netip.AddrPort, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.since = at, since
}

// last is where the node was announced last, and since when.
func (s *standing) last() (at netip.AddrPort, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.since
}

// all are the addresses at which other nodes may still name this one.
func (s *standing) all(now time.Time) []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.former = slices.DeleteFunc(s.former, func(f formerAddr) bool { return !now.Before(f.until) })
	list := []netip.AddrPort{s.now}
	for _, f := range s.former {
		list = append(list, f.addr)
	}
	return list
}

// follow notes where others find this node in each family. Where that has changed,
// all is announced anew.
func (n *Node) follow() {
	moved := false
	for _, f := range n.families {
		reported, _ := f.votes.winner()
		moved = f.standing.follow(f.checkReachable(), reported, time.Now()) || moved
	}
	n.announcer.announceIn(familiesOf(n.announcing()))
	if !moved {
		return
	}
	n.announcer.moved()
	n.log.Info("this node is at another outside address or port; what it has is announced anew")
	n.saveOrWarn() // lest the next run believe the old announces
}
