// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"math/bits"
	"net/netip"
	"slices"
	"time"
)

type simTransfer struct {
	*simNode
	blob     Digest
	have     int64
	number   int
	from     []Member
	silent   []netip.AddrPort
	leased   bool
	grantor  Member    // whose lease it is
	alone    bool      // it waited too long, and fetches without being told to
	refuse   time.Time // no lease wanted before
	grew     time.Time
	reported time.Time
	asks     int // so that late answers are told from the latest's
	asking   bool
}

// want begins a transfer.
func (n *simNode) want(blob Digest) {
	if !n.up || n.whole[blob] || n.transfers[blob] != nil {
		return
	}
	tr := &simTransfer{simNode: n, blob: blob, grew: time.Now()}
	n.transfers[blob] = tr
	tr.ask()
	tr.tick()
}

func (tr *simTransfer) over() bool { return tr.transfers[tr.blob] != tr }

// ask asks both homes, and takes the second's word where the first has none.
func (tr *simTransfer) ask() {
	tr.asks++
	tr.asking = true
	ask := tr.asks
	homes := tr.homesOf(tr.blob)
	var second Found // what the second home said
	tr.lookup(homes[0], false, func(f Found, ok bool) {
		switch {
		case ask != tr.asks || !tr.asking:
		case ok && f.State != None:
			tr.act(f, homes[0])
		case second.State != None:
			tr.act(second, homes[1])
		case len(homes) == 2:
			tr.lookup(homes[1], true, func(f Found, ok bool) {
				if ask == tr.asks && tr.asking {
					tr.act(f, homes[1])
				}
			})
		default:
			tr.act(f, homes[0])
		}
	})
	if len(homes) == 2 && !tr.over() {
		tr.lookup(homes[1], false, func(f Found, ok bool) {
			if ask == tr.asks && tr.asking && ok {
				second = f
				if f.State == Held {
					tr.act(f, homes[1])
				}
			}
		})
	}
}

func (tr *simTransfer) lookup(m Member, firstSilent bool, then func(Found, bool)) {
	n, self := tr.simNode, tr.self
	w := Want{Hash: tr.blob, Size: tr.sizes[tr.blob], Lease: time.Now().After(tr.refuse), Have: tr.have, Silent: slices.Clone(tr.silent), FirstSilent: firstSilent}
	var found []Found
	n.call(m, func(to *simNode) {
		found = to.home.Lookup(self, []Want{w})
		if homes := to.homesOf(w.Hash); len(homes) == 2 && homes[0] == to.self {
			if grants := Grants(self, found); grants != nil {
				sender := to.self
				to.call(homes[1], func(next *simNode) { next.home.Copy(sender, grants) }, func(bool) {})
			}
		}
	}, func(ok bool) {
		if tr.over() {
			return
		}
		if !ok || found == nil {
			then(Found{}, false)
			return
		}
		then(found[0], true)
	})
}

// act does what a home said.
func (tr *simTransfer) act(f Found, home Member) {
	tr.asking = false
	tr.number, tr.from = max(f.Number, 0), f.From
	if f.State == Lease && !tr.leased {
		tr.leased, tr.grantor = true, home
		tr.grew = time.Now()
		tr.starts[tr.blob]++
		tr.now[tr.blob]++
		tr.most = max(tr.most, tr.now[tr.blob])
		tr.report(LeaseProgress{Hash: tr.blob, Offset: tr.have})
	}
	if f.State == None || f.State == Coming && len(f.From) == 0 {
		tr.again(100 * time.Millisecond)
	}
}

func (tr *simTransfer) again(d time.Duration) {
	asks := tr.asks
	tr.after(d, func() {
		if !tr.over() && tr.asks == asks {
			tr.ask()
		}
	})
}

func (tr *simTransfer) unlease() {
	if tr.leased {
		tr.leased = false
		tr.now[tr.blob]--
	}
}

// report tells both homes, and minds their answer.
func (tr *simTransfer) report(p LeaseProgress) {
	tr.reported = time.Now()
	self := tr.self
	for _, m := range tr.homesOf(tr.blob) {
		var lost []Digest
		tr.call(m, func(to *simNode) { lost = to.home.Progress(self, []LeaseProgress{p}) }, func(bool) {
			heed := m == tr.grantor || tr.grantor != self && !tr.simNode.alive(tr.grantor.ID)
			if len(lost) > 0 && heed && tr.leased && !tr.over() && !tr.liar {
				tr.unlease()
				tr.from, tr.grew = nil, time.Now()
				tr.ask()
			}
		})
	}
}

func (tr *simTransfer) tick() {
	if tr.over() || !tr.up {
		return
	}
	tr.after(simTick, tr.tick)
	switch {
	case tr.liar:
		tr.lie()
	case tr.leased:
		tr.fetch()
	case tr.alone:
		tr.grow(tr.sizes[tr.blob], simOutside)
	default:
		tr.read()
	}
	if tr.have >= tr.sizes[tr.blob] && !tr.liar {
		tr.unlease()
		tr.whole[tr.blob] = true
		tr.report(LeaseProgress{Hash: tr.blob, Offset: tr.have, Done: true})
		delete(tr.transfers, tr.blob)
	}
}

// lie reports progress for ever.
func (tr *simTransfer) lie() {
	if tr.leased && time.Since(tr.reported) >= time.Second {
		tr.have += 1_000_000
		tr.report(LeaseProgress{Hash: tr.blob, Offset: tr.have})
	}
}

func (tr *simTransfer) fetch() {
	if !tr.noUplink {
		tr.grow(tr.sizes[tr.blob], simOutside)
	}
	if time.Since(tr.grew) >= stalledMost {
		tr.unlease()
		tr.refuse, tr.grew = time.Now().Add(time.Minute), time.Now()
		tr.report(LeaseProgress{Hash: tr.blob, Offset: tr.have, GiveUp: true})
		tr.again(0)
		return
	}
	if time.Since(tr.reported) >= reportEvery {
		tr.report(LeaseProgress{Hash: tr.blob, Offset: tr.have})
	}
}

func (tr *simTransfer) grow(to int64, rate int64) {
	if to > tr.have {
		tr.have = min(to, tr.have+rate*int64(simTick)/int64(time.Second))
		tr.grew = time.Now()
	}
}

// read reads from the place that the home gave.
func (tr *simTransfer) read() {
	waited := time.Since(tr.grew)
	if !tr.excused {
		tr.longest = max(tr.longest, waited)
	}
	if waited >= simPatience && !tr.excused {
		tr.alone, tr.asks, tr.asking = true, tr.asks+1, false
		tr.sim.alone++
		tr.starts[tr.blob]++
		return
	}
	if len(tr.from) == 0 || tr.asking {
		return
	}
	place := tr.at(tr.from[0].Addr)
	refused := false
	switch {
	case !tr.reach(tr.simNode, place):
		refused = !place.up && place.refuses
	case place.liar:
	case place.whole[tr.blob]:
		tr.grow(tr.sizes[tr.blob], simLAN)
	case place.transfers[tr.blob] != nil:
		tr.grow(place.transfers[tr.blob].have, simLAN)
	default:
		refused = true
	}
	patience := 2*time.Second + time.Duration(bits.Len(uint(tr.number)))*500*time.Millisecond
	if refused || waited >= patience && time.Since(tr.grew) >= patience {
		tr.silent = append(tr.silent, tr.from[0].Addr)
		tr.silent = tr.silent[max(0, len(tr.silent)-maxSilent):]
		tr.from = nil
		tr.ask()
	}
}
