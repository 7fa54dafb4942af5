// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"fmt"
	"net/netip"
	"time"
)

// simNode is one machine; its id changes with each start.
type simNode struct {
	*sim
	index     int
	self      Member
	home      *Home
	ring      *Ring
	members   map[string]Member
	dead      map[string]time.Time // members that do not answer, and since when
	up        bool
	refuses   bool // when down: connections are refused, not swallowed
	noUplink  bool
	liar      bool
	excused   bool // it had no uplink, or lied, and so may wait longer
	whole     map[Digest]bool
	transfers map[Digest]*simTransfer
}

func (n *simNode) start() {
	n.up = true
	n.self = Member{ID: fmt.Sprintf("%016x", n.rng.Uint64()), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n.index)}), uint16(1000+n.index))}
	n.members, n.dead, n.transfers = map[string]Member{}, map[string]time.Time{}, map[Digest]*simTransfer{}
	n.home = NewHome(HomeConfig{Self: n.self, Ring: func() *Ring { return n.ring }, Alive: n.alive, Suspect: n.suspect})
	n.ring = NewRing(n.self, nil)
	id := n.self.ID
	var every func()
	every = func() {
		if n.self.ID == id && n.up {
			n.look()
			n.after(time.Second, every)
		}
	}
	n.after(n.rnd(time.Second), every)
}

func (n *simNode) stop(refuses bool) {
	n.up, n.refuses = false, refuses
	for _, tr := range n.transfers {
		tr.unlease()
	}
	n.transfers = nil
}

func (n *simNode) alive(id string) bool {
	_, in := n.members[id]
	_, dead := n.dead[id]
	return in && !dead
}

func (n *simNode) failed(id string) {
	if n.alive(id) {
		n.dead[id] = time.Now()
	}
}

// suspect probes a member that others find silent.
func (n *simNode) suspect(m Member) {
	n.call(m, func(*simNode) {}, func(bool) {})
}

// look sees who is there, as discovery does.
func (n *simNode) look() {
	old := n.ring
	for _, o := range n.nodes {
		if o == n {
			continue
		}
		_, member := n.members[o.self.ID]
		since, dead := n.dead[o.self.ID]
		switch there := n.reach(n, o); {
		case there:
			delete(n.dead, o.self.ID)
			n.members[o.self.ID] = o.self
			if !member {
				n.home.Joined(o.self)
			}
		case member && !dead:
			n.dead[o.self.ID] = time.Now()
		case member && time.Since(since) >= time.Minute:
			n.leave(o.self.ID)
		}
	}
	for id, m := range n.members {
		if n.at(m.Addr).self.ID != id && n.reach(n, n.at(m.Addr)) {
			n.leave(id) // another id answers there
		}
	}
	var others []Member
	for _, m := range n.members {
		others = append(others, m)
	}
	n.ring = NewRing(n.self, others)
	for _, blob := range n.blobs {
		if !n.whole[blob] {
			continue
		}
		homes, k := n.ring.Moved(old, blob)
		for _, m := range homes[:k] {
			n.tell(m, blob)
		}
	}
}

func (n *simNode) leave(id string) {
	delete(n.members, id)
	delete(n.dead, id)
	n.home.Forget(id)
}

func (n *simNode) tell(m Member, blob Digest) {
	self := n.self
	n.call(m, func(to *simNode) { to.home.Announce(self, []Digest{blob}, nil) }, func(bool) {})
}

func (n *simNode) homesOf(blob Digest) []Member {
	homes, k := n.ring.Homes(blob, func(id string) bool { return id != n.self.ID && !n.alive(id) })
	return homes[:k]
}
