// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"net/netip"
	"sync"
)

// Limits bound what goes on at a time, for all and for each address.
type Limits struct {
	most, mostEach int

	mu   sync.Mutex // guards following
	all  int
	each map[netip.Addr]int
}

// NewLimits allows most in all, and mostEach of one address.
func NewLimits(most, mostEach int) *Limits {
	return &Limits{most: most, mostEach: mostEach, each: make(map[netip.Addr]int)}
}

// Take reports whether there is room for one more of addr, who puts it back.
func (l *Limits) Take(addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.most || l.each[addr] >= l.mostEach {
		return false
	}
	l.all++
	l.each[addr]++
	return true
}

// Put gives back what Take took.
func (l *Limits) Put(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.each[addr]--; l.each[addr] == 0 {
		delete(l.each, addr)
	}
}

// InUse is how many have been taken, and not put back.
func (l *Limits) InUse() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}
