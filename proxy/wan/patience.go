// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"sync"
	"time"
)

const (
	// The mirror waits firstPatience for peers at first: a lookup that succeeds
	// mostly finds somebody in that time. While peers bring bytes it waits up to
	// mostPatience; below leastPatience it does not wait.
	firstPatience = 100 * time.Millisecond
	mostPatience  = 1500 * time.Millisecond
	leastPatience = 20 * time.Millisecond

	// probeEvery is how often one transfer waits for firstPatience all the same.
	probeEvery = time.Minute
)

// patience is how long a mirror waits for peers. It follows what the last blobs
// that were sought have got of them.
type patience struct {
	mu     sync.Mutex // guards following
	now    time.Duration
	probed time.Time
}

func newPatience() *patience { return &patience{now: firstPatience} }

// brought is how patience changes with a blob that peers have helped with, or not.
func brought(now time.Duration, helped bool) time.Duration {
	switch {
	case helped:
		return min(max(2*now, firstPatience), mostPatience)
	case now/2 < leastPatience:
		return 0
	default:
		return now / 2
	}
}

func (p *patience) learn(helped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = brought(p.now, helped)
}

// at is for how long the mirror waits from t.
func (p *patience) at(t time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now > 0 {
		p.probed = t
		return p.now
	}
	if t.Sub(p.probed) < probeEvery {
		return 0
	}
	p.probed = t
	return firstPatience
}

// Patience implements fetch.WAN.
func (n *Node) Patience() time.Duration { return n.patience.at(time.Now()) }

// Brought implements fetch.WAN.
func (n *Node) Brought(_ Digest, bytes int64) { n.patience.learn(bytes > 0) }
