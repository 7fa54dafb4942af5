// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"apt-dht/proxy/fetch"
)

const (
	// asideFor is how long a node that sent wrong bytes is set aside.
	asideFor = 24 * time.Hour

	maxLiars = 1024
)

// Liars are the nodes that are set aside for a day, by id and by address. The
// zero value is ready.
type Liars struct {
	any atomic.Bool // there was one: most nodes never meet one

	mu     sync.Mutex // guards following
	byID   map[string]lie
	byAddr map[netip.AddrPort]lie
}

// lie is what a node did.
type lie struct {
	what string
	at   time.Time
}

func (l lie) counts() bool { return !l.at.IsZero() && time.Since(l.at) < asideFor }

// Add reports whether p was not set aside already.
func (l *Liars) Add(p fetch.Peer, what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID == nil || len(l.byID) >= maxLiars {
		l.byID, l.byAddr = make(map[string]lie), make(map[netip.AddrPort]lie)
	}
	known := l.byID[p.ID].counts() && l.byAddr[p.Addr].counts()
	l.byID[p.ID] = lie{what, time.Now()}
	l.byAddr[p.Addr] = l.byID[p.ID]
	l.any.Store(true)
	return !known
}

// Has tells whether p's id or address is set aside.
func (l *Liars) Has(p fetch.Peer) bool {
	if !l.any.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[p.ID].counts() || l.byAddr[p.Addr].counts()
}

// About tells what p did, nothing if it is not set aside.
func (l *Liars) About(p fetch.Peer) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lie := range []lie{l.byID[p.ID], l.byAddr[p.Addr]} {
		if lie.counts() {
			return lie.what
		}
	}
	return ""
}
