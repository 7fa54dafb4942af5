// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// traffic counts what the nodes of a network send, by what it is.
type traffic struct {
	searches  atomic.Int64 // get_peers: lookups, and the first half of announces
	announces atomic.Int64 // announce_peer
	packets   atomic.Int64
	bytes     atomic.Int64 // with 28 of IPv4 and UDP headers each
}

// tap is a socket whose traffic is counted.
type tap struct {
	net.PacketConn
	traffic *traffic
}

func (c tap) WriteTo(b []byte, to net.Addr) (int, error) {
	switch {
	case bytes.Contains(b, []byte("1:q9:get_peers")):
		c.traffic.searches.Add(1)
	case bytes.Contains(b, []byte("1:q13:announce_peer")):
		c.traffic.announces.Add(1)
	}
	c.traffic.packets.Add(1)
	c.traffic.bytes.Add(int64(len(b)) + 28)
	return c.PacketConn.WriteTo(b, to)
}

// town is a network of real nodes on loopback.
type town struct {
	testing.TB
	traffic traffic
	living  []*running
	built   int
	owner   map[Key]*running
	figures []string
}

const (
	// doors are the nodes that all others are told of.
	doors = 3
	// wave is how many nodes start at once.
	wave = 50
	// few and many are lookups at a time: the processor keeps up with a few, and
	// they do not wait for one node's places.
	few, many = 8, 16
)

// grow adds nodes, and returns when each knows enough others.
func (t *town) grow(count int) {
	for first := len(t.living); count > 0; count-- {
		var bootstrap []string
		for _, n := range t.living[:min(doors, len(t.living))] {
			bootstrap = append(bootstrap, n.addr.String())
		}
		conn := tap{loopback(t), &t.traffic}
		t.living = append(t.living, start(t, Config{
			IPv4: conn, Private: true, Reachable: at(uint16(loopbackPort + t.built)), Bootstrap: bootstrap,
		}))
		t.built++
		if t.built%wave == 0 || count == 1 {
			t.know(t.living[first:])
			first = len(t.living)
		}
	}
	t.know(t.living)
}

func (t *town) know(nodes []*running) {
	enough := min(len(t.living)/2, 2*bucketSize)
	for _, n := range nodes {
		eventually(t, "the nodes know each other", func() bool { return n.Stats().GoodNodes >= enough })
	}
}

// lose stops those that gone holds for, without a word to anybody.
func (t *town) lose(gone func(i int) bool) {
	var stay []*running
	var stopping sync.WaitGroup
	for i, n := range t.living {
		if i >= doors && gone(i) {
			stopping.Go(n.stop)
			continue
		}
		stay = append(stay, n)
	}
	stopping.Wait()
	t.living = stay
}

// announce has nodes in turn offer a key each.
func (t *town) announce(count int) {
	searches, announces := t.traffic.searches.Load(), t.traffic.announces.Load()
	t.owner = make(map[Key]*running)
	for i := range count {
		n := t.living[i*7%len(t.living)]
		t.owner[keyOf(i)] = n
		n.Offer(keyOf(i), time.Now())
	}
	allAnnounced(t, t.living, count)
	searches, announces = t.traffic.searches.Load()-searches, t.traffic.announces.Load()-announces
	if most := int64(count * announceLimit); searches > most {
		t.Errorf("%d questions for %d announces", searches, count)
	}
	t.note(float64(searches)/float64(count), "questions/announce")
	t.note(float64(announces)/float64(count), "told/announce")
}

// holdersOf are the ids of the nodes that store a key.
func holdersOf(nodes []*running, key Key) (ids []Key) {
	for _, n := range nodes {
		if len(n.families[0].peers.sample(key, 1)) > 0 {
			ids = append(ids, n.families[0].ownID())
		}
	}
	return ids
}

// placed counts who holds the keys, and who of the nodes nearest to them.
func (t *town) placed() {
	var held, rightly int
	for key := range t.owner {
		ids := make([]Key, 0, len(t.living))
		for _, n := range t.living {
			if n != t.owner[key] {
				ids = append(ids, n.families[0].ownID())
			}
		}
		slices.SortFunc(ids, func(a, b Key) int { return compareDistance(key, a, b) })
		for _, id := range holdersOf(t.living, key) {
			held++
			if slices.Contains(ids[:min(bucketSize, len(ids))], id) {
				rightly++
			}
		}
	}
	keys := len(t.owner)
	if want := min(bucketSize, len(t.living)-1) * keys; rightly < want*3/4 {
		t.Errorf("%d of the %d nodes nearest to keys hold them", rightly, want)
	}
	t.note(float64(held)/float64(keys), "holders/key")
	t.note(float64(rightly)/float64(keys), "nearest/key")
}

// searched is what came of a lookup.
type searched struct {
	first, whole time.Duration
	found        bool
}

func find(n *running, key Key, want netip.AddrPort) (s searched) {
	n.families[0].results.forget()
	began := time.Now()
	for peer := range n.Lookup(context.Background(), key) {
		if peer == want {
			s.found, s.first = true, time.Since(began)
		}
	}
	s.whole = time.Since(began)
	return s
}

// lookUp has nodes look up all keys whose owner lives, several at a time. All have
// to be found that a living node holds.
func (t *town) lookUp(name string, parallel int) {
	var mu sync.Mutex // guards firsts and wholes
	var firsts, wholes []time.Duration
	packets, octets := t.traffic.packets.Load(), t.traffic.bytes.Load()
	searches, began := t.traffic.searches.Load(), time.Now()
	var lost, asked int
	places := make(chan struct{}, parallel)
	var running sync.WaitGroup
	for i := range len(t.owner) {
		key := keyOf(i)
		owner := t.owner[key]
		if !slices.Contains(t.living, owner) {
			continue
		}
		if len(holdersOf(t.living, key)) == 0 {
			lost++
			continue
		}
		asker := t.living[(slices.Index(t.living, owner)+1+i*11%(len(t.living)-1))%len(t.living)]
		asked++
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			got := find(asker, key, netip.AddrPortFrom(owner.addr.Addr(), owner.families[0].port()))
			if !got.found {
				t.Errorf("%s: %v is not found, in %v", name, key, got.whole)
			}
			mu.Lock()
			defer mu.Unlock()
			firsts, wholes = append(firsts, got.first), append(wholes, got.whole)
		})
	}
	running.Wait()
	took := time.Since(began).Seconds()
	packets, octets = t.traffic.packets.Load()-packets, t.traffic.bytes.Load()-octets
	searches = t.traffic.searches.Load() - searches
	// Neighbouring keys have their holders in common, and lose them together.
	if most := len(t.owner) / 10; lost > most {
		t.Errorf("%s: of %d keys no living node holds %d", name, len(t.owner), lost)
	}
	if parallel <= few {
		t.quick(name, firsts)
	}
	t.note(float64(asked), name+"-lookups")
	t.note(float64(lost), name+"-keys-gone")
	t.note(milliseconds(quantile(firsts, 50)), name+"-first-p50-ms")
	t.note(milliseconds(quantile(firsts, 95)), name+"-first-p95-ms")
	t.note(milliseconds(quantile(wholes, 95)), name+"-whole-p95-ms")
	t.note(float64(searches)/float64(asked), name+"-questions/lookup")
	t.note(float64(packets)/float64(asked), name+"-packets/lookup")
	t.note(float64(octets)/float64(asked)/1000, name+"-kB/lookup")
	t.note(float64(asked)/took, name+"-lookups/s")
}

// quick holds the time to the first peer to 100 ms. It is for a network that the
// processor can keep up with.
func (t *town) quick(name string, firsts []time.Duration) {
	t.Helper()
	if limit := 100 * time.Millisecond; !raceEnabled && quantile(firsts, 95) > limit {
		t.Errorf("%s: first peer p95 %v, over %v", name, quantile(firsts, 95), limit)
	}
}

func quantile(times []time.Duration, percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)*percent/100]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// note keeps a figure, for the log and for the benchmark's line.
func (t *town) note(value float64, unit string) {
	t.figures = append(t.figures, fmt.Sprintf("%10.2f %s", value, unit))
	if b, ok := t.TB.(*testing.B); ok {
		b.ReportMetric(value, unit)
	}
}

func (t *town) memory(residentBefore int) {
	debug.FreeOSMemory()
	t.note(float64(residentKB()-residentBefore)/float64(len(t.living)), "resident-kB/node")
	t.note(float64(runtime.NumGoroutine())/float64(len(t.living)), "goroutines/node")
	nodes := make([]int, 0, len(t.living))
	for _, n := range t.living {
		nodes = append(nodes, n.Stats().GoodNodes)
	}
	slices.Sort(nodes)
	t.note(float64(nodes[len(nodes)/2]), "table-p50")
	t.note(float64(nodes[len(nodes)-1]), "table-max")
}

// doorsteps is what the doors answered while the others came.
func (t *town) doorsteps() {
	var in uint64
	for _, n := range t.living[:doors] {
		in += n.Stats().PacketsIn
	}
	t.note(float64(in)/float64(len(t.living)), "packets-to-doors/node")
}

// life builds a network of real nodes, and lets it announce, look up, lose a fifth
// of its nodes to as many new ones, and then every second.
func life(tb testing.TB, size, keys int) {
	t := &town{TB: tb}
	debug.FreeOSMemory()
	resident, began := residentKB(), time.Now()
	t.grow(size)
	t.note(time.Since(began).Seconds(), "formed-s")
	t.doorsteps()
	t.announce(keys)
	t.placed()
	t.lookUp("alone", 1)
	t.lookUp("busy", many)
	t.memory(resident)
	t.lose(func(i int) bool { return i%5 == 4 })
	t.grow(size - len(t.living))
	t.lookUp("churned", min(few, size/10*maxLookups))
	t.lose(func(i int) bool { return i%2 == 1 })
	t.lookUp("halved", min(few, size/10*maxLookups))
	for _, n := range t.living {
		n.stop()
	}
	tb.Log(strings.Join(t.figures, "\n"))
}

// TestTown is the run of BenchmarkTown with fewer nodes.
func TestTown(t *testing.T) { life(t, scaled(100, 20), scaled(60, 30)) }

// BenchmarkTown measures networks of real nodes on loopback.
func BenchmarkTown(b *testing.B) {
	for _, size := range []int{10, 100, 300, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			for b.Loop() {
				life(b, size, 200)
			}
		})
	}
}
