// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import "time"

// A window counts the files that are, or may be, fetched from outside.
type window struct {
	free      bool
	budget    int64
	count     int
	bytes     int64
	now       time.Time
	nextStale time.Time // when the first that counts ceases to; zero: none
}

func (g *gate) newWindow() window {
	w := window{free: g.free(), now: time.Now()}
	if !w.free {
		w.budget = max(g.uplink.budget()/int64(max(len(g.lines), 1)), minShare)
	}
	return w
}

// fits tells whether a file of that size is within the budget, if the others
// are those that the window has taken.
func (w *window) fits(size int64) bool {
	return w.free || w.count == 0 || w.count < maxOutside && w.bytes+size <= w.budget
}

// takes counts an entry.
func (w *window) takes(e *entry) {
	if e.stage == inside {
		return
	}
	if e.stage == outside || e.stage == abroad {
		over := e.since.Add(stale)
		if !w.now.Before(over) {
			return
		}
		if w.nextStale.IsZero() || over.Before(w.nextStale) {
			w.nextStale = over
		}
	}
	w.count++
	w.bytes += e.left
}
