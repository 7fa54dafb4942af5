// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import "time"

// ladder decides which source is next when one has failed.
type ladder struct {
	at    int   // the source in use
	fails []int // failures without progress, per source
}

// maxFails is how often one source may fail without having sent anything in
// between. Before the first byte it may not fail at all: apt can still be told,
// and comes back by itself.
const maxFails = 3

// pauses are the waits before the first, second, … try in a row: a connection
// that broke is taken up at once.
var pauses = [maxFails]time.Duration{0, 500 * time.Millisecond, 2 * time.Second}

func newLadder(sources int) *ladder {
	return &ladder{fails: make([]int, sources)}
}

// next notes that the source in use ended with err, having sent something or
// not, and chooses where to go on, after which pause. begun tells whether there
// are bytes of the file at all. False: nowhere.
func (l *ladder) next(err error, begun, progressed bool) (pause time.Duration, ok bool) {
	switch {
	case !temporary(err) || !begun:
		l.fails[l.at] = maxFails
	case progressed:
		l.fails[l.at] = 0
	default:
		l.fails[l.at]++
	}
	best := (l.at + 1) % len(l.fails)
	for i := range l.fails {
		j := (l.at + 1 + i) % len(l.fails)
		if l.fails[j] < l.fails[best] {
			best = j
		}
	}
	l.at = best
	if l.fails[best] >= maxFails {
		return 0, false
	}
	return pauses[l.fails[best]], true
}
