// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"math"
	"time"
)

const (
	// maxPeers bounds whom a home knows: five times the LAN it is made for.
	maxPeers = 1024
	// maxStrangers of them may be members that never answered our probe.
	maxStrangers = maxPeers / 2
	// strangerTerm is how long a stranger counts after it spoke: the time in
	// which it answers our probe, if it can be reached at all.
	strangerTerm = time.Minute
	// strangerAge is how long a stranger is remembered that says nothing.
	strangerAge = 10 * time.Minute
	// holderAge is how long a holder's word counts unless it is renewed.
	holderAge = 24 * time.Hour
)

// A peer is a member as a home knows it.
type peer struct {
	Member
	slot      uint32    // its index in the roster, noSlot if it is not there
	joined    bool      // it answered our probe
	heard     time.Time // when it last spoke; zero: not since this home was started
	suspected time.Time
	rows      int // blobs it holds
	places    int // places it was given as an asker
	leases    int
	gone      bool // forgotten; its rows and places wait for the sweep
}

const noSlot = math.MaxUint32

// A roster is whom a home knows. Rows refer to peers by their slots, so a slot
// is free again only when its peer's rows are gone.
type roster struct {
	peers     map[Member]*peer
	slots     []*peer // nil where free
	free      []uint32
	strangers int
	gone      bool // some peer waits for the sweep
}

func newRoster() roster {
	return roster{peers: make(map[Member]*peer)}
}

// heard returns the member that speaks just now. One for whom there is no room
// gets a peer of its own that nothing can be recorded for.
func (r *roster) heard(m Member, now time.Time) *peer {
	p := r.mention(m)
	if p == nil {
		p = &peer{Member: m, slot: noSlot}
	}
	p.heard = now
	return p
}

// mention returns a member of whom others speak, nil if there is no room.
func (r *roster) mention(m Member) *peer {
	p := r.peers[m]
	if p == nil && r.strangers < maxStrangers {
		p = r.add(m)
	}
	return p
}

// join marks a member as one that answered, and forgets who was at its address
// before: an id changes when a node is started anew.
func (r *roster) join(m Member, now time.Time) {
	r.forget(func(p *peer) bool { return p.Addr == m.Addr && p.ID != m.ID })
	p := r.peers[m]
	if p == nil {
		p = r.add(m)
	}
	if p == nil {
		return
	}
	p.heard = now
	if !p.joined {
		p.joined = true
		r.strangers--
	}
}

// add returns a new stranger, nil if the roster is full.
func (r *roster) add(m Member) *peer {
	if len(r.slots)-len(r.free) >= maxPeers {
		return nil
	}
	p := &peer{Member: m}
	if n := len(r.free); n > 0 {
		p.slot, r.free = r.free[n-1], r.free[:n-1]
		r.slots[p.slot] = p
	} else {
		p.slot = uint32(len(r.slots))
		r.slots = append(r.slots, p)
	}
	r.peers[m] = p
	r.strangers++
	return p
}

// forget marks the peers as gone for which match returns true.
func (r *roster) forget(match func(*peer) bool) {
	for m, p := range r.peers {
		if !match(p) {
			continue
		}
		p.gone, r.gone = true, true
		delete(r.peers, m)
		if !p.joined {
			r.strangers--
		}
	}
}

// idle reports whether a peer is a stranger that nothing depends on any more.
// One of whom only kept rows tell is given the time that these count for.
func (p *peer) idle(now time.Time) bool {
	return !p.joined && p.rows == 0 && p.places == 0 && now.Sub(p.heard) > strangerAge
}

// clean frees the slots of those that are gone. The caller has dropped their
// rows and places.
func (r *roster) clean() {
	for i, p := range r.slots {
		if p != nil && p.gone {
			r.slots[i] = nil
			r.free = append(r.free, uint32(i))
		}
	}
	r.gone = false
}

// fattest returns the peer with the most rows.
func (r *roster) fattest() *peer {
	var most *peer
	for _, p := range r.slots {
		if p != nil && (most == nil || p.rows > most.rows) {
			most = p
		}
	}
	return most
}
