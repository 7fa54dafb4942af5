// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"sync"
	"time"
)

const (
	maxAnnounces = 4
	// idleInterval is how often a node that cannot announce looks whether it can.
	idleInterval = 2 * time.Second
	// maxPlaces bounds the keys of which it is known who took the last announce,
	// 450 bytes each.
	maxPlaces = 4096
)

// announcer keeps keys announced, as many as the budget allows.
type announcer struct {
	node *Node
	rows Rows // may be nil
	wake chan struct{}

	uncounted []Key // of counts

	mu sync.Mutex // guards following

	schedule *schedule
	rowOf    map[Key]Row             // from before the restart, not offered yet
	moves    int                     // how often this node has come to be elsewhere
	places   *recent[Key, []contact] // who took a key's last announce

	rowsMu sync.Mutex // held over calls of rows
}

func newAnnouncer(node *Node, rows Rows, uncounted []Key) *announcer {
	a := &announcer{
		node: node, rows: rows, wake: make(chan struct{}, 1), uncounted: uncounted,
		schedule: newSchedule(),
		rowOf:    make(map[Key]Row),
		places:   newRecent[Key, []contact](maxPlaces / 2),
	}
	if rows != nil {
		a.load()
	}
	return a
}

// Offer has a blob announced, from now until it is withdrawn. added is when this
// node got it: of what is due, the newest and those with the fewest peers go
// first, and what does not fit in the budget of 55 packets per second, about 1,500
// new keys per half hour, is not announced. Nor is what has 20 other peers already,
// which is looked at again after two hours, and the more rarely the older it is, or
// what another node announces from the same outside address. At most 32,768 keys
// are kept; of more the worst are forgotten. To offer a key again costs nothing, and
// counts if added is later. It never blocks.
func (n *Node) Offer(key Key, added time.Time) {
	a := n.announcer
	a.mu.Lock()
	row := a.rowOf[key]
	delete(a.rowOf, key)
	a.schedule.add(key, added, row)
	a.mu.Unlock()
	a.signal()
}

// Withdraw ends the announcing of a key. The DHT knows no goodbye: other nodes
// forget it within half an hour.
func (n *Node) Withdraw(key Key) {
	a := n.announcer
	a.mu.Lock()
	_, offered := a.schedule.offers[key]
	_, known := a.rowOf[key]
	a.schedule.remove(key)
	delete(a.rowOf, key)
	a.mu.Unlock()
	if offered || known {
		a.dropRow(key)
	}
}

func (a *announcer) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// work announces one key after the other, until ctx ends.
func (a *announcer) work(ctx context.Context) error {
	for {
		o := a.next(ctx)
		if o == nil {
			return nil
		}
		a.announce(ctx, o)
	}
}

// next waits for a key that is due, while there is somebody to tell and something
// to say. It returns nil when ctx ends.
func (a *announcer) next(ctx context.Context) *offer {
	for ctx.Err() == nil {
		if len(a.node.announcing()) == 0 {
			sleep(ctx, idleInterval)
			continue
		}
		a.mu.Lock()
		o, wait := a.schedule.take(time.Now())
		more := a.schedule.ready.Len() > 0
		a.mu.Unlock()
		if more {
			a.signal()
		}
		if o != nil {
			return o
		}
		a.sleep(ctx, wait)
	}
	return nil
}

// sleep waits for a signal, at most for wait if that is not negative.
func (a *announcer) sleep(ctx context.Context, wait time.Duration) {
	var after <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-after:
	case <-a.wake:
	case <-ctx.Done():
	}
}

// announceIn notes in which families this node announces.
func (a *announcer) announceIn(families uint8) {
	a.mu.Lock()
	more := a.schedule.announceIn(families)
	a.mu.Unlock()
	if more {
		a.signal()
	}
}

// moved has all announced anew: what was announced until now names an address at
// which this node is no longer.
func (a *announcer) moved() {
	a.mu.Lock()
	a.moves++
	a.schedule.forgetAnnounces()
	for key, row := range a.rowOf {
		row.Announced = time.Time{}
		a.rowOf[key] = row
	}
	a.mu.Unlock()
	a.signal()
}

func (a *announcer) counts() (offered, announced int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.schedule.counts(time.Now(), a.uncounted)
}
