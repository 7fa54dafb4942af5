// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net/netip"
	"slices"
	"sync"
)

const (
	// maxVotes is how many of the last voters count.
	maxVotes = 16
	// enoughVotes for one address, a majority, settle it.
	enoughVotes = 4
)

// votes gathers what nodes that we asked say our outside address is (BEP 42). A
// network has one vote.
type votes struct {
	private bool

	mu sync.Mutex // guards following

	cast []vote // the oldest first
}

type vote struct {
	voter netip.AddrPort
	addr  netip.Addr
}

func (v *votes) add(from netip.AddrPort, addr netip.Addr) {
	if addr.Is4() != from.Addr().Is4() || !v.private && !IsPublic(addr) {
		return
	}
	voter := owner(from, v.private)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.cast = slices.DeleteFunc(v.cast, func(old vote) bool { return old.voter == voter })
	if len(v.cast) >= maxVotes {
		v.cast = slices.Delete(v.cast, 0, 1)
	}
	v.cast = append(v.cast, vote{voter, addr})
}

func (v *votes) winner() (netip.Addr, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	counts := make(map[netip.Addr]int)
	for _, c := range v.cast {
		if counts[c.addr]++; counts[c.addr] >= enoughVotes && 2*counts[c.addr] > len(v.cast) {
			return c.addr, true
		}
	}
	return netip.Addr{}, false
}
