// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// maxHerds, maxAskers and maxPlaces bound the blobs that are coming, the
	// askers of one of them and of all; the last takes some 5 MB.
	maxHerds  = 8192
	maxAskers = 512
	maxPlaces = 65536
	// maxLeases and maxMemberPlaces bound what one member has at a time.
	maxLeases       = 256
	maxMemberPlaces = 8192
	// An asker that names treeTries silent places is sent to lease holders only;
	// one that names maxTries is sent nowhere.
	treeTries = 4
	maxTries  = 8
	// maxSilent is how many silent places of one want are looked at.
	maxSilent = 16
	// heirPatience is how long a free lease waits for the asker that comes
	// next; it is told when it asks.
	heirPatience = 250 * time.Millisecond
	// unreached is how long an asker stays without a place that it can reach,
	// while there are bytes to be had, before it gets a lease of its own.
	unreached = 500 * time.Millisecond
	// justSpoke is how long after its last word an asker counts that is thought to
	// be dead: until it has been probed.
	justSpoke = 250 * time.Millisecond
	// herdAge is how long a blob without a lease, or without reports, is
	// remembered when nobody asks for it.
	herdAge = time.Minute
)

// A herd is all who want one blob while it is coming. There is one lease, and
// more only where askers cannot reach who has it.
//
// Who reads from whom never goes in a circle: an asker reads from a lower
// number or from one that has a lease, and who ever had a lease only from one
// that has it now. Only an asker that complains may get another place, and then
// a circle costs it another complaint.
type herd struct {
	askers  []asker // the index is the number
	leases  int
	moves   int       // leases that were taken away
	offset  int64     // how far a lease that ended came
	vacated time.Time // when the last one ended
	asked   time.Time
}

type asker struct {
	*peer           // nil: a number of which only the first home knows
	have  int64     // bytes it had when it asked last
	lease *lease    // nil: none
	held  bool      // it had a lease before
	ready bool      // it would have taken a lease when it asked last
	left  bool      // it wants the blob no more
	stuck time.Time // since when it has no place that it can reach
}

// number returns an asker's number, -1 if it has none.
func (g *herd) number(p *peer) int {
	return slices.IndexFunc(g.askers, func(a asker) bool { return a.peer == p })
}

func (g *herd) hasLease(id string) bool {
	return slices.ContainsFunc(g.askers, func(a asker) bool { return a.lease != nil && a.ID == id })
}

// startLocked makes the asker the first of a new herd.
func (h *Home) startLocked(now time.Time, p *peer, w *Want) Found {
	if len(h.herds) >= maxHerds || p.leases >= maxLeases {
		return unrecorded(w.Hash)
	}
	g := &herd{asked: now}
	if h.enrolLocked(g, p) < 0 {
		return unrecorded(w.Hash)
	}
	h.herds[w.Hash] = g
	h.grantLocked(now, g, 0, w.Have)
	return g.leaseFor(w.Hash, 0)
}

// enrolLocked gives p the next number, -1 if there is no room.
func (h *Home) enrolLocked(g *herd, p *peer) int {
	if p.slot == noSlot || len(g.askers) >= maxAskers || h.places >= maxPlaces || p.places >= maxMemberPlaces {
		return -1
	}
	g.askers = append(g.askers, asker{peer: p})
	p.places++
	h.places++
	return len(g.askers) - 1
}

// askLocked answers an asker of a blob that is coming, or was until just now.
// Unless this home acts as the first, it gives no numbers and no leases.
func (h *Home) askLocked(now time.Time, g *herd, p *peer, w *Want, acting bool) Found {
	g.asked = now
	h.expireLocked(now, g, w)
	number := g.number(p)
	if number < 0 && acting {
		number = h.enrolLocked(g, p)
	}
	if number < 0 {
		return h.visitLocked(now, g, p, w, acting)
	}
	a := &g.askers[number]
	a.note(w)
	if a.lease != nil { // the answer that said so was lost
		a.lease.reported = now
		return g.leaseFor(w.Hash, number)
	}
	from := h.placesLocked(now, g, a, number, w)
	if acting && w.Lease && h.dueLocked(now, g, number, len(from)) {
		h.grantLocked(now, g, number, w.Have)
		return g.leaseFor(w.Hash, number)
	}
	return Found{Hash: w.Hash, State: Coming, Number: number, From: from}
}

// visitLocked answers an asker that has no number: one that asks a second home,
// or for which there is no room.
func (h *Home) visitLocked(now time.Time, g *herd, p *peer, w *Want, acting bool) Found {
	from := h.placesLocked(now, g, &asker{peer: p}, len(g.askers), w)
	if acting && w.Lease && len(from) == 0 {
		return unrecorded(w.Hash)
	}
	return Found{Hash: w.Hash, State: Coming, Number: -1, From: from}
}

// unrecorded is a lease of which the home keeps nothing, for want of room.
func unrecorded(blob Digest) Found {
	return Found{Hash: blob, State: Lease, Number: -1, Until: leaseTerm}
}

func (g *herd) leaseFor(blob Digest, number int) Found {
	return Found{Hash: blob, State: Lease, Number: number, Until: leaseTerm, Offset: g.offset}
}

// note takes over what an asker says of itself.
func (a *asker) note(w *Want) {
	if w.Have > a.have {
		a.stuck = time.Time{}
	}
	a.have, a.ready, a.left = w.Have, w.Lease, false
}

// dueLocked reports whether an asker that wants a lease gets it: a free one if
// it is the heir or the heir does not come, one of its own if it can reach
// nobody though there are bytes that it lacks.
func (h *Home) dueLocked(now time.Time, g *herd, number, places int) bool {
	a := &g.askers[number]
	if a.leases >= maxLeases {
		return false
	}
	if g.leases == 0 {
		return number == h.heirLocked(now, g) || now.Sub(g.vacated) >= heirPatience
	}
	if places > 0 || !g.ahead(a.have) {
		a.stuck = time.Time{}
		return false
	}
	if a.stuck.IsZero() {
		a.stuck = now
	}
	return now.Sub(a.stuck) >= unreached
}

// ahead reports whether a lease holder has more than that.
func (g *herd) ahead(have int64) bool {
	return slices.ContainsFunc(g.askers, func(a asker) bool { return a.lease != nil && a.lease.offset > have })
}

// heirLocked returns who gets a free lease: of those that would take it, and
// have not lost it before, the one that has most, then the one that came first.
// It is -1 where there is none.
func (h *Home) heirLocked(now time.Time, g *herd) int {
	heir := -1
	for i := range g.askers {
		a := &g.askers[i]
		if a.ready && !a.held && h.waitsLocked(now, a) && (heir < 0 || a.have > g.askers[heir].have) {
			heir = i
		}
	}
	return heir
}

// waitsLocked reports whether an asker is still there and wants the blob. One
// that has just spoken is there, though it was too busy to answer somebody.
func (h *Home) waitsLocked(now time.Time, a *asker) bool {
	return a.peer != nil && !a.left && (h.presentLocked(now, a.peer) || !a.gone && now.Sub(a.heard) < justSpoke)
}

// placesLocked returns where an asker reads: the place ⌊(n−1)/2⌋ of the tree or
// a lower one that is still there, then those that have a lease; two at most.
func (h *Home) placesLocked(now time.Time, g *herd, a *asker, n int, w *Want) []Member {
	var from []Member
	try := func(b *asker) bool {
		if b.peer != nil && !b.left && h.usableLocked(now, b.peer, a.peer) && !w.silent(b.peer) && !slices.Contains(from, b.Member) {
			from = append(from, b.Member)
		}
		return len(from) == 2
	}
	silent := len(w.Silent)
	if silent >= maxTries {
		return nil
	}
	tree := n > 0 && silent < treeTries && (!a.held || silent > 0)
	for i := (n - 1) / 2; tree && i >= 0; i-- {
		if try(&g.askers[i]) {
			return from
		}
	}
	for i := range g.askers {
		if g.askers[i].lease != nil && try(&g.askers[i]) {
			return from
		}
	}
	return from
}

// silent reports whether the asker heard nothing from p.
func (w *Want) silent(p *peer) bool {
	return slices.ContainsFunc(w.Silent, func(s netip.AddrPort) bool {
		return s.Port() == p.Addr.Port() && s.Addr().WithZone("") == p.Addr.Addr().WithZone("")
	})
}

// copyLocked records what the first home granted.
func (h *Home) copyLocked(now time.Time, c Grant) {
	p := h.roster.mention(c.Asker)
	if p == nil || c.Number < 0 || c.Number >= maxAskers {
		return
	}
	g := h.herds[c.Hash]
	if g == nil {
		if len(h.herds) >= maxHerds {
			return
		}
		g = &herd{asked: now, vacated: now}
		h.herds[c.Hash] = g
	}
	g.asked = now
	number := h.seatLocked(g, p, c.Number)
	if c.Lease && number >= 0 && g.askers[number].lease == nil && p.leases < maxLeases {
		g.offset = max(g.offset, c.Offset)
		h.grantLocked(now, g, number, 0)
	}
}

// seatLocked gives p the number that the first home gave it, unless it has one
// or another has that. It returns the number of p, -1 if there is no room.
func (h *Home) seatLocked(g *herd, p *peer, number int) int {
	if n := g.number(p); n >= 0 {
		return n
	}
	if p.slot == noSlot || p.places >= maxMemberPlaces || h.places+max(0, number+1-len(g.askers)) > maxPlaces {
		return -1
	}
	for len(g.askers) <= number {
		g.askers = append(g.askers, asker{})
		h.places++
	}
	if g.askers[number].peer != nil {
		return -1
	}
	g.askers[number] = asker{peer: p}
	p.places++
	return number
}

// dropLocked forgets a herd.
func (h *Home) dropLocked(blob Digest, g *herd) {
	for i := range g.askers {
		a := &g.askers[i]
		if a.lease != nil {
			a.leases--
		}
		if a.peer != nil {
			a.places--
		}
	}
	h.places -= len(g.askers)
	delete(h.herds, blob)
}

func (h *Home) sweepHerdsLocked(now time.Time) {
	for blob, g := range h.herds {
		last := g.asked
		for i := range g.askers {
			if l := g.askers[i].lease; l != nil && l.reported.After(last) {
				last = l.reported
			}
		}
		if now.Sub(last) >= herdAge {
			h.dropLocked(blob, g)
		}
	}
}
