// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import "time"

const (
	// reportEvery is how often lease holders report, at least.
	reportEvery = time.Second
	// leaseTerm is how long a lease lasts without a report.
	leaseTerm = 5 * reportEvery
	// silentHolder is the same where a reader hears nothing either.
	silentHolder = 2 * reportEvery
	// stalledHolder is how long a holder that reports may stay without
	// progress while a reader waits, the first byte included. It doubles with
	// each move in vain up to stalledMost, the patience with mirrors: where the
	// mirror is what is slow, moving the lease only costs.
	stalledHolder = 5 * time.Second
	stalledMost   = 15 * time.Second
	// slowWindow and slowRate, in bytes per second, are what a holder that has
	// begun must keep up while a reader complains; the window doubles likewise.
	slowWindow   = 5 * time.Second
	slowRate     = 64_000
	maxDoublings = 6
)

// A lease is the right of one asker to fetch a blob from outside.
type lease struct {
	offset     int64 // bytes from the start that the holder has
	reported   time.Time
	progressed time.Time // when offset last grew, at first when it was granted
	windowFrom time.Time // when its present rate began to be measured
	windowAt   int64     // and the offset then
	slow       bool      // the last window that ended was below slowRate
}

func newLease(now time.Time, offset int64) *lease {
	return &lease{offset: offset, reported: now, progressed: now, windowFrom: now, windowAt: offset}
}

// report notes how far the holder is.
func (l *lease) report(now time.Time, offset int64, window time.Duration) {
	l.reported = now
	if offset > l.offset {
		l.offset, l.progressed = offset, now
	}
	if l.offset == l.windowAt {
		l.windowFrom = now // to wait, as for the first byte, is not to be slow
		return
	}
	if passed := now.Sub(l.windowFrom); passed >= window {
		l.slow = l.offset-l.windowAt < int64(slowRate*passed.Seconds())
		l.windowFrom, l.windowAt = now, l.offset
	}
}

// failing reports whether the lease shall be moved because a reader, who knows
// the blob's size, complains.
func (l *lease) failing(now time.Time, size int64, moves int) bool {
	patience := min(stalledHolder<<min(moves, maxDoublings), stalledMost)
	return now.Sub(l.reported) >= silentHolder ||
		now.Sub(l.progressed) >= patience ||
		size > 0 && l.offset > size ||
		l.slow
}

// window is over what time a holder's rate is measured.
func (g *herd) window() time.Duration {
	return slowWindow << min(g.moves, maxDoublings)
}

// expire ends the leases that are over: of holders that are gone or say nothing
// any more, and, where the asker of w complains, of those that do not progress.
func (h *Home) expireLocked(now time.Time, g *herd, w *Want) {
	for i := range g.askers {
		a := &g.askers[i]
		switch {
		case a.lease == nil:
		case !h.waitsLocked(now, a),
			now.Sub(a.lease.reported) >= leaseTerm,
			len(w.Silent) > 0 && a.lease.failing(now, w.Size, g.moves):
			g.moves++
			g.endLease(now, a)
		}
	}
}

// grantLocked gives the lease to an asker.
func (h *Home) grantLocked(now time.Time, g *herd, number int, have int64) {
	a := &g.askers[number]
	a.lease = newLease(now, have)
	a.held = true
	a.leases++
	g.leases++
}

// endLease takes the lease from an asker. If it was the last one, the blob is
// free for the next.
func (g *herd) endLease(now time.Time, a *asker) {
	g.offset = max(g.offset, a.lease.offset)
	a.have = max(a.have, a.lease.offset)
	a.lease = nil
	a.leases--
	if g.leases--; g.leases == 0 {
		g.vacated = now
	}
}

// reportLocked notes the progress of a lease holder, and reports whether the
// lease is still its own. Only the first home says no: another may have missed
// the grant.
func (h *Home) reportLocked(now time.Time, p *peer, l LeaseProgress) bool {
	g := h.herds[l.Hash]
	if g == nil {
		return h.adoptLocked(now, p, l)
	}
	number := g.number(p)
	if number >= 0 && g.askers[number].lease != nil {
		g.askers[number].lease.report(now, l.Offset, g.window())
		return true
	}
	if g.leases > 0 && h.isFirst(l.Hash) {
		return g.hasLease(p.ID) // asked and reports from two addresses
	}
	if number < 0 {
		number = h.enrolLocked(g, p)
	}
	if number >= 0 && !g.askers[number].left && p.leases < maxLeases {
		h.grantLocked(now, g, number, l.Offset)
	}
	return true
}

// adoptLocked takes over a lease that another home granted, unless the blob is
// to be had on the LAN by now.
func (h *Home) adoptLocked(now time.Time, p *peer, l LeaseProgress) bool {
	w := Want{Hash: l.Hash, Have: l.Offset}
	if h.isFirst(l.Hash) && len(h.pickLocked(now, p, &w)) > 0 {
		return false
	}
	if !h.holders.has(l.Hash, p) {
		h.startLocked(now, p, &w)
	}
	return true
}

// giveUpLocked takes a lease back, or a place.
func (h *Home) giveUpLocked(now time.Time, p *peer, l LeaseProgress) {
	g := h.herds[l.Hash]
	if g == nil {
		return
	}
	number := g.number(p)
	if number < 0 {
		return
	}
	a := &g.askers[number]
	if a.lease != nil {
		a.lease.offset = max(a.lease.offset, l.Offset)
		g.endLease(now, a)
	}
	a.left = true
}

// leaveLocked ends the place of one that has the whole blob. When the last
// lease ends so, the others learn at their next lookup that it is held.
func (h *Home) leaveLocked(now time.Time, p *peer, blob Digest) {
	g := h.herds[blob]
	if g == nil {
		return
	}
	number := g.number(p)
	if number < 0 || g.askers[number].lease == nil {
		return
	}
	g.endLease(now, &g.askers[number])
	if g.leases == 0 {
		h.dropLocked(blob, g)
	}
}
