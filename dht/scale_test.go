// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
	"golang.org/x/time/rate"
)

// TestHalfDead looks up in a network of 150 nodes on loopback of which half have
// just died, without a word: what was announced before, and what is after.
func TestHalfDead(t *testing.T) {
	const keys = 40
	size := scaled(150, 40)
	nodes := loopbackNetwork(t, size)
	for i := range keys {
		nodes[2*i%size].Offer(keyOf(i), time.Now())
	}
	allAnnounced(t, nodes, keys)
	var living []*running
	for i, n := range nodes {
		if i%2 == 1 {
			n.stop()
			continue
		}
		living = append(living, n)
	}
	for i := range keys {
		nodes[2*i%size].Offer(keyOf(keys+i), time.Now())
	}
	allAnnounced(t, nodes, 2*keys)
	var times []time.Duration
	gone := 0
	for i := range 2 * keys {
		if len(holdersOf(living, keyOf(i))) == 0 {
			gone++
			continue
		}
		want := netip.AddrPortFrom(nodes[0].addr.Addr(), uint16(loopbackPort+2*(i%keys)%size))
		peer, took := firstOf(nodes[(2*(i%keys)+size/4*2)%size].Node, keyOf(i))
		if peer != want {
			t.Errorf("lookup %d found %v, not %v", i, peer, want)
		}
		times = append(times, took)
	}
	// All eight that hold a key have died with one in 256, and then nobody can
	// find it until it is announced again.
	if gone > keys/4 {
		t.Errorf("%d of %d keys are held by no living node", gone, keys)
	}
	slices.Sort(times)
	p95 := times[len(times)*95/100]
	t.Logf("first peer: p50 %v, p95 %v, max %v", times[len(times)/2], p95, times[len(times)-1])
	if limit := 100 * time.Millisecond; p95 > limit {
		t.Errorf("first peer p95 %v, over %v", p95, limit)
	}
}

func allAnnounced(t testing.TB, nodes []*running, want int) {
	t.Helper()
	began := time.Now()
	eventually(t, "all is announced", func() bool {
		got := 0
		for _, n := range nodes {
			got += n.Stats().Announced
		}
		return got == want
	})
	t.Logf("%d keys announced, the last after %v", want, time.Since(began))
}

// TestIdleTraffic measures what nodes without work send and receive, with 28 bytes
// of headers for each packet.
func TestIdleTraffic(t *testing.T) {
	const minutes, limit = 30, 10_000
	size := scaled(100, 15)
	if n, ok := chosenNodes(); ok {
		size = n
	}
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		var nodes []*running
		for i := range size {
			cfg := Config{IPv4: world.listen(publicAddr(i)), Reachable: at(7000), Bootstrap: []string{publicAddr(0).String()}}
			nodes = append(nodes, start(t, cfg))
		}
		time.Sleep(time.Hour)
		before := nodes[1].Stats()
		sent := world.bytes.Load()
		time.Sleep(minutes * time.Minute)
		after := nodes[1].Stats()
		packets := after.PacketsIn + after.PacketsOut - before.PacketsIn - before.PacketsOut
		bytes := after.BytesIn + after.BytesOut - before.BytesIn - before.BytesOut + 28*packets
		mean := 2 * (world.bytes.Load() - sent) / int64(size) / minutes
		t.Logf("one node: %d packets and %d bytes a minute, in and out; mean of all: %d bytes", packets/minutes, bytes/minutes, mean)
		if bytes/minutes > limit || mean > limit {
			t.Errorf("more than %d bytes a minute", limit)
		}
	})
}

// BenchmarkAnswer takes in a query and answers it: with a full table and a swarm.
func BenchmarkAnswer(b *testing.B) {
	d := newDesk(b, false)
	f := d.families[0]
	f.answers = rate.NewLimiter(rate.Inf, 0)
	for i := range 300 {
		f.table.add(contact{keyOf(i), publicAddr(i)}, time.Now())
		f.peers.add(keyOf(5), publicAddr(i), 8000)
	}
	query, err := encode(krpc.Msg{T: "t", Y: "q", Q: "get_peers", A: args(1)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		d.floods.counts = [1024]uint16{}
		if sent := d.put(query, publicAddr(1)); len(sent) != 1 {
			b.Fatal("no answer")
		}
	}
}

// nodesVariable sets how many nodes TestIdleTraffic and TestMultitude have.
const nodesVariable = "APT_DHT_TEST_NODES"

func chosenNodes() (int, bool) {
	n, err := strconv.Atoi(os.Getenv(nodesVariable))
	return n, err == nil
}
