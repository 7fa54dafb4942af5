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
// to its end, or a lookup of the last minute found nothing, nobody is asked: of the
// family, for IPv4 and IPv6 are two DHTs.
func (n *Node) Lookup(ctx context.Context, key Key) iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		var searches []*search
		for _, f := range n.families {
			known, complete := f.results.get(key)
			for _, peer := range known {
				if !yield(peer) {
					return
				}
			}
			if !complete && f.canSearch(key) {
				searches = append(searches, &search{family: f, known: known})
			}
		}
		if len(searches) == 0 {
			return
		}
		select {
		case n.lookups <- struct{}{}:
			defer func() { <-n.lookups }()
			if n.budget.wait(ctx, lookupCredit) == nil {
				n.lookUp(ctx, key, searches, yield)
			}
		case <-ctx.Done():
		}
	}
}

// canSearch reports whether there is anything to begin with.
func (f *family) canSearch(key Key) bool {
	return len(f.table.nodes(anyNode)) > 0 || len(f.peers.sample(key, 1)) > 0
}

// search is one lookup in one family.
type search struct {
	family *family
	known  []netip.AddrPort // what was yielded of an earlier one
	again  []netip.AddrPort // of those, what is found again
	found  []netip.AddrPort // besides

	answers atomic.Int64
}

// finding is what one node answered.
type finding struct {
	search *search
	source netip.AddrPort
	peers  []netip.AddrPort
}

// lookUp yields the peers that are not known yet.
func (n *Node) lookUp(ctx context.Context, key Key, searches []*search, yield func(netip.AddrPort) bool) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	sieve := newSieve(n.private, n.ownAddrs())
	for _, s := range searches {
		sieve.know(s.known)
	}
	enough := false
	for finding := range startAll(ctx, key, searches) {
		for _, peer := range finding.peers {
			finding.search.recognise(peer)
			if enough || !sieve.pass(finding.source, peer) {
				continue
			}
			finding.search.found = append(finding.search.found, peer)
			enough = !yield(peer) || sieve.full()
		}
		if enough {
			cancel()
		}
	}
	for _, s := range searches {
		// A lookup that was broken off, or met nobody, says nothing about what it
		// did not find.
		s.remember(key, sieve.full() || ctx.Err() == nil && s.answers.Load() > 0)
	}
}

// recognise notes that a peer that may be known is found again.
func (s *search) recognise(peer netip.AddrPort) {
	if slices.Contains(s.known, peer) && !slices.Contains(s.again, peer) {
		s.again = append(s.again, peer)
	}
}

// remember keeps what was found for the next lookups.
func (s *search) remember(key Key, complete bool) {
	switch {
	case complete:
		s.family.results.put(key, slices.Concat(s.again, s.found), true)
	case len(s.found) > 0:
		s.family.results.put(key, slices.Concat(s.known, s.found), false)
	}
}

// startAll runs searches. What they find has to be read until nothing of them runs
// any more.
func startAll(ctx context.Context, key Key, searches []*search) <-chan finding {
	findings := make(chan finding)
	var running sync.WaitGroup
	for _, s := range searches {
		running.Go(func() { s.walk(ctx, key, findings) })
	}
	go func() {
		running.Wait()
		close(findings)
	}()
	return findings
}

// walk begins with what was announced to this node itself.
func (s *search) walk(ctx context.Context, key Key, findings chan<- finding) {
	for _, peer := range s.family.peers.sample(key, maxFound) {
		findings <- finding{s, peer, []netip.AddrPort{peer}}
	}
	t := &traversal{
		family: s.family, target: key, method: "get_peers",
		alpha: lookupAlpha, tries: lookupTries, limit: lookupLimit, hurry: true,
		each: func(from netip.AddrPort, r *krpc.Return) bool {
			s.answers.Add(1)
			if peers := peersIn(r); len(peers) > 0 {
				findings <- finding{s, from, peers}
			}
			return true
		},
	}
	t.run(ctx, s.family.table.nodes(anyNode))
}
