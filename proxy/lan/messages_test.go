// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"encoding/json"
	"net/netip"
	"sync"
	"testing"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
)

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
		for _, q := range firstBatch(queue) {
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

// firstBatch is what of a queue travels in one message.
func firstBatch(queue []*question) (first []*question) {
	var wg sync.WaitGroup
	b := &peer.Batcher[string, *question]{
		Start: func(f func()) bool { wg.Go(f); return true },
		Send: func(_ string, batch []*question) bool {
			if first == nil {
				first = batch
			}
			return true
		},
		Most: maxBatch, Weigh: (*question).weigh, Heaviest: maxWeight,
	}
	b.Add("home", queue...)
	wg.Wait()
	return first
}
