// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// lately is how long ago a node may have answered to be asked unsought.
	lately = 30 * time.Minute

	// A node that fails is left alone for firstRest, twice as long each further
	// time, up to longestRest.
	firstRest   = 10 * time.Second
	longestRest = time.Hour

	// maxPeers bounds the nodes that are remembered.
	maxPeers = 1024

	// unmeasured is what a node's rate is taken for before it is known, in bytes
	// per second, and worthMeasuring the bytes that tell something of it.
	unmeasured     = 250_000
	worthMeasuring = 64 << 10
)

// acquaintance is what is known of another node.
type acquaintance struct {
	answer   time.Duration // how long it takes to answer; 0: not known
	rate     float64       // of its blobs, in bytes per second; 0: not measured
	from     int64         // bytes that came
	seen     time.Time     // when it last answered; zero: never
	touched  time.Time     // when anything of this was changed
	failures int           // since it last answered well
	rest     time.Time     // it is left alone until then
	busy     time.Time     // it gives nothing until then
}

// cost is about how long a piece of 1 MiB takes from the node: the best costs
// least.
func (a *acquaintance) cost(now time.Time) time.Duration {
	rate := cmp.Or(a.rate, unmeasured)
	whole := a.answer + time.Duration(float64(time.Second)*(1<<20)/rate)
	return whole*time.Duration(1+a.failures) + max(0, a.busy.Sub(now))
}

// peers are the nodes that have been met.
type peers struct {
	mu     sync.Mutex // guards following
	byAddr map[netip.AddrPort]*acquaintance
}

// touchLocked is what is known of a node, from now on if nothing was.
func (p *peers) touchLocked(addr netip.AddrPort, now time.Time) *acquaintance {
	a := p.byAddr[addr]
	if a == nil {
		if p.byAddr == nil {
			p.byAddr = make(map[netip.AddrPort]*acquaintance)
		}
		if len(p.byAddr) >= maxPeers {
			p.forgetOneLocked()
		}
		a = new(acquaintance)
		p.byAddr[addr] = a
	}
	a.touched = now
	return a
}

// forgetOneLocked drops who was met longest ago, of those who never answered if
// there are any: strangers can name many.
func (p *peers) forgetOneLocked() {
	var oldest netip.AddrPort
	var of *acquaintance
	for addr, a := range p.byAddr {
		if of == nil || a.seen.IsZero() != of.seen.IsZero() && a.seen.IsZero() ||
			a.seen.IsZero() == of.seen.IsZero() && a.touched.Before(of.touched) {
			oldest, of = addr, a
		}
	}
	delete(p.byAddr, oldest)
}

// answered takes note of a node that answered after a time. A rest goes on: nobody
// asks who rests, so the question was on its way when the node failed.
func (p *peers) answered(addr netip.AddrPort, took time.Duration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.touchLocked(addr, now)
	a.seen = now
	a.answer = smooth(a.answer, took)
}

// gave takes note of the bytes that came in a time.
func (p *peers) gave(addr netip.AddrPort, bytes int64, took time.Duration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.touchLocked(addr, now)
	a.from += bytes
	if bytes >= worthMeasuring {
		a.failures = 0
		a.rate = smooth(a.rate, float64(bytes)/max(took, time.Millisecond).Seconds())
	}
}

// smooth moves a measure by a quarter of the way to what was measured last.
func smooth[N time.Duration | float64](known, last N) N {
	if known == 0 {
		return last
	}
	return known + (last-known)/4
}

// failed leaves a node alone for a while.
func (p *peers) failed(addr netip.AddrPort, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.touchLocked(addr, now)
	a.rest = now.Add(restAfter(a.failures))
	a.failures++
}

func restAfter(failures int) time.Duration {
	return min(firstRest<<min(failures, 16), longestRest)
}

// refused puts a node behind others for a while.
func (p *peers) refused(addr netip.AddrPort, wait time.Duration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.touchLocked(addr, now).busy = now.Add(min(wait, time.Minute))
}

func (p *peers) resting(addr netip.AddrPort, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.byAddr[addr]
	return a != nil && now.Before(a.rest)
}

// knows tells whether a node has ever answered.
func (p *peers) knows(addr netip.AddrPort) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.byAddr[addr]
	return a != nil && !a.seen.IsZero()
}

// best returns the most nodes, the best first, that answered lately and may be
// asked.
func (p *peers) best(most int, now time.Time) []netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []netip.AddrPort
	for addr, a := range p.byAddr {
		if now.Sub(a.seen) < lately && !now.Before(a.rest) {
			list = append(list, addr)
		}
	}
	slices.SortFunc(list, func(a, b netip.AddrPort) int {
		return cmp.Or(cmp.Compare(p.byAddr[a].cost(now), p.byAddr[b].cost(now)), a.Compare(b))
	})
	return list[:min(most, len(list))]
}

// status is what is known of all that answered lately, the best first.
func (p *peers) status(now time.Time) []PeerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := []PeerStatus{}
	for addr, a := range p.byAddr {
		if now.Sub(a.seen) < lately {
			list = append(list, PeerStatus{
				Addr: addr, Seen: a.seen, Rate: int64(a.rate), Answer: a.answer,
				BytesFrom: a.from, Resting: now.Before(a.rest),
			})
		}
	}
	slices.SortFunc(list, func(a, b PeerStatus) int {
		return cmp.Or(cmp.Compare(p.byAddr[a.Addr].cost(now), p.byAddr[b.Addr].cost(now)), a.Addr.Compare(b.Addr))
	})
	return list
}
