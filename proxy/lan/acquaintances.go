// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"apt-dht/discovery"
)

const (
	// maxTried bounds those who are remembered as having spoken, maxAddrs the
	// addresses of one member.
	maxTried = 4096
	maxAddrs = 8

	// meetAgain is how long one who spoke, and could not be verified, is left
	// alone.
	meetAgain = 10 * time.Second

	// maxToMeet bounds those that wait to be verified.
	maxToMeet = 64
)

// acquaintances are the addresses at which members answered. A member speaks
// from whatever address the kernel chooses for the way, which with IPv4 beside
// IPv6 is often not the one that it answered discovery's probe at. So that what
// it says counts, that address is probed, too.
type acquaintances struct {
	queue chan discovery.Member // to be probed

	mu    sync.Mutex // guards following
	known map[string][]netip.AddrPort
	tried map[discovery.Member]time.Time
}

func (a *acquaintances) init() {
	a.queue = make(chan discovery.Member, maxToMeet)
	a.known = make(map[string][]netip.AddrPort)
	a.tried = make(map[discovery.Member]time.Time)
}

// know records that m answered at its address.
func (a *acquaintances) know(m discovery.Member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if addrs := a.known[m.ID]; !slices.Contains(addrs, m.Addr) {
		a.known[m.ID] = append(addrs[max(0, len(addrs)-maxAddrs+1):len(addrs):len(addrs)], m.Addr)
	}
}

func (a *acquaintances) forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, id)
}

func (a *acquaintances) knows(m discovery.Member) bool {
	return slices.Contains(a.addrsOf(m.ID), m.Addr)
}

// addrsOf are the addresses at which the member of that id answered. They are
// not to be changed.
func (a *acquaintances) addrsOf(id string) []netip.AddrPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known[id]
}

// due reports whether m, who just spoke, is to be probed now.
func (a *acquaintances) due(m discovery.Member, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if addrs := a.known[m.ID]; len(addrs) >= maxAddrs || slices.Contains(addrs, m.Addr) || now.Sub(a.tried[m]) < meetAgain {
		return false
	}
	if len(a.tried) >= maxTried {
		maps.DeleteFunc(a.tried, func(_ discovery.Member, at time.Time) bool { return now.Sub(at) >= meetAgain })
	}
	if len(a.tried) >= maxTried {
		return false
	}
	a.tried[m] = now
	return true
}

// meet is told of everyone who speaks.
func (n *Node) meet(m discovery.Member) {
	if _, member := n.view.Load().byID[m.ID]; member && !n.cfg.Members.Alive(m.ID) {
		n.cfg.Members.ProbeNow(m.ID) // it is not dead, then
	}
	if !n.met.due(m, time.Now()) {
		return
	}
	if _, member := n.view.Load().byID[m.ID]; !member {
		n.cfg.Members.Heard(m)
		return
	}
	select {
	case n.met.queue <- m:
	default: // it will speak again
	}
}

// meetStrangers probes members at the other addresses from which they spoke.
func (n *Node) meetStrangers(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-n.met.queue:
			n.verify(ctx, m)
		}
	}
}

func (n *Node) verify(ctx context.Context, m discovery.Member) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	id, err := n.Probe(ctx, m.Addr)
	if _, member := n.view.Load().byID[m.ID]; err == nil && id == m.ID && member {
		n.home.Joined(m)
		n.met.know(m)
	}
}
