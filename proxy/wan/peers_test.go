// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"apt-dht/proxy/fetch"
)

func TestPatience(t *testing.T) {
	for _, test := range []struct {
		now    time.Duration
		helped bool
		want   time.Duration
	}{
		{firstPatience, true, 200 * time.Millisecond},
		{firstPatience, false, 50 * time.Millisecond},
		{50 * time.Millisecond, false, 25 * time.Millisecond},
		{25 * time.Millisecond, false, 0},
		{0, false, 0},
		{0, true, firstPatience},
		{time.Second, true, mostPatience},
		{mostPatience, true, mostPatience},
		{mostPatience, false, mostPatience / 2},
	} {
		if got := brought(test.now, test.helped); got != test.want {
			t.Errorf("from %s, helped %t, it becomes %s, want %s", test.now, test.helped, got, test.want)
		}
	}
}

// Where peers bring nothing, the mirror waits for them once a minute.
func TestPatienceProbes(t *testing.T) {
	p := newPatience()
	start := time.Now()
	if got := p.at(start); got != firstPatience {
		t.Errorf("at first it is %s", got)
	}
	for range 3 {
		p.learn(false)
	}
	waits := 0
	for s := range 600 {
		if p.at(start.Add(time.Duration(s)*time.Second)) > 0 {
			waits++
		}
	}
	if waits != 9 {
		t.Errorf("it waits %d times in 10 min", waits)
	}
	p.learn(true)
	if got := p.at(start); got != firstPatience {
		t.Errorf("after a success it is %s", got)
	}
}

// What fetch tells of a blob changes the patience.
func TestBrought(t *testing.T) {
	node := startNode(t, newFakeDHT(), 1, nil)
	node.Brought(Digest{}, 5)
	if got := node.Patience(); got != 2*firstPatience {
		t.Errorf("after bytes it is %s", got)
	}
	node.Brought(Digest{}, 0)
	if got := node.Patience(); got != firstPatience {
		t.Errorf("after none it is %s", got)
	}
	node.Find(t.Context(), Digest{}, func(fetch.Peer) { t.Error("it finds somebody") })
	if got := node.Patience(); got != firstPatience {
		t.Errorf("after a search by a person it is %s", got)
	}
	node.seek(t, Digest{})
	if got := node.Patience(); got != firstPatience/2 {
		t.Errorf("after a search that found nobody it is %s", got)
	}
}

// The best are those from whom a piece comes soonest.
func TestRanking(t *testing.T) {
	now := time.Now()
	addr := func(i byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{5, 0, 0, i}), 9978) }
	const (
		slow = iota + 1
		fast
		unmeasuredNear
		failing
		busy
		old
		resting
	)
	var p peers
	for i := byte(slow); i <= resting; i++ {
		p.answered(addr(i), 50*time.Millisecond, now)
	}
	p.gave(addr(slow), 1<<20, 20*time.Second, now)
	p.gave(addr(fast), 10<<20, time.Second, now)
	p.gave(addr(failing), 10<<20, time.Second, now)
	p.gave(addr(resting), 10<<20, time.Second, now)
	p.failed(addr(failing), now.Add(-time.Hour))
	p.refused(addr(busy), 10*time.Second, now)
	p.answered(addr(old), time.Millisecond, now.Add(-lately))
	p.failed(addr(resting), now)
	want := []netip.AddrPort{addr(fast), addr(failing), addr(unmeasuredNear), addr(busy), addr(slow)}
	if got := p.best(10, now); !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
	if got := p.best(2, now); !slices.Equal(got, want[:2]) {
		t.Errorf("the best two are %v", got)
	}
	if got := p.status(now); len(got) != 6 || got[0].Addr != addr(fast) || got[0].BytesFrom != 10<<20 {
		t.Errorf("the status is %+v", got)
	}
}

// Who fails again and again is left alone for longer and longer.
func TestRests(t *testing.T) {
	for failures, want := range []time.Duration{firstRest, 20 * time.Second, 40 * time.Second, 80 * time.Second} {
		if got := restAfter(failures); got != want {
			t.Errorf("after %d failures it rests for %s, want %s", failures, got, want)
		}
	}
	if got := restAfter(1000); got != longestRest {
		t.Errorf("after many failures it rests for %s", got)
	}
}

// Who has failed is left alone though it answers what it had been asked before.
func TestAnswersEndNoRest(t *testing.T) {
	var p peers
	now := time.Now()
	node := netip.MustParseAddrPort("5.0.0.1:9978")
	p.answered(node, time.Millisecond, now)
	p.failed(node, now)
	p.answered(node, time.Millisecond, now.Add(firstRest/2))
	if !p.resting(node, now.Add(firstRest-1)) || len(p.best(1, now.Add(firstRest-1))) != 0 {
		t.Error("an answer has ended the rest")
	}
	if now = now.Add(firstRest); p.resting(node, now) || len(p.best(1, now)) != 1 {
		t.Error("it is not asked again after the rest")
	}
}

// Strangers cannot push out those who have answered.
func TestPeersAreBounded(t *testing.T) {
	var p peers
	now := time.Now()
	friend := netip.MustParseAddrPort("9.9.9.9:9978")
	p.answered(friend, time.Millisecond, now)
	for i := range 3 * maxPeers {
		p.failed(netip.AddrPortFrom(netip.AddrFrom4([4]byte{5, 0, byte(i >> 8), byte(i)}), 9978), now.Add(time.Duration(i)))
	}
	if len(p.byAddr) != maxPeers || !p.knows(friend) {
		t.Errorf("%d are remembered, the friend %t", len(p.byAddr), p.knows(friend))
	}
}
