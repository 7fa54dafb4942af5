// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"time"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
)

// view is who is there, as questions need it: immutable, replaced as a whole.
type view struct {
	ring    *discovery.Ring
	members []discovery.Member // without this node
	byID    map[string]discovery.Member
	since   map[string]time.Time // when each was seen first
}

func (n *Node) newView(members []discovery.Member, now time.Time) *view {
	v := &view{
		ring:    discovery.NewRing(n.self, members),
		members: members,
		byID:    make(map[string]discovery.Member, len(members)),
		since:   make(map[string]time.Time, len(members)),
	}
	old := n.view.Load()
	for _, m := range members {
		v.byID[m.ID] = m
		v.since[m.ID] = now
		if old != nil && !old.since[m.ID].IsZero() {
			v.since[m.ID] = old.since[m.ID]
		}
	}
	return v
}

// followRing keeps the view, and what hangs on it, up to date.
func (n *Node) followRing(ctx context.Context) error {
	for {
		changed := n.cfg.Members.Changed()
		n.adoptRing(n.cfg.Members.Members())
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// adoptRing makes members the ring. The home must know a member before it is
// asked for by the ring, and forget it only after.
func (n *Node) adoptRing(members []discovery.Member) {
	old, next := n.view.Load(), n.newView(members, time.Now())
	for _, m := range members {
		if old.byID[m.ID] != m {
			n.home.Joined(m)
			n.met.know(m)
		}
	}
	n.view.Store(next)
	for id, m := range old.byID {
		if _, still := next.byID[id]; !still {
			n.home.Forget(id)
			n.met.forget(id)
			n.anew.forget(id)
			n.bytes.forget(id, m.Addr.Addr().WithZone(""))
		}
	}
	poke(n.anew.ring)
}

// alive reports whether a node is to be asked: this one, or a member that
// answers and has not lied.
func (n *Node) alive(id string) bool {
	return id == n.self.ID || n.cfg.Members.Alive(id) && !n.liars.Has(fetch.Peer{ID: id, Addr: n.view.Load().byID[id].Addr})
}

func (n *Node) dead(id string) bool { return !n.alive(id) }

// homes are the nodes that act as a blob's homes now, at least one.
func (n *Node) homes(d Digest) []discovery.Member {
	acting, k := n.view.Load().ring.Homes(d, n.dead)
	return acting[:k]
}

// homesToAsk are those that shall be asked: also without mute, the id of a node
// that has just not answered, or empty. forced tells that the first of them stands
// in for another.
func (n *Node) homesToAsk(d Digest, mute string) (homes []discovery.Member, forced bool) {
	ring := n.view.Load().ring
	first, _ := ring.Homes(d, nil)
	acting, k := ring.Homes(d, func(id string) bool {
		return id != n.self.ID && (id == mute || n.dead(id) || n.stallers.has(id))
	})
	return acting[:k], acting[0].ID != first[0].ID
}

// Alone implements fetch.LAN.
func (n *Node) Alone() bool { return len(n.view.Load().members) == 0 }

// isSelf tells this node among a blob's homes.
func (n *Node) isSelf(m discovery.Member) bool { return m.ID == n.self.ID }

// Failed implements fetch.LAN. One that is slow to give a file may only be busy,
// and each change of who is alive moves homes: so it is probed first.
func (n *Node) Failed(p fetch.Peer) {
	if n.view.Load().byID[p.ID].Addr == p.Addr {
		n.cfg.Log.Debug("a node of the LAN failed as a source", "id", p.ID, "addr", p.Addr)
		n.cfg.Members.ProbeNow(p.ID)
	}
}
