// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"apt-dht/index/trust"
)

const (
	// keepGenerations is how many generations of a suite are kept though nobody was given them lately. Unstable
	// changes four times a day, and mirrors keep what it drops about that long.
	keepGenerations = 4

	// maxGenerations bounds those kept because they were given lately.
	maxGenerations = 16

	// forgetAfter is when a suite that no client asks for any more is dropped.
	forgetAfter = 30 * 24 * time.Hour

	// maxTexts bounds the Release files kept, in bytes; their tables take about as much memory. Debian's
	// and Ubuntu's largest have 300 kB.
	maxTexts = 48 << 20
)

// suite is one directory with a root file. Its fields are guarded by Index.mu.
type suite struct {
	dir, base   string
	generations []*generation           // the newest first; never empty
	asked       map[string]*atomic.Bool // by path: lists that clients use
}

func newSuite(dir string) *suite {
	base, _ := splitSuite(dir)
	return &suite{dir: dir, base: base, asked: make(map[string]*atomic.Bool)}
}

// add appends a generation, which is not yet seen by lookups.
func (st *suite) add(g *generation) {
	st.generations = append(st.generations, g)
	for _, p := range g.parts {
		path := askedPath(p.path)
		if st.asked[path] == nil {
			st.asked[path] = new(atomic.Bool)
		}
		p.asked = st.asked[path]
	}
}

func (st *suite) byRoot(root Digest) *generation {
	for _, g := range st.generations {
		if g.root == root {
			return g
		}
	}
	return nil
}

// sort puts the generations into order. A root that is trusted and has not expired comes before all others, so
// that nobody who sits on the wire can replace it or roll it back: of those the latest Date is the newest.
// Others have nothing but the order in which they came.
func (st *suite) sort(now time.Time) {
	slices.SortStableFunc(st.generations, func(a, b *generation) int {
		goodA, goodB := a.good(now), b.good(now)
		switch {
		case goodA && goodB:
			return cmp.Or(b.release.date.Compare(a.release.date), cmp.Compare(b.arrived, a.arrived))
		case goodA:
			return -1
		case goodB:
			return 1
		}
		return cmp.Compare(b.arrived, a.arrived)
	})
}

func (g *generation) good(now time.Time) bool {
	until := g.release.validUntil
	return g.verdict == trust.Verified && (until.IsZero() || now.Before(until))
}

// trim drops generations that nobody needs: beyond the newest few, not given to anybody lately, and not in
// apt's lists.
func (st *suite) trim(now time.Time, listed map[Digest]bool) {
	kept := st.generations[:0:0]
	for i, g := range st.generations {
		lately := i < maxGenerations && now.Sub(g.used) < holdTime
		if i < keepGenerations || lately || listed[g.root] {
			kept = append(kept, g)
		}
	}
	st.generations = kept
}

// lastUsed is when any of the generations was last added or given.
func (st *suite) lastUsed() time.Time {
	var last time.Time
	for _, g := range st.generations {
		if g.used.After(last) {
			last = g.used
		}
	}
	return last
}

func (st *suite) textSize() (size int64) {
	for _, g := range st.generations {
		size += g.textSize
	}
	return size
}

// trimLocked drops all generations and suites that nobody needs, and those longest unused where their
// Release files exceed the bound.
func (x *Index) trimLocked(now time.Time) {
	listed := make(map[Digest]bool)
	for _, f := range x.lists {
		listed[f.root] = true
	}
	total := int64(0)
	for dir, st := range x.suites {
		st.sort(now)
		st.trim(now, listed)
		inLists := slices.ContainsFunc(st.generations, func(g *generation) bool { return listed[g.root] })
		if !inLists && now.Sub(st.lastUsed()) > forgetAfter {
			delete(x.suites, dir)
			continue
		}
		total += st.textSize()
	}
	for ; total > maxTexts; total = x.dropOldestLocked(total) {
	}
}

// dropOldestLocked drops the suite that was not used for the longest time, and returns what remains of total.
func (x *Index) dropOldestLocked(total int64) int64 {
	var oldest *suite
	for _, st := range x.suites {
		if oldest == nil || st.lastUsed().Before(oldest.lastUsed()) {
			oldest = st
		}
	}
	delete(x.suites, oldest.dir)
	return total - oldest.textSize()
}

// dropCataloguesLocked forgets what has been parsed of files that no generation names, and what cannot be read.
func (x *Index) dropCataloguesLocked(now time.Time) {
	needed := make(map[contentID]bool)
	for _, st := range x.suites {
		for _, g := range st.generations {
			for _, f := range g.files {
				needed[f.id()] = true
			}
		}
	}
	for id, c := range x.catalogues {
		if !needed[id] || c.broken.Load() {
			delete(x.catalogues, id)
		}
	}
	for id, until := range x.failed {
		if !needed[id] || now.After(until) {
			delete(x.failed, id)
		}
	}
}
