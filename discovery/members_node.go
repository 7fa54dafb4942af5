// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

const (
	// recheckAfter is how often a member that nobody complains of is probed,
	// ± 20 %: as often as it would be browsed for.
	recheckAfter = 5 * time.Minute

	// firstDelay and maxDelay bound the growing pauses between the probes of a
	// node that does not answer.
	firstDelay = time.Second
	maxDelay   = 5 * time.Minute

	// leaveAfter is how long a member may be silent before it leaves the ring:
	// long enough for a restart, since each change of the ring moves homes.
	leaveAfter = time.Minute

	// forgetAfter is how long a silent node is remembered.
	forgetAfter = 15 * time.Minute

	// A goodbye has the node probed doubts times, doubtPause apart, since a node
	// that stops may still answer for a moment; after that it counts for
	// nothing, nor does another for doubtRest. What must be seen within a second
	// is.
	doubts     = 4
	doubtPause = 200 * time.Millisecond
	doubtRest  = 5 * time.Second
)

// node is what is known of one other node. Its owner's lock guards it.
type node struct {
	id     string
	source netip.Addr       // who named it first
	addrs  []netip.AddrPort // where it may be, the latest news first
	addr   netip.AddrPort   // where it answered last; invalid: it never did
	joined bool             // is in the ring
	alive  bool             // answered since the last failure; implies joined

	since    time.Time     // silent since; zero: it is not, or has not been probed yet
	failedAt time.Time     // the last failure
	delay    time.Duration // the pause after the next failure
	due      time.Time     // of the next probe
	probed   time.Time     // when the last probe began
	probing  bool          // it is going on

	doubtsLeft int       // probes that the first failure of which drops the node
	doubtedAt  time.Time // the last goodbye that counted
}

func newNode(id string, source netip.Addr, now time.Time) *node {
	return &node{id: id, source: source, delay: firstDelay, due: now}
}

// addAddrs puts addrs in front of those known and reports whether one is new.
// The address that answered last is never pushed out.
func (n *node) addAddrs(addrs []netip.AddrPort) (news bool) {
	merged := make([]netip.AddrPort, 0, len(addrs)+len(n.addrs)+1)
	if n.addr.IsValid() {
		merged = append(merged, n.addr)
	}
	for _, a := range slices.Concat(addrs, n.addrs) {
		if !slices.Contains(merged, a) {
			merged = append(merged, a)
		}
	}
	merged = merged[:min(len(merged), maxAddrs)]
	news = slices.ContainsFunc(merged, func(a netip.AddrPort) bool { return !slices.Contains(n.addrs, a) })
	n.addrs = merged
	return news
}

// lose forgets an address at which another node answers.
func (n *node) lose(addr netip.AddrPort) {
	n.addrs = slices.DeleteFunc(n.addrs, func(a netip.AddrPort) bool { return a == addr })
}

// hurry has the node probed now, but not more than once a second.
func (n *node) hurry(now time.Time) {
	soonest := now
	if !n.probed.IsZero() && n.probed.Add(firstDelay).After(now) {
		soonest = n.probed.Add(firstDelay)
	}
	if soonest.Before(n.due) {
		n.due = soonest
	}
}

// doubt acts on a goodbye and reports whether it counts.
func (n *node) doubt(now time.Time) bool {
	if !n.doubtedAt.IsZero() && now.Sub(n.doubtedAt) < doubtRest {
		return false
	}
	n.doubtedAt, n.doubtsLeft, n.due = now, doubts, now
	return true
}

// answered acts on an answer from addr.
func (n *node) answered(addr netip.AddrPort, now time.Time) {
	n.addr, n.joined, n.alive, n.since = addr, true, true, time.Time{}
	if now.Sub(n.failedAt) > leaveAfter {
		n.delay = firstDelay // else it comes and goes: trust it ever more slowly
	}
	n.doubtsLeft = max(0, n.doubtsLeft-1)
	if n.doubtsLeft > 0 {
		n.due = now.Add(doubtPause)
		return
	}
	n.due = now.Add(vary(recheckAfter))
}

// silent acts on a failure.
func (n *node) silent(now time.Time) {
	n.alive, n.failedAt = false, now
	if n.since.IsZero() {
		n.since = now
	}
	leaves := n.since.Add(leaveAfter)
	n.joined = n.joined && now.Before(leaves)
	n.due = now.Add(n.delay)
	if n.joined && n.due.After(leaves) {
		n.due = leaves
	}
	n.delay = min(2*n.delay, maxDelay)
}

// hopeless reports whether a node that has just been silent is to be forgotten.
func (n *node) hopeless(now time.Time) bool {
	return n.doubtsLeft > 0 || len(n.addrs) == 0 || now.Sub(n.since) >= forgetAfter
}

// vary returns d ± 20 %, so that nodes started together do not stay in step.
func vary(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5)
}
