// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// foundFor is how long peers that were found are given without a lookup.
	foundFor = 5 * time.Minute
	// missingFor is how long a key without peers is not looked up again.
	missingFor = time.Minute
	// maxResults bounds the keys remembered, at most maxFound × 32 bytes each.
	maxResults = 1024
)

// results remembers what lookups have found.
type results struct {
	mu sync.Mutex // guards following

	byKey *recent[Key, result]
}

type result struct {
	peers    []netip.AddrPort
	complete bool // the lookup was not broken off
	until    time.Time
}

func newResults() *results {
	return &results{byKey: newRecent[Key, result](maxResults / 2)}
}

// get returns the peers last found, and whether looking again is no use now.
func (r *results) get(key Key) (peers []netip.AddrPort, complete bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found, ok := r.byKey.get(key)
	if !ok || !time.Now().Before(found.until) {
		return nil, false
	}
	return found.peers, found.complete
}

func (r *results) put(key Key, peers []netip.AddrPort, complete bool) {
	keep := missingFor
	if len(peers) > 0 {
		keep = foundFor
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byKey.put(key, result{peers, complete, time.Now().Add(keep)})
}
