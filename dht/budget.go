// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"sync"
	"time"
)

const (
	// packetRate is how many packets per second this node causes over time, sent
	// and received together: announcing, lookups and upkeep. The rest of the 60
	// that it may take is for what others ask.
	packetRate = 55
	// packetBurst is what may be saved up.
	packetBurst = 16
	// lookupCredit is how many packets lookups may run up: about twenty lookups
	// start at once, and then one a second.
	lookupCredit = 20 * packetRate
)

// budget is a token bucket of packets. Every packet of ours takes a token, and can
// leave the bucket in debt: announcing waits until nothing is owed, a lookup only
// until no more than lookupCredit is.
type budget struct {
	mu sync.Mutex // guards following

	tokens float64 // below 0: owed
	filled time.Time
}

func newBudget() *budget {
	return &budget{tokens: packetBurst, filled: time.Now()}
}

func (b *budget) fillLocked() {
	now := time.Now()
	b.tokens = min(packetBurst, b.tokens+packetRate*now.Sub(b.filled).Seconds())
	b.filled = now
}

// spend takes one packet off.
func (b *budget) spend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fillLocked()
	b.tokens--
}

// wait returns once a packet may be sent on credit. It takes none off: that is for
// the socket, when it is sent.
func (b *budget) wait(ctx context.Context, credit float64) error {
	for {
		pause := b.pause(credit)
		if pause <= 0 {
			return ctx.Err()
		}
		sleep(ctx, pause)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// pause is how long it takes until a packet may be sent.
func (b *budget) pause(credit float64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fillLocked()
	missing := 1 - credit - b.tokens
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing/packetRate*float64(time.Second)) + time.Millisecond
}
