// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"apt-dht/discovery"
	"apt-dht/proxy/peer"
)

const (
	// settle is how long a change of the ring waits for the next, the half of it
	// by chance, so that not all nodes tell a new one at the same moment.
	settle = 400 * time.Millisecond

	// anewPause is the pause after each message in which blobs are told anew.
	anewPause = 20 * time.Millisecond

	// retryEvery is how often it is looked whether one that missed news answers
	// again.
	retryEvery = 2 * time.Second

	// Blobs are announced again every renewEvery, well before homes forget them
	// after a day. It is looked for them every renewCheck.
	renewEvery = 12 * time.Hour
	renewCheck = 10 * time.Minute
)

// anew is what has to be told again: to homes that are new since the ring
// changed, and to those that missed news.
type anew struct {
	ring chan struct{} // holds a token when the ring may have changed

	mu sync.Mutex // guards following
	// behind are members by id, and since when blobs may have been announced of
	// which they have not heard.
	behind map[string]time.Time
}

func (a *anew) init() {
	a.ring = make(chan struct{}, 1)
	a.behind = make(map[string]time.Time)
}

func (a *anew) fallBehind(id string, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if before, ok := a.behind[id]; !ok || since.Before(before) {
		a.behind[id] = since
	}
}

func (a *anew) forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.behind, id)
}

// caughtUp takes those that can be told what they missed.
func (a *anew) caughtUp(alive func(id string) bool) map[string]time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	var back map[string]time.Time
	for id, since := range a.behind {
		if alive(id) {
			if back == nil {
				back = make(map[string]time.Time)
			}
			back[id] = since
			delete(a.behind, id)
		}
	}
	return back
}

// tellAnew announces again what homes cannot know.
func (n *Node) tellAnew(ctx context.Context) error {
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	renew := time.NewTicker(renewCheck)
	defer renew.Stop()
	told := discovery.NewRing(n.self, nil) // whose homes know what this node has
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.anew.ring:
			if peer.Sleep(ctx, settle/2+rand.N(settle/2)) {
				told = n.tellMoved(ctx, told)
			}
		case <-retry.C:
			n.tellMissed(ctx)
		case <-renew.C:
			n.renew(ctx)
		}
	}
}

// tellMoved tells the homes that were not, by the ring that was told last, and
// returns the ring that has been told now.
func (n *Node) tellMoved(ctx context.Context, told *discovery.Ring) *discovery.Ring {
	ring := n.view.Load().ring
	if n.Alone() {
		return ring
	}
	n.tellEach(ctx, func(d Digest, _ time.Time, to func(discovery.Member)) {
		homes, k := ring.Moved(told, d)
		for _, home := range homes[:k] {
			to(home)
		}
	})
	if ctx.Err() != nil {
		return told
	}
	return ring
}

// tellMissed tells members that answer again what has been announced since they
// did not.
func (n *Node) tellMissed(ctx context.Context) {
	back := n.anew.caughtUp(n.alive)
	if len(back) == 0 {
		return
	}
	ring := n.view.Load().ring
	n.tellEach(ctx, func(d Digest, announced time.Time, to func(discovery.Member)) {
		homes, k := ring.Homes(d, nil)
		for _, home := range homes[:k] {
			if since, ok := back[home.ID]; ok && !announced.Before(since) {
				to(home)
			}
		}
	})
}

// renew tells both homes of what has not been announced for long.
func (n *Node) renew(ctx context.Context) {
	if n.Alone() {
		return
	}
	oldest := time.Now().Add(-renewEvery)
	if oldest.Before(n.started) {
		oldest = n.started // before that it had another id
	}
	n.tellEach(ctx, func(d Digest, announced time.Time, to func(discovery.Member)) {
		if announced.Before(oldest) {
			for _, home := range n.homes(d) {
				to(home)
			}
		}
	})
}

// tellEach announces blobs to whom pick names for each.
func (n *Node) tellEach(ctx context.Context, pick func(d Digest, announced time.Time, to func(discovery.Member))) {
	blobs := make(map[discovery.Member][]hash)
	var first []Digest // those announced for the first time under this id, or again
	n.cfg.EachBlob(func(d Digest, announced time.Time) bool {
		picked := false
		pick(d, announced, func(home discovery.Member) {
			picked = true
			if !n.isSelf(home) {
				blobs[home] = append(blobs[home], hash(d))
			}
		})
		if picked && (announced.Before(n.started) || time.Since(announced) >= renewEvery) {
			first = append(first, d)
		}
		return ctx.Err() == nil
	})
	for home, hashes := range blobs {
		if ctx.Err() != nil {
			return
		}
		if n.dead(home.ID) || !n.sendAll(ctx, home, hashes) {
			n.anew.fallBehind(home.ID, time.Time{})
		}
	}
	n.announced(first, time.Now())
}
