// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"encoding/json"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
)

// What is added while a batch is under way goes in the next, in order and within
// the bounds; what waits behind a batch that fails fails with it.
func TestBatcher(t *testing.T) {
	var wg sync.WaitGroup
	sending, answer := make(chan []int), make(chan bool)
	var failed []int
	b := &batcher[int]{
		start: func(f func()) bool { wg.Go(f); return true },
		send:  func(_ discovery.Member, batch []int) bool { sending <- batch; return <-answer },
		weigh: func(i int) int { return i },
		fail:  func(_ discovery.Member, items []int) { failed = items },
	}
	m := discovery.Member{ID: "0123456789abcdef"}
	add := func(items ...int) {
		if !b.add(m, items...) {
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
	add(2, maxWeight-2, 1, maxWeight+5, 3, 4)
	answer <- true
	if !slices.Equal(first, []int{1}) {
		t.Errorf("the first batch is %v", first)
	}
	next(true, 2, maxWeight-2)
	next(true, 1)
	next(true, maxWeight+5)
	next(false, 3, 4)
	wg.Wait()
	if !slices.Equal(failed, []int{3, 4}) {
		t.Errorf("%v failed", failed)
	}
	add(1)
	<-sending
	for i := range maxWaiting {
		if !b.add(m, i) {
			t.Fatalf("only %d may wait", i)
		}
	}
	if b.add(m, 0) {
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
	b := &batcher[int]{start: func(func()) bool { return false }}
	if b.add(discovery.Member{}, 1) || len(b.queues) != 0 {
		t.Error("something waits that nobody will send")
	}
}

// A batch as heavy as may be is within the bounds of its message, and so is the
// answer to it.
func TestMessagesFit(t *testing.T) {
	node := newTestNode(t, 0)
	long := netip.MustParseAddrPort("[fd00:1234:5678:9abc:def0:1234:5678:9abc]:65535")
	var places []fetch.Peer
	for i := range maxPlaces {
		places = append(places, fetch.Peer{ID: digestID(i), Addr: long})
	}
	f := discovery.Found{State: discovery.Coming, Number: maxNumber}
	for _, p := range places[:4] { // as many as a home names
		f.From = append(f.From, discovery.Member(p))
	}
	for _, silent := range []int{0, 1, maxPlaces} {
		var queue []*question
		for range maxBatch {
			q := fetch.Question{Size: maxOffset, Have: maxOffset, Lease: true}
			queue = append(queue, newQuestion(&q, places[:silent], discovery.Member{}, true))
		}
		msg := lookupQuestion{hello: node.hello()}
		answer := lookupAnswer{head: spoken}
		for _, q := range queue[:node.questions.fit(queue)] {
			msg.Want = append(msg.Want, q.wire())
			answer.Found = append(answer.Found, node.wireFound(f, long.Addr()))
		}
		text, err := json.Marshal(&msg)
		reply, err2 := json.Marshal(&answer)
		if err != nil || err2 != nil || len(text) > maxQuestion || len(reply) > maxAnswer {
			t.Errorf("%d wants with %d places each take %d bytes, the answer %d: %v, %v", len(msg.Want), silent, len(text), len(reply), err, err2)
		}
	}
	grants := copyQuestion{hello: node.hello()}
	for range maxBatch {
		grants.Grants = append(grants.Grants, grant{Asker: place{ID: digestID(0), Addr: long}, Number: maxNumber, Lease: true, Offset: maxOffset})
	}
	if text, err := json.Marshal(&grants); err != nil || len(text) > maxQuestion {
		t.Errorf("%d grants take %d bytes: %v", maxBatch, len(text), err)
	}
}
