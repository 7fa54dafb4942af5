// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// burst is how much may be sent at once after a pause, as time at the full rate.
const burst = 100 * time.Millisecond

// A throttle lets bytes pass at a rate. Sites that wait take turns, however much
// each has under way.
type throttle struct {
	rate float64 // bytes per second

	mu      sync.Mutex // guards following
	balance float64    // bytes that may pass; what passes may take it below 0
	counted time.Time  // when balance was right
	turns   []netip.Addr
	waiting map[netip.Addr][]*ticket // of each site in turns, in order
	timer   *time.Timer              // runs pass when the balance is positive again
}

// ticket waits for its turn.
type ticket struct {
	bytes int64
	turn  chan struct{} // closed when it has come
}

func newThrottle(rate int64) *throttle {
	return &throttle{rate: float64(rate), counted: time.Now(), waiting: make(map[netip.Addr][]*ticket)}
}

// take waits until bytes may pass to a site. The error is the cause of ctx.
func (t *throttle) take(ctx context.Context, site netip.Addr, bytes int64) error {
	k := t.queue(site, bytes)
	if k == nil {
		return nil
	}
	select {
	case <-k.turn:
		return nil
	case <-ctx.Done():
		t.leave(site, k)
		return context.Cause(ctx)
	}
}

// queue returns nil where the bytes may pass at once.
func (t *throttle) queue(site netip.Addr, bytes int64) *ticket {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.countLocked()
	if len(t.turns) == 0 && t.balance > 0 {
		t.balance -= float64(bytes)
		return nil
	}
	k := &ticket{bytes: bytes, turn: make(chan struct{})}
	if len(t.waiting[site]) == 0 {
		t.turns = append(t.turns, site)
	}
	t.waiting[site] = append(t.waiting[site], k)
	t.armLocked()
	return k
}

func (t *throttle) countLocked() {
	now := time.Now()
	t.balance = min(t.balance+t.rate*now.Sub(t.counted).Seconds(), t.rate*burst.Seconds())
	t.counted = now
}

// armLocked has pass run when something may pass again.
func (t *throttle) armLocked() {
	if len(t.turns) == 0 || t.timer != nil {
		return
	}
	missing := max(0, 1-t.balance)
	t.timer = time.AfterFunc(time.Duration(missing/t.rate*float64(time.Second))+time.Microsecond, t.pass)
}

// pass lets those whose turn it is pass.
func (t *throttle) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = nil
	t.countLocked()
	for len(t.turns) > 0 && t.balance > 0 {
		site := t.turns[0]
		k := t.waiting[site][0]
		t.turns = t.turns[1:]
		t.dropLocked(site, 0)
		if len(t.waiting[site]) > 0 {
			t.turns = append(t.turns, site)
		}
		t.balance -= float64(k.bytes)
		close(k.turn)
	}
	t.armLocked()
}

func (t *throttle) dropLocked(site netip.Addr, i int) {
	t.waiting[site] = slices.Delete(t.waiting[site], i, i+1)
	if len(t.waiting[site]) == 0 {
		delete(t.waiting, site)
	}
}

// leave gives up a turn, which may have come meanwhile.
func (t *throttle) leave(site netip.Addr, k *ticket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting[site], k)
	if i < 0 {
		t.balance += float64(k.bytes)
		return
	}
	t.dropLocked(site, i)
	if len(t.waiting[site]) == 0 {
		t.turns = slices.DeleteFunc(t.turns, func(other netip.Addr) bool { return other == site })
	}
}
