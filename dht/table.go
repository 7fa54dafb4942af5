// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// bucketSize is BEP 5's K: nodes per bucket, in an answer, and holding a key.
	bucketSize = 8
	// goodFor is how long a node counts as good after an answer (BEP 5).
	goodFor = 15 * time.Minute
	// maxFailures in a row drop a node.
	maxFailures = 2
	// maxPerNetwork bounds the nodes of one network in a bucket (not in a private
	// DHT), so that one owner cannot fill it.
	maxPerNetwork = 2
)

// table is the routing table (BEP 5) of one address family. A node is in it
// because it answered us, or because it did before the last restart: what others
// say of it, or what it asks us, does not bring it in.
type table struct {
	private bool

	mu sync.Mutex // guards following

	self    Key
	buckets [160][]tableNode // by the bits shared with self
}

type tableNode struct {
	contact
	answered time.Time // zero: not since the restart
	failures int       // since then
}

func (n *tableNode) good() bool {
	return n.failures == 0 && time.Since(n.answered) < goodFor
}

func newTable(self Key, private bool) *table {
	return &table{self: self, private: private}
}

// add puts c in, or notes its answer. A zero answered keeps the node as one to be
// tried.
func (t *table) add(c contact, answered time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(tableNode{contact: c, answered: answered})
}

func (t *table) addLocked(n tableNode) {
	i := sharedBits(t.self, n.id)
	if i >= len(t.buckets) {
		return
	}
	t.dropLocked(func(old *tableNode) bool { return old.addr == n.addr && old.id != n.id })
	b := &t.buckets[i]
	if at := slices.IndexFunc(*b, func(old tableNode) bool { return old.id == n.id }); at >= 0 {
		if (*b)[at].addr == n.addr || !(*b)[at].good() {
			(*b)[at] = n
		}
		return
	}
	if at := t.placeLocked(*b, n); at >= 0 {
		*b = slices.Delete(*b, at, at+1)
	} else if at == noPlace {
		return
	}
	*b = append(*b, n)
}

const (
	freePlace = -1
	noPlace   = -2
)

// placeLocked says which node of bucket b should make room for n: freePlace if
// none has to, noPlace if none should.
func (t *table) placeLocked(b []tableNode, n tableNode) int {
	if !t.private && t.crowdedLocked(b, n.addr) {
		return noPlace
	}
	if len(b) < bucketSize {
		return freePlace
	}
	if n.answered.IsZero() {
		return noPlace
	}
	at := slices.IndexFunc(b, func(old tableNode) bool { return !old.good() })
	if at < 0 {
		return noPlace
	}
	return at
}

// crowdedLocked reports whether the owner of addr has nodes enough: one for an
// address in the whole table.
func (t *table) crowdedLocked(b []tableNode, addr netip.AddrPort) bool {
	same := 0
	for _, old := range b {
		if NetworkOf(old.addr.Addr()) == NetworkOf(addr.Addr()) {
			same++
		}
	}
	return same >= maxPerNetwork || slices.ContainsFunc(t.buckets[:], func(b []tableNode) bool {
		return slices.ContainsFunc(b, func(old tableNode) bool { return old.addr.Addr() == addr.Addr() })
	})
}

// wants reports whether a node would be taken if it answered.
func (t *table) wants(c contact) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := sharedBits(t.self, c.id)
	if i >= len(t.buckets) {
		return false
	}
	b := t.buckets[i]
	if slices.ContainsFunc(b, func(old tableNode) bool { return old.contact == c }) {
		return false
	}
	return t.placeLocked(b, tableNode{contact: c, answered: time.Now()}) != noPlace
}

// failed notes that a node did not answer.
func (t *table) failed(addr netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropLocked(func(n *tableNode) bool {
		if n.addr != addr {
			return false
		}
		n.failures++
		return n.failures >= maxFailures || n.answered.IsZero()
	})
}

func (t *table) dropLocked(drop func(*tableNode) bool) {
	for i := range t.buckets {
		b := t.buckets[i]
		for at := len(b) - 1; at >= 0; at-- {
			if drop(&b[at]) {
				b = slices.Delete(b, at, at+1)
			}
		}
		t.buckets[i] = b
	}
}

// nodes returns those that keep holds for.
func (t *table) nodes(keep func(*tableNode) bool) []contact {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []contact
	for _, b := range t.buckets {
		for i := range b {
			if keep(&b[i]) {
				list = append(list, b[i].contact)
			}
		}
	}
	return list
}

func anyNode(*tableNode) bool { return true }

// nearest returns up to n good nodes, the nearest to target first.
func (t *table) nearest(target Key, n int) []contact {
	list := t.nodes((*tableNode).good)
	slices.SortFunc(list, func(a, b contact) int { return compareDistance(target, a.id, b.id) })
	return list[:min(n, len(list))]
}

// depth is the number of the deepest bucket that holds a node.
func (t *table) depth() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.buckets) - 1; i > 0; i-- {
		if len(t.buckets[i]) > 0 {
			return i
		}
	}
	return 0
}

// rebase sorts the nodes anew around another id of ours.
func (t *table) rebase(self Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.buckets
	t.self, t.buckets = self, [160][]tableNode{}
	for _, b := range old {
		for _, n := range b {
			t.addLocked(n)
		}
	}
}
