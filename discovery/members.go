// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxNodes bounds the nodes known, members or not: a /22 full of them.
	maxNodes = 1024

	// maxUnproven bounds the nodes that one source has named and that have not
	// answered: a machine may run a few nodes, or be restarted often.
	maxUnproven = 8

	// maxAddrs bounds the addresses kept for a node.
	maxAddrs = 8

	// maxProbes bounds the nodes probed at a time.
	maxProbes = 32
)

// probe asks one address for the id of its node.
type probe func(context.Context, netip.AddrPort) (string, error)

// membership knows who is there. A node becomes a member only by answering our
// own probe with its id, and stays one only while it answers; what others say
// makes us probe, and nothing more.
type membership struct {
	self  string
	probe probe
	log   *slog.Logger
	view  atomic.Pointer[view]
	wake  chan struct{} // holds a token when a node may have become due

	mu sync.Mutex // guards following
	// nodes is by id.
	nodes map[string]*node
	// probing counts the nodes that are being probed.
	probing int
}

// view is what callers see: immutable, replaced as a whole.
type view struct {
	ring     []Member
	alive    map[string]struct{}
	replaced chan struct{} // closed when another ring has come
}

func newMembership(self string, p probe, log *slog.Logger) *membership {
	m := &membership{self: self, probe: p, log: log, wake: make(chan struct{}, 1), nodes: make(map[string]*node)}
	m.view.Store(&view{replaced: make(chan struct{})})
	return m
}

// heard tells that mDNS names the node id at addrs. source is who said so.
func (m *membership) heard(id string, addrs []netip.AddrPort, source netip.Addr) {
	if id == m.self || len(addrs) == 0 {
		return
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[id]
	if n == nil {
		if m.unprovenLocked(source) >= maxUnproven || !m.roomLocked() {
			return
		}
		n = newNode(id, source, now)
		m.nodes[id] = n
	}
	if n.addAddrs(addrs) || !n.alive {
		n.hurry(now)
		m.poke()
	}
}

// goodbye tells that mDNS says the node id stops. It is believed only if the
// node does not answer either.
func (m *membership) goodbye(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nodes[id]; n != nil && n.doubt(time.Now()) {
		m.poke()
	}
}

// failed is LAN.Failed.
func (m *membership) failed(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nodes[id]; n != nil && n.alive {
		n.silent(time.Now())
		m.publishLocked()
		m.poke()
	}
}

// recheck has every node probed now: this machine slept, or has other
// addresses.
func (m *membership) recheck() {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		n.due = now
	}
	m.poke()
}

// learn tells that the node id has just answered at addr.
func (m *membership) learn(id string, addr netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.learnLocked(id, addr, time.Now())
	m.publishLocked()
	m.poke()
}

func (m *membership) learnLocked(id string, addr netip.AddrPort, now time.Time) {
	if id == m.self || !idPattern.MatchString(id) {
		return
	}
	n := m.nodes[id]
	if n == nil {
		if !m.roomLocked() {
			return
		}
		n = newNode(id, addr.Addr(), now)
		m.nodes[id] = n
	}
	n.addAddrs([]netip.AddrPort{addr})
	if !n.alive {
		n.answered(addr, now)
	}
}

// unprovenLocked counts the nodes that source named and that never answered.
func (m *membership) unprovenLocked(source netip.Addr) int {
	count := 0
	for _, n := range m.nodes {
		if n.source == source && !n.addr.IsValid() {
			count++
		}
	}
	return count
}

// roomLocked makes room for one more node, at the cost of the one outside the
// ring that has been silent longest. Without one there is none.
func (m *membership) roomLocked() bool {
	if len(m.nodes) < maxNodes {
		return true
	}
	var oldest *node
	for _, n := range m.nodes {
		if !n.joined && !n.since.IsZero() && (oldest == nil || n.since.Before(oldest.since)) {
			oldest = n
		}
	}
	if oldest == nil {
		return false
	}
	delete(m.nodes, oldest.id)
	return true
}

// publishLocked makes the present state what callers see.
func (m *membership) publishLocked() {
	next := &view{alive: make(map[string]struct{})}
	for _, n := range m.nodes {
		if n.joined {
			next.ring = append(next.ring, Member{ID: n.id, Addr: n.addr})
		}
		if n.alive {
			next.alive[n.id] = struct{}{}
		}
	}
	slices.SortFunc(next.ring, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })

	last := m.view.Load()
	if slices.Equal(last.ring, next.ring) {
		if maps.Equal(last.alive, next.alive) {
			return
		}
		next.replaced = last.replaced
		m.view.Store(next)
		return
	}
	next.replaced = make(chan struct{})
	m.view.Store(next)
	close(last.replaced)
	m.logChange(last.ring, next.ring)
}

func (m *membership) logChange(from, to []Member) {
	in := func(ring []Member, id string) bool {
		return slices.ContainsFunc(ring, func(o Member) bool { return o.ID == id })
	}
	for _, member := range to {
		if !in(from, member.ID) {
			m.log.Info("a node of the LAN joined", "id", member.ID, "addr", member.Addr)
		}
	}
	for _, member := range from {
		if !in(to, member.ID) {
			m.log.Info("a node of the LAN left", "id", member.ID, "addr", member.Addr)
		}
	}
}

// poke has run look again for nodes that are due.
func (m *membership) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}
