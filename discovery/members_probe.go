// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// probeTimeout bounds a probe: on a LAN a living node answers in a few
// milliseconds, and what waits for the dead costs a request as long.
const probeTimeout = 250 * time.Millisecond

// check is a node to be probed, copied so that no lock is held meanwhile.
type check struct {
	id    string
	addrs []netip.AddrPort
	known bool // the first of addrs answered last time
}

// answer is what one address said.
type answer struct {
	addr netip.AddrPort
	id   string
	err  error
}

// run probes nodes as they become due, until ctx ends.
func (m *membership) run(ctx context.Context) error {
	var probes sync.WaitGroup
	defer probes.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-timer.C:
		}
		checks, next := m.takeDue(time.Now())
		for _, q := range checks {
			probes.Go(func() { m.settle(q.id, m.ask(ctx, q)) })
		}
		timer.Reset(next)
	}
}

// takeDue returns the nodes that are due, as many as may be probed at a time,
// those first that have waited longest, and how long until the next is.
func (m *membership) takeDue(now time.Time) (checks []check, next time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next = recheckAfter
	var due []*node
	for _, n := range m.nodes {
		switch {
		case n.probing:
		case n.due.After(now):
			next = min(next, n.due.Sub(now))
		default:
			due = append(due, n)
		}
	}
	slices.SortFunc(due, func(a, b *node) int { return a.due.Compare(b.due) })
	for _, n := range due[:min(len(due), maxProbes-m.probing)] {
		n.probing, n.probed = true, now
		m.probing++
		checks = append(checks, check{n.id, slices.Clone(n.addrs), n.addr.IsValid() && n.addrs[0] == n.addr})
	}
	return checks, next
}

// ask probes the address that answered last, then all others at once.
func (m *membership) ask(ctx context.Context, q check) []answer {
	if !q.known {
		return m.askAll(ctx, q.id, q.addrs)
	}
	answers := m.askAll(ctx, q.id, q.addrs[:1])
	if answers[0].err == nil && answers[0].id == q.id {
		return answers
	}
	return append(answers, m.askAll(ctx, q.id, q.addrs[1:])...)
}

// askAll probes addrs at once, until one answers as id.
func (m *membership) askAll(ctx context.Context, id string, addrs []netip.AddrPort) []answer {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	answers := make(chan answer, len(addrs))
	for _, addr := range addrs {
		go func() {
			id, err := m.probe(ctx, addr)
			answers <- answer{addr, id, err}
		}()
	}
	var all []answer
	for range addrs {
		a := <-answers
		if a.err == nil && a.id == id {
			cancel()
		}
		all = append(all, a)
	}
	return all
}

// settle acts on the answers to a probe of the node id.
func (m *membership) settle(id string, answers []answer) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.probing--
	defer m.poke()
	n := m.nodes[id]
	if n == nil {
		return
	}
	n.probing = false
	var here netip.AddrPort
	for _, a := range answers {
		switch {
		case a.err != nil:
		case a.id != id:
			n.lose(a.addr)
			m.learnLocked(a.id, a.addr, now)
		case !here.IsValid():
			here = a.addr
		}
	}
	if here.IsValid() {
		n.answered(here, now)
	} else if n.silent(now); n.hopeless(now) {
		delete(m.nodes, id)
	}
	m.publishLocked()
}
