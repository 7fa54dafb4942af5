// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"net/netip"
	"sync"
)

const (
	// maxBlobs bounds the blobs that are given at a time, and maxBlobsEach one
	// address's share: a few nodes' may be behind it, which take fewer each.
	maxBlobs     = 512
	maxBlobsEach = 128

	// maxQuestions and maxQuestionsEach are the same for questions. A node has
	// a few under way with another, one of each kind.
	maxQuestions     = 256
	maxQuestionsEach = 32
)

// limits bound what goes on at a time, for all and for each address.
type limits struct {
	most, mostEach int

	mu   sync.Mutex // guards following
	all  int
	each map[netip.Addr]int
}

func newLimits(most, mostEach int) *limits {
	return &limits{most: most, mostEach: mostEach, each: make(map[netip.Addr]int)}
}

// take reports whether there is room for one more of addr, who puts it back.
func (l *limits) take(addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.most || l.each[addr] >= l.mostEach {
		return false
	}
	l.all++
	l.each[addr]++
	return true
}

func (l *limits) put(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.each[addr]--; l.each[addr] == 0 {
		delete(l.each, addr)
	}
}
