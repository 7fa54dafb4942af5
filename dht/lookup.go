// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
)

const (
	maxLookups    = 4
	lookupAlpha   = 16
	lookupTries   = 2
	lookupLimit   = 128 // questions per family: at most 256 packets sent
	lookupTimeout = 10 * time.Second
)

// Lookup looks for the peers of a key, and yields them as they are found, each
// once. It ends when the nodes nearest to key have been asked, after 64 peers,
// after 10 s, when ctx ends or when the caller has enough; nothing is left running
// then. It waits while four others run, and, after about twenty in a row, until the
// budget allows another, one a second. It waits for Run to begin, and ends at once
// when that has ended. Any number of callers may look up at the same time.
//
// What is yielded has an address that [Config] allows and a port from 1024 up, and
// is not this node; whether anybody is there, and has the blob, is not known. What
// was found is remembered for 5 minutes and yielded first; if that lookup had come
// to its end, or a lookup of the last minute found nothing, nobody is asked.
func (n *Node) Lookup(ctx context.Context, key Key) iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		known, complete := n.results.get(key)
		for _, peer := range known {
			if !yield(peer) {
				return
			}
		}
		if complete {
			return
		}
		select {
		case n.lookups <- struct{}{}:
			defer func() { <-n.lookups }()
			if n.budget.wait(ctx, lookupCredit) == nil {
				n.lookUp(ctx, key, known, yield)
			}
		case <-ctx.Done():
		}
	}
}

// finding is what one node answered.
type finding struct {
	source netip.AddrPort
	peers  []netip.AddrPort
}

// lookUp yields the peers that are not known yet.
func (n *Node) lookUp(ctx context.Context, key Key, known []netip.AddrPort, yield func(netip.AddrPort) bool) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	sieve := newSieve(n.private, n.ownAddrs(), known)
	var found []netip.AddrPort
	again := make(map[netip.AddrPort]bool) // known ones that are found again
	enough := false
	search := n.search(ctx, key)
	for finding := range search.findings {
		for _, peer := range finding.peers {
			if slices.Contains(known, peer) {
				again[peer] = true
			}
			if enough || !sieve.pass(finding.source, peer) {
				continue
			}
			found = append(found, peer)
			enough = !yield(peer) || sieve.full()
		}
		if enough {
			cancel()
		}
	}
	// A lookup that was broken off, or met nobody, says nothing about what it
	// did not find.
	complete := sieve.full() || ctx.Err() == nil && search.answers.Load() > 0
	for _, peer := range known {
		if again[peer] || !complete {
			found = append(found, peer)
		}
	}
	if complete || len(found) > len(known) {
		n.results.put(key, found, complete)
	}
}

// search is one lookup under way. findings is closed when nothing of it runs any
// more; until then it has to be read.
type search struct {
	findings chan finding
	answers  atomic.Int64
}

func (n *Node) search(ctx context.Context, key Key) *search {
	s := &search{findings: make(chan finding)}
	var running sync.WaitGroup
	for _, f := range n.families {
		running.Go(func() { s.walk(ctx, f, key) })
	}
	go func() {
		running.Wait()
		close(s.findings)
	}()
	return s
}

// walk searches in one family, beginning with what was announced to this node
// itself.
func (s *search) walk(ctx context.Context, f *family, key Key) {
	for _, peer := range f.peers.sample(key, maxFound) {
		s.findings <- finding{peer, []netip.AddrPort{peer}}
	}
	t := &traversal{
		family: f, target: key, method: "get_peers",
		alpha: lookupAlpha, tries: lookupTries, limit: lookupLimit, hurry: true,
		each: func(from netip.AddrPort, r *krpc.Return) bool {
			s.answers.Add(1)
			if peers := peersIn(r); len(peers) > 0 {
				s.findings <- finding{from, peers}
			}
			return true
		},
	}
	t.run(ctx, f.table.nodes(anyNode))
}
