// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net/netip"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestStanding(t *testing.T) {
	one, two := netip.MustParseAddr("5.6.7.8"), netip.MustParseAddr("5.6.7.9")
	none := netip.Addr{}
	start := time.Unix(1e9, 0)
	type step struct {
		addr  netip.Addr
		port  uint16
		moved bool
	}
	for _, tt := range []struct {
		name   string
		steps  []step
		former int
	}{
		{"never reachable", []step{{one, 0, false}, {two, 0, false}}, 0},
		{"it stays", []step{{one, 7000, false}, {one, 7000, false}}, 0},
		{"another address", []step{{one, 7000, false}, {two, 7000, true}, {two, 7000, false}}, 1},
		{"another port", []step{{one, 7000, false}, {one, 7001, true}}, 1},
		{"another port, the address not known", []step{{none, 7000, false}, {none, 7001, true}, {none, 7001, false}}, 1},
		{"the address comes to be known", []step{{none, 7000, false}, {one, 7000, false}}, 0},
		{"the address is in doubt for a while", []step{{one, 7000, false}, {none, 7000, false}, {one, 7000, false}}, 0},
		{"away for a while", []step{{one, 7000, false}, {one, 0, false}, {one, 7000, false}}, 0},
		{"away, and back elsewhere", []step{{one, 7000, false}, {none, 0, false}, {two, 7000, true}}, 1},
		{"there and back at once", []step{{one, 7000, false}, {two, 7000, true}, {one, 7000, false}}, 1},
		{"from port to port", []step{{one, 7000, false}, {one, 7001, true}, {one, 7000, true}}, 2},
	} {
		var s standing
		for i, step := range tt.steps {
			if got := s.follow(netip.AddrPortFrom(netip.Addr{}, step.port), step.addr, start); got != step.moved {
				t.Errorf("%s, step %d: moved is %t", tt.name, i, got)
			}
		}
		if got := len(s.all(start)) - 1; got != tt.former {
			t.Errorf("%s: %d former addresses", tt.name, got)
		}
		if got := s.all(start.Add(peerTTL)); len(got) != 1 {
			t.Errorf("%s: when others have forgotten it, the node still has %v", tt.name, got)
		}
	}
	var s standing
	for i, addr := range []netip.Addr{one, two, one, two, one} {
		if moved := s.follow(netip.AddrPortFrom(none, 7000), addr, start.Add(time.Duration(i)*moveLasts)); moved != (i > 0) {
			t.Errorf("time %d: moved is %t", i, moved)
		}
	}
	s = standing{}
	for i, addr := range []netip.Addr{one, two, one} { // told by our own router
		if moved := s.follow(netip.AddrPortFrom(addr, 7000), two, start); moved != (i > 0) {
			t.Errorf("told %d: moved is %t", i, moved)
		}
	}
	s = standing{}
	for port := range uint16(1000) {
		s.follow(netip.AddrPortFrom(one, 2000+port), none, start)
	}
	if got := len(s.all(start)); got > maxFormer+1 {
		t.Errorf("%d addresses are remembered", got)
	}
}

// Whose outside port is another announces all again, soon, and is not taken in by
// its own old announces: their port is the lower one, as a neighbour's would be.
func TestMovedToAnotherPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		others := halfDead(t, world, 24)
		var port atomic.Uint32
		port.Store(7000)
		addr := publicAddr(100)
		n := start(t, Config{
			IPv4: world.listen(addr), Bootstrap: []string{publicAddr(0).String()},
			Reachable: func(bool) (netip.AddrPort, bool) { return at(uint16(port.Load()))(true) },
		})
		for i := range 20 {
			n.Offer(keyOf(i), time.Now())
		}
		time.Sleep(5 * time.Minute)
		if got := held(others, netip.AddrPortFrom(addr.Addr(), 7000)); len(got) != 20 {
			t.Fatalf("%d keys are held", len(got))
		}
		port.Store(7005)
		time.Sleep(2 * checkInterval)
		if got := n.Stats().Announced; got == 20 {
			t.Error("what leads nowhere counts as announced")
		}
		time.Sleep(2 * time.Minute)
		if got := held(others, netip.AddrPortFrom(addr.Addr(), 7005)); len(got) != 20 || n.Stats().Announced != 20 {
			t.Errorf("after the port has changed, %d keys are held, and %d count as announced", len(got), n.Stats().Announced)
		}
		if got := collect(t.Context(), n.Node, keyOf(3)); len(got) != 0 {
			t.Errorf("it finds itself: %v", got)
		}
	})
}

// A node that is elsewhere after a restart does not rely on what it announced
// before; one that is where it was does.
func TestMovedWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		others := halfDead(t, world, 24)
		rows, path := new(memoryRows), filepath.Join(t.TempDir(), "nodes")
		run := func(addr netip.AddrPort) *running {
			n := start(t, Config{
				IPv4: world.listen(addr), Reachable: at(7000), Rows: rows, NodesFile: path,
				Bootstrap: []string{publicAddr(0).String()},
			})
			for i := range 20 {
				n.Offer(keyOf(i), time.Now())
			}
			time.Sleep(2 * time.Minute)
			return n
		}
		heldAt := func(addr netip.AddrPort) int { return len(held(others, netip.AddrPortFrom(addr.Addr(), 7000))) }
		home, away := publicAddr(100), publicAddr(101)
		run(home).stop()
		if got := heldAt(home); got != 20 {
			t.Fatalf("%d keys are held", got)
		}
		n := run(away)
		if got := heldAt(away); got != 20 {
			t.Errorf("of the node that has moved %d keys are held", got)
		}
		n.stop()
		for _, other := range others {
			forgetAll(other.families[0].peers)
		}
		run(away)
		if got := heldAt(away); got != 0 {
			t.Errorf("the node that has not moved again announces %d keys anew", got)
		}
	})
}

// IPv4 and IPv6 are two matters: one may be reachable, or at a port of its own.
func TestReachableInOneFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		node := func(i int, reachable func(bool) (netip.AddrPort, bool)) *running {
			return start(t, Config{
				IPv4: world.listen(publicAddr(i)), IPv6: world.listen(publicAddr6(i)), Reachable: reachable,
				Bootstrap: []string{publicAddr(1).String(), publicAddr6(1).String()},
			})
		}
		for i := range 8 {
			node(i+1, at(7000))
		}
		only6 := node(20, func(is4 bool) (netip.AddrPort, bool) { return netip.AddrPortFrom(netip.Addr{}, 7020), !is4 })
		mapped := node(21, func(is4 bool) (netip.AddrPort, bool) {
			if is4 {
				return at(40000)(is4)
			}
			return at(7021)(is4)
		})
		asker := node(30, at(7000))
		later := start(t, Config{IPv4: world.listen(publicAddr(22)), IPv6: world.listen(publicAddr6(22)), Reachable: at(7022),
			Bootstrap: []string{publicAddr(1).String()}})
		time.Sleep(time.Minute)
		only6.Offer(keyOf(1), time.Now())
		mapped.Offer(keyOf(2), time.Now())
		later.Offer(keyOf(3), time.Now())
		time.Sleep(time.Minute)
		later.families[1].table.add(contact{asker.families[1].ownID(), publicAddr6(30)}, time.Now())
		time.Sleep(time.Minute)
		for key, want := range map[Key][]netip.AddrPort{
			keyOf(1): {netip.AddrPortFrom(publicAddr6(20).Addr(), 7020)},
			keyOf(3): {netip.AddrPortFrom(publicAddr(22).Addr(), 7022), netip.AddrPortFrom(publicAddr6(22).Addr(), 7022)},
			keyOf(2): {netip.AddrPortFrom(publicAddr(21).Addr(), 40000), netip.AddrPortFrom(publicAddr6(21).Addr(), 7021)},
		} {
			got := collect(t.Context(), asker.Node, key)
			slices.SortFunc(got, netip.AddrPort.Compare)
			if !slices.Equal(got, want) {
				t.Errorf("found are %v, want %v", got, want)
			}
		}
		if only6.Stats().ReadOnly || !only6.families[0].isReadOnly() || only6.families[1].isReadOnly() {
			t.Error("the node that is reachable over IPv6 alone is not read-only over IPv4 alone")
		}
	})
}
