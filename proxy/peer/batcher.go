// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import "sync"

// maxWaiting bounds what waits to be sent to one node.
const maxWaiting = 8192

// A Batcher sends items to nodes in batches. One batch to each node is under way
// at a time; what is added meanwhile travels in the next, in order. Its fields are
// set before the first use.
type Batcher[Node comparable, Item any] struct {
	// Start runs a function on a goroutine, or returns false.
	Start func(func()) bool
	// Send sends a batch and reports whether it arrived.
	Send func(to Node, batch []Item) bool
	// Fail is told what did not arrive: a batch, and all that waited behind it.
	// Nil: nobody is.
	Fail func(to Node, items []Item)
	// Most bounds the items of a batch. Required.
	Most int
	// Weigh returns an item's length in bytes, at most, and Heaviest bounds the
	// sum of a batch. Nil: any Most fit.
	Weigh    func(Item) int
	Heaviest int

	mu     sync.Mutex // guards following
	queues map[Node][]Item
}

// Add reports whether the items will be sent, or failed.
func (b *Batcher[Node, Item]) Add(to Node, items ...Item) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue, busy := b.queues[to]
	if len(queue)+len(items) > maxWaiting {
		return false
	}
	if !busy && !b.Start(func() { b.drain(to) }) {
		return false
	}
	if b.queues == nil {
		b.queues = make(map[Node][]Item)
	}
	b.queues[to] = append(queue, items...)
	return true
}

func (b *Batcher[Node, Item]) drain(to Node) {
	for batch := b.take(to); batch != nil; batch = b.take(to) {
		if !b.Send(to, batch) {
			rest := b.takeAll(to)
			if b.Fail != nil {
				b.Fail(to, append(batch, rest...))
			}
		}
	}
}

// take returns the next batch. When there is none it returns nil, and the queue
// is gone.
func (b *Batcher[Node, Item]) take(to Node) []Item {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue := b.queues[to]
	if len(queue) == 0 {
		delete(b.queues, to)
		return nil
	}
	n := b.fit(queue)
	b.queues[to] = queue[n:]
	return queue[:n:n]
}

func (b *Batcher[Node, Item]) takeAll(to Node) []Item {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue := b.queues[to]
	b.queues[to] = nil
	return queue
}

// fit returns how many items the next batch takes, at least one.
func (b *Batcher[Node, Item]) fit(queue []Item) int {
	n := min(len(queue), b.Most)
	if b.Weigh == nil {
		return n
	}
	weight := 0
	for i, item := range queue[:n] {
		if weight += b.Weigh(item); weight > b.Heaviest && i > 0 {
			return i
		}
	}
	return n
}
