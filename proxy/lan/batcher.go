// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"sync"

	"apt-dht/discovery"
)

const (
	// maxWaiting bounds what waits to be sent to one member.
	maxWaiting = 8192

	// maxWeight bounds what travels in one message, in bytes as weighed: some
	// room is left for its frame.
	maxWeight = maxQuestion - 1<<10
)

// A batcher sends items to members in batches. One batch to each member is
// under way at a time; what is added meanwhile travels in the next, in order.
type batcher[T any] struct {
	// start runs a function on a goroutine, or returns false.
	start func(func()) bool
	// send sends a batch of at most maxBatch and reports whether it arrived.
	send func(m discovery.Member, batch []T) bool
	// weigh returns an item's length in bytes, at most. Nil: any maxBatch fit.
	weigh func(T) int
	// fail is told what did not arrive: a batch, and all that waited behind it.
	// Nil: nobody is.
	fail func(m discovery.Member, items []T)

	mu     sync.Mutex // guards following
	queues map[discovery.Member][]T
}

// add reports whether the items will be sent to m, or failed.
func (b *batcher[T]) add(m discovery.Member, items ...T) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue, busy := b.queues[m]
	if len(queue)+len(items) > maxWaiting {
		return false
	}
	if !busy && !b.start(func() { b.drain(m) }) {
		return false
	}
	if b.queues == nil {
		b.queues = make(map[discovery.Member][]T)
	}
	b.queues[m] = append(queue, items...)
	return true
}

func (b *batcher[T]) drain(m discovery.Member) {
	for batch := b.take(m); batch != nil; batch = b.take(m) {
		if !b.send(m, batch) {
			rest := b.takeAll(m)
			if b.fail != nil {
				b.fail(m, append(batch, rest...))
			}
		}
	}
}

// take returns the next batch. When there is none it returns nil, and the queue
// is gone.
func (b *batcher[T]) take(m discovery.Member) []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue := b.queues[m]
	if len(queue) == 0 {
		delete(b.queues, m)
		return nil
	}
	n := b.fit(queue)
	b.queues[m] = queue[n:]
	return queue[:n:n]
}

func (b *batcher[T]) takeAll(m discovery.Member) []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue := b.queues[m]
	b.queues[m] = nil
	return queue
}

// fit returns how many items the next message takes, at least one.
func (b *batcher[T]) fit(queue []T) int {
	n := min(len(queue), maxBatch)
	if b.weigh == nil {
		return n
	}
	weight := 0
	for i, item := range queue[:n] {
		if weight += b.weigh(item); weight > maxWeight && i > 0 {
			return i
		}
	}
	return n
}
