// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"slices"
	"sync"
	"testing"
)

// What is added while a batch is under way goes in the next, in order and within
// the bounds; what waits behind a batch that fails fails with it.
func TestBatcher(t *testing.T) {
	const heaviest = 1000
	var wg sync.WaitGroup
	sending, answer := make(chan []int), make(chan bool)
	var failed []int
	b := &Batcher[string, int]{
		Start: func(f func()) bool { wg.Go(f); return true },
		Send:  func(_ string, batch []int) bool { sending <- batch; return <-answer },
		Most:  512,
		Weigh: func(i int) int { return i }, Heaviest: heaviest,
		Fail: func(_ string, items []int) { failed = items },
	}
	add := func(items ...int) {
		if !b.Add("node", items...) {
			t.Fatalf("there is no room for %v", items)
		}
	}
	next := func(ok bool, want ...int) {
		t.Helper()
		got := <-sending
		if !slices.Equal(got, want) {
			t.Errorf("the batch is %v, want %v", got, want)
		}
		answer <- ok
	}
	add(1)
	first := <-sending
	add(2, heaviest-2, 1, heaviest+5, 3, 4)
	answer <- true
	if !slices.Equal(first, []int{1}) {
		t.Errorf("the first batch is %v", first)
	}
	next(true, 2, heaviest-2)
	next(true, 1)
	next(true, heaviest+5)
	next(false, 3, 4)
	wg.Wait()
	if !slices.Equal(failed, []int{3, 4}) {
		t.Errorf("%v failed", failed)
	}
	add(1)
	<-sending
	for i := range maxWaiting {
		if !b.Add("node", i) {
			t.Fatalf("only %d may wait", i)
		}
	}
	if b.Add("node", 0) {
		t.Error("there is no bound for what waits")
	}
	answer <- false
	wg.Wait()
	if len(failed) != maxWaiting+1 || len(b.queues) != 0 {
		t.Errorf("%d failed of %d, %d queues are left", len(failed), maxWaiting+1, len(b.queues))
	}
}

// A node that has ended starts nothing.
func TestBatcherThatMayNotStart(t *testing.T) {
	b := &Batcher[string, int]{Start: func(func()) bool { return false }}
	if b.Add("node", 1) || len(b.queues) != 0 {
		t.Error("something waits that nobody will send")
	}
}
