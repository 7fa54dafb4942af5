// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
)

// stub is a strange node: answer says what it says to a query.
func stub(w *wire, answer func(q krpc.Msg) *krpc.Msg) {
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := w.ReadFrom(b)
			if err != nil {
				return
			}
			q, err := decode(b[:n])
			if err != nil || q.Y != "q" {
				continue
			}
			if m := answer(q); m != nil {
				m.T = q.T
				reply, err := encode(*m)
				if err != nil {
					panic(err)
				}
				_, _ = w.WriteTo(reply, from)
			}
		}
	}()
}

func answerOf(r krpc.Return) *krpc.Msg { return &krpc.Msg{Y: "r", R: &r} }

// collect returns what a lookup yields.
func collect(ctx context.Context, n *Node, key Key) []netip.AddrPort {
	return slices.Collect(n.Lookup(ctx, key))
}

// nodeAmong starts a node that knows the stubs.
func nodeAmong(t *testing.T, world *internet, stubs ...contact) *running {
	n := start(t, Config{IPv4: world.listen(publicAddr(0)), Reachable: at(7000)})
	for _, c := range stubs {
		n.families[0].table.add(c, time.Now())
	}
	time.Sleep(time.Millisecond)
	return n
}

// TestSybil has nodes that make up ever nearer ones: at their own address under
// many ports, and at addresses of strangers.
func TestSybil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		key, id, made := keyOf(1), keyOf(2), 0
		liar := world.listen(publicAddr(1))
		defer liar.Close()
		stub(liar, func(q krpc.Msg) *krpc.Msg {
			r := krpc.Return{ID: id}
			for range 60 {
				made++
				near := randomKey(key, 30+made%100)
				r.Nodes = append(r.Nodes, krpc.NodeInfo{ID: near, Addr: wireAddr(publicAddr(1000 + made))},
					krpc.NodeInfo{ID: near, Addr: krpc.NodeAddr{IP: net.IP{5, 1, 1, byte(made)}, Port: 6881}})
			}
			r.Nodes = r.Nodes[:70]
			return answerOf(r)
		})
		n := nodeAmong(t, world, contact{id, publicAddr(1)})
		before, began := n.Stats().PacketsOut, time.Now()
		if got := collect(t.Context(), n.Node, key); len(got) != 0 {
			t.Errorf("found %v", got)
		}
		if sent := n.Stats().PacketsOut - before; sent > lookupLimit*lookupTries+20 {
			t.Errorf("%d packets sent", sent)
		}
		if took := time.Since(began); took > lookupTimeout {
			t.Errorf("took %v", took)
		}
		if got := n.Stats().Nodes; got != 1 {
			t.Errorf("%d nodes in the table, made-up ones among them", got)
		}
	})
}

func TestSybilChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		key := keyOf(1)
		// Every address of one /24 is a node, each knows the next, nearer one.
		ids, asked := make([]Key, 200), new(atomic.Int64)
		for i := range ids {
			ids[i] = randomKey(key, min(2+i, 150))
		}
		addr := func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{5, 1, 1, byte(i)}), 6881)
		}
		for i := range 199 {
			w := world.listen(addr(i))
			defer w.Close()
			stub(w, func(q krpc.Msg) *krpc.Msg {
				if q.Q == "get_peers" {
					asked.Add(1)
				}
				return answerOf(krpc.Return{ID: ids[i], Nodes: []krpc.NodeInfo{{ID: ids[i+1], Addr: wireAddr(addr(i + 1))}}})
			})
		}
		n := nodeAmong(t, world, contact{ids[0], addr(0)})
		collect(t.Context(), n.Node, key)
		if asked.Load() != maxAskedPerNetwork {
			t.Errorf("%d nodes of one network were asked", asked.Load())
		}
	})
}

func TestPoisonedResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		key := keyOf(1)
		var stubs []contact
		for i := range 8 {
			c := contact{keyOf(10 + i), publicAddr(10 + i)}
			stubs = append(stubs, c)
			w := world.listen(c.addr)
			defer w.Close()
			dead := i * 1000
			stub(w, func(krpc.Msg) *krpc.Msg {
				r := krpc.Return{ID: c.id}
				for _, bad := range []string{"10.0.0.1:8000", "127.0.0.1:8000", "224.0.0.1:8000", "5.6.7.8:0", "5.6.7.8:22", "0.0.0.0:8000"} {
					r.Values = append(r.Values, wireAddr(netip.MustParseAddrPort(bad)))
				}
				r.Values = append(r.Values, krpc.NodeAddr{IP: net.IP{1, 2, 3}, Port: 8000}, wireAddr(netip.AddrPortFrom(publicAddr(0).Addr(), 7000)))
				for j := range 150 {
					dead++
					var ip [4]byte
					binary.BigEndian.PutUint32(ip[:], 0x09000000+uint32(dead)<<8+uint32(j))
					r.Values = append(r.Values, krpc.NodeAddr{IP: ip[:], Port: 8000})
				}
				m := answerOf(r)
				m.IP = wireAddr(publicAddr(0))
				return m
			})
		}
		n := nodeAmong(t, world, stubs...)
		time.Sleep(time.Minute) // until it knows its own address
		got := collect(t.Context(), n.Node, key)
		if len(got) != maxFound {
			t.Errorf("%d peers", len(got))
		}
		for _, peer := range got {
			if peer.Addr().AsSlice()[0] != 9 {
				t.Errorf("%v was yielded", peer)
			}
		}
		one := newSieve(false, nil)
		for i := range 200 {
			one.pass(publicAddr(10), netip.AddrPortFrom(publicAddr(3000+i).Addr(), 8000))
		}
		if len(one.passed) != maxPerSource {
			t.Errorf("one source brought %d peers", len(one.passed))
		}
		crowd := newSieve(false, nil)
		for i := range 200 {
			crowd.pass(publicAddr(i), netip.AddrPortFrom(publicAddr(5000).Addr(), uint16(8000+i)))
		}
		if len(crowd.passed) != maxPeersOfNetwork {
			t.Errorf("one network has %d peers", len(crowd.passed))
		}
	})
}

// TestImpostor has an answer under another id than the node was known by.
func TestImpostor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		w := world.listen(publicAddr(1))
		defer w.Close()
		stub(w, func(krpc.Msg) *krpc.Msg {
			return answerOf(krpc.Return{ID: keyOf(3), Values: []krpc.NodeAddr{wireAddr(publicAddr(9))}})
		})
		n := nodeAmong(t, world, contact{keyOf(2), publicAddr(1)})
		if got := collect(t.Context(), n.Node, keyOf(1)); len(got) != 0 {
			t.Errorf("found %v", got)
		}
	})
}

// holders starts count stubs that have peers for every key, and returns them with
// the number of questions they were asked.
func holders(t *testing.T, world *internet, count, peers int) ([]contact, *atomic.Int64) {
	var stubs []contact
	asked := new(atomic.Int64)
	for i := range count {
		c := contact{keyOf(10 + i), publicAddr(10 + i)}
		stubs = append(stubs, c)
		w := world.listen(c.addr)
		t.Cleanup(func() { _ = w.Close() })
		stub(w, func(q krpc.Msg) *krpc.Msg {
			r := krpc.Return{ID: c.id}
			if q.Q == "get_peers" {
				asked.Add(1)
				for j := range peers {
					r.Values = append(r.Values, wireAddr(publicAddr(500+i*peers+j)))
				}
			}
			return answerOf(r)
		})
	}
	return stubs, asked
}

func TestResultsAreRemembered(t *testing.T) {
	for _, peers := range []int{0, 2} {
		t.Run(fmt.Sprintf("%d peers", peers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world := newInternet()
				stubs, asked := holders(t, world, 3, peers)
				n := nodeAmong(t, world, stubs...)
				first := collect(t.Context(), n.Node, keyOf(1))
				if len(first) != 3*peers || asked.Load() != 3 {
					t.Fatalf("found %v, asked %d times", first, asked.Load())
				}
				if again := collect(t.Context(), n.Node, keyOf(1)); !slices.Equal(first, again) || asked.Load() != 3 {
					t.Errorf("found %v again, asked %d times", again, asked.Load())
				}
				time.Sleep(foundFor)
				if again := collect(t.Context(), n.Node, keyOf(1)); len(again) != len(first) || asked.Load() != 6 {
					t.Errorf("later found %v, asked %d times", again, asked.Load())
				}
			})
		})
	}
}

func TestLookupBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		stubs, _ := holders(t, world, 3, 2)
		n := nodeAmong(t, world, stubs...)
		first, _ := firstOf(n.Node, keyOf(1))
		if !first.IsValid() {
			t.Fatal("nothing found")
		}
		rest := collect(t.Context(), n.Node, keyOf(1))
		if len(rest) != 6 || rest[0] != first {
			t.Errorf("after %v was found: %v", first, rest)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := collect(ctx, n.Node, keyOf(2)); len(got) != 0 {
			t.Errorf("a cancelled lookup found %v", got)
		}
		if got := collect(t.Context(), n.Node, keyOf(2)); len(got) != 6 {
			t.Errorf("a cancelled lookup is remembered as having found nothing: %v", got)
		}
	})
}

func TestNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		n := nodeAmong(t, world, contact{keyOf(10), publicAddr(10)})
		if got := collect(t.Context(), n.Node, keyOf(1)); len(got) != 0 {
			t.Errorf("found %v", got)
		}
		if _, complete := n.families[0].results.get(keyOf(1)); complete {
			t.Error("it is remembered that a network which is away knows no peers")
		}
		if got := n.Stats().Nodes; got != 1 {
			t.Error("nodes are dropped while the network is away")
		}
	})
}

func TestFourLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		stubs, _ := holders(t, world, 1, 0)
		n := nodeAmong(t, world, stubs...)
		for range maxLookups {
			n.lookups <- struct{}{}
		}
		done := make(chan int, 1)
		go func() { done <- len(collect(t.Context(), n.Node, keyOf(1))) }()
		time.Sleep(time.Hour)
		select {
		case <-done:
			t.Error("a fifth lookup did not wait")
		default:
		}
		<-n.lookups
		<-done
	})
}

// TestManyLookups has more lookups wanted than the budget allows.
func TestManyLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lookups = 200
		world := newInternet()
		stubs, _ := holders(t, world, 12, 1)
		n := nodeAmong(t, world, stubs...)
		before, began := n.Stats(), time.Now()
		var running sync.WaitGroup
		for i := range lookups {
			running.Go(func() {
				if len(collect(t.Context(), n.Node, keyOf(i))) == 0 {
					t.Errorf("lookup %d found nothing", i)
				}
			})
		}
		running.Wait()
		after, took := n.Stats(), time.Since(began)
		packets := after.PacketsIn + after.PacketsOut - before.PacketsIn - before.PacketsOut
		if limit := lookupCredit + 200 + 60*uint64(took.Seconds()); packets > limit {
			t.Errorf("%d packets in %v, over %d", packets, took, limit)
		}
		if took > lookups*time.Second {
			t.Errorf("%d lookups took %v", lookups, took)
		}
	})
}

// What an earlier lookup found, and the one after it does not, is not kept.
func TestPeersThatHaveGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		other := start(t, Config{IPv4: world.listen(publicAddr(1)), Reachable: at(7000)})
		n := nodeAmong(t, world, contact{other.families[0].ownID(), other.addr})
		old, stays := publicAddr(5), publicAddr(6)
		n.families[0].results.put(keyOf(1), []netip.AddrPort{old, stays}, false) // it was broken off
		n.families[0].peers.add(keyOf(1), stays, stays.Port())
		if got := collect(t.Context(), n.Node, keyOf(1)); len(got) != 2 {
			t.Errorf("first found are %v", got)
		}
		if got := collect(t.Context(), n.Node, keyOf(1)); !slices.Equal(got, []netip.AddrPort{stays}) {
			t.Errorf("then found are %v", got)
		}
	})
}

// What one DHT has answered says nothing of the other, which the node joins later.
func TestSecondFamilyIsAskedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		other := start(t, Config{IPv4: world.listen(publicAddr(1)), IPv6: world.listen(publicAddr6(1)), Reachable: at(7000)})
		n := start(t, Config{IPv4: world.listen(publicAddr(0)), IPv6: world.listen(publicAddr6(0)), Reachable: at(7000)})
		other.families[0].peers.add(keyOf(1), publicAddr(5), 8000)
		other.families[1].peers.add(keyOf(1), publicAddr6(5), 8000)
		time.Sleep(time.Millisecond)
		for i, addr := range []netip.AddrPort{publicAddr(1), publicAddr6(1)} {
			n.families[i].table.add(contact{other.families[i].ownID(), addr}, time.Now())
			if got := collect(t.Context(), n.Node, keyOf(1)); len(got) != i+1 {
				t.Errorf("with %d families joined, found are %v", i+1, got)
			}
		}
	})
}

func TestOwnStoreIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		n := nodeAmong(t, world)
		n.families[0].peers.add(keyOf(1), publicAddr(5), 8000)
		if got := collect(t.Context(), n.Node, keyOf(1)); len(got) != 1 {
			t.Errorf("found %v", got)
		}
	})
}

func TestBothFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		node := func(i int) *running {
			return start(t, Config{
				IPv4: world.listen(publicAddr(i)), IPv6: world.listen(publicAddr6(i)), Reachable: at(uint16(7000 + i)),
				Bootstrap: []string{publicAddr(1).String(), publicAddr6(1).String()},
			})
		}
		var nodes []*running
		for i := range 12 {
			nodes = append(nodes, node(i+1))
		}
		time.Sleep(time.Minute)
		nodes[2].Offer(keyOf(1), time.Now())
		time.Sleep(time.Minute)
		got := collect(t.Context(), nodes[7].Node, keyOf(1))
		for _, want := range []netip.Addr{publicAddr(3).Addr(), publicAddr6(3).Addr()} {
			if !slices.Contains(got, netip.AddrPortFrom(want, 7003)) {
				t.Errorf("%v is not among %v", want, got)
			}
		}
		if got := len(nodes[7].Stats().External); got != 2 {
			t.Errorf("%d outside addresses are known", got)
		}
		if got := collect(t.Context(), nodes[2].Node, keyOf(1)); len(got) != 0 {
			t.Errorf("the announcer finds itself: %v", got)
		}
	})
}
