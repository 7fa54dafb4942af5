// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"errors"
	"iter"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memoryRows keeps rows in memory.
type memoryRows struct {
	mu   sync.Mutex // guards following
	rows map[Key]Row
	fail error
}

func (m *memoryRows) Announced() iter.Seq2[Key, Row] { return maps.All(maps.Clone(m.rows)) }

func (m *memoryRows) PutAnnounced(key Key, row Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows == nil {
		m.rows = make(map[Key]Row)
	}
	m.rows[key] = row
	return m.fail
}

func (m *memoryRows) DropAnnounced(key Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.rows, key)
	return m.fail
}

func (m *memoryRows) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.rows)
}

// halfDead is a network of size nodes of which every second has gone.
func halfDead(t *testing.T, world *internet, size int) []*running {
	var nodes, living []*running
	for i := range size {
		cfg := Config{IPv4: world.listen(publicAddr(i)), Reachable: at(7000)}
		if i > 0 {
			cfg.Bootstrap = []string{publicAddr(0).String()}
		}
		nodes = append(nodes, start(t, cfg))
	}
	time.Sleep(2 * time.Minute)
	for i, n := range nodes {
		if i%2 == 1 {
			n.stop()
			continue
		}
		living = append(living, n)
	}
	return living
}

// held counts the keys under which others have a peer at addr that is not older
// than announceTTL.
func held(nodes []*running, addr netip.AddrPort) map[Key]int {
	keys := make(map[Key]int)
	for _, n := range nodes {
		store := n.families[0].peers
		store.mu.Lock()
		for key, swarm := range store.swarms {
			for _, p := range swarm {
				if p.addr == addr && time.Since(p.seen) < announceTTL {
					keys[key]++
				}
			}
		}
		store.mu.Unlock()
	}
	return keys
}

func forgetAll(s *peerStore) {
	s.mu.Lock()
	defer s.mu.Unlock()
	empty := newPeerStore(s.private)
	s.swarms, s.owners, s.total = empty.swarms, empty.owners, 0
}

// crowd has all nodes store count peers under key.
func crowd(nodes []*running, key Key, count int) {
	for _, n := range nodes {
		for i := range count {
			n.families[0].peers.add(key, publicAddr(20000+i), 8000)
		}
	}
}

// TestBudgetHolds announces 5,000 blobs in a network of 150 nodes, half of them
// dead: for more than an hour, so that all has been renewed at least once.
func TestBudgetHolds(t *testing.T) {
	const popular = 40
	size, blobs, kept := scaled(150, 30), scaled(5000, 300), scaled(1300, 260)
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		nodes := halfDead(t, world, size)
		for i := range popular {
			crowd(nodes, keyOf(i), plenty+4)
		}
		n, others := nodes[0], nodes[1:]
		for i := range blobs {
			n.Offer(keyOf(i), time.Now().Add(-time.Duration(i)*time.Minute))
		}
		for range 7 {
			before := n.Stats()
			time.Sleep(10 * time.Minute)
			after := n.Stats()
			packets := after.PacketsIn + after.PacketsOut - before.PacketsIn - before.PacketsOut
			t.Logf("%d keys announced, %.1f packets/s", after.Announced, float64(packets)/600)
			if packets > 60*600 {
				t.Errorf("%d packets in 10 minutes", packets)
			}
		}
		keys := held(others, netip.AddrPortFrom(publicAddr(0).Addr(), 7000))
		if len(keys) < kept {
			t.Errorf("%d keys are held by others, want %d", len(keys), kept)
		}
		missing := 0
		for i := popular; i < kept; i++ {
			if keys[keyOf(i)] == 0 {
				missing++
			}
		}
		if missing > 0 {
			t.Errorf("of the %d newest keys that are not popular %d are not held", kept-popular, missing)
		}
		for i := range popular {
			if keys[keyOf(i)] > 0 {
				t.Errorf("key %d has plenty of peers, and is announced", i)
			}
		}
		if at := n.Stats().Announced; at < len(keys) {
			t.Errorf("announced are %d keys, held %d", at, len(keys))
		}
	})
}

// pair is a node that announces, and one that stores.
func pair(t *testing.T, world *internet, rows Rows) (announcer, store *running) {
	store = start(t, Config{IPv4: world.listen(publicAddr(1)), Private: true, Reachable: at(7001)})
	announcer = start(t, Config{
		IPv4: world.listen(publicAddr(0)), Private: true, Reachable: at(7000), Rows: rows,
		Bootstrap: []string{publicAddr(1).String()},
	})
	return announcer, store
}

var ourPeer = netip.AddrPortFrom(publicAddr(0).Addr(), 7000)

func TestAnnouncesAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, store := pair(t, newInternet(), nil)
		for i := range 20 {
			n.Offer(keyOf(i), time.Now())
		}
		time.Sleep(time.Minute)
		for range 300 {
			time.Sleep(time.Minute)
			if got := len(held([]*running{store}, ourPeer)); got != 20 {
				t.Fatalf("%d of 20 keys are held", got)
			}
		}
		n.Withdraw(keyOf(0))
		time.Sleep(peerTTL)
		keys := held([]*running{store}, ourPeer)
		if keys[keyOf(0)] != 0 || len(keys) != 19 || n.Stats().Offered != 19 {
			t.Errorf("after a withdrawal %d keys are held", len(keys))
		}
	})
}

func TestPlentyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, store := pair(t, newInternet(), nil)
		crowd([]*running{store}, keyOf(1), plenty)
		n.Offer(keyOf(1), time.Now())
		time.Sleep(lookAgainFirst - time.Minute)
		if got := held([]*running{store}, ourPeer); len(got) != 0 {
			t.Fatal("a key with plenty of peers was announced")
		}
		time.Sleep(2 * time.Minute)
		if got := held([]*running{store}, ourPeer); len(got) != 1 {
			t.Error("a key whose peers have gone is not announced")
		}
	})
}

// Of the machines behind one outside address, one announces.
func TestNeighbourAnnounces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := halfDead(t, newInternet(), 24)
		ours, others := nodes[0], nodes[1:]
		theirs, forward := keyOf(1), keyOf(2)
		for _, n := range others {
			n.families[0].peers.add(theirs, publicAddr(0), 6999)
			n.families[0].peers.add(forward, publicAddr(0), 7001)
		}
		for _, key := range []Key{theirs, forward} {
			ours.Offer(key, time.Now())
		}
		time.Sleep(5 * time.Minute)
		if got := held(others, ourPeer); got[theirs] != 0 || got[forward] == 0 {
			t.Errorf("held under the neighbour's key %d, under that of one with a higher port %d", got[theirs], got[forward])
		}
		if got := ours.Stats().Announced; got != 2 {
			t.Errorf("%d keys count as announced by this site", got)
		}
		for _, n := range others {
			forgetAll(n.families[0].peers)
		}
		time.Sleep(renewAfter)
		if got := held(others, ourPeer); got[theirs] == 0 || got[forward] == 0 {
			t.Errorf("after the neighbour has gone held are %v", got)
		}
	})
}

func TestRowsSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, rows := newInternet(), &memoryRows{fail: errors.New("the disk is full")}
		n, store := pair(t, world, rows)
		for i := range 10 {
			n.Offer(keyOf(i), time.Now())
		}
		time.Sleep(time.Minute)
		n.stop()
		if rows.len() != 10 {
			t.Fatalf("%d rows", rows.len())
		}
		rows.rows[keyOf(50)] = Row{Announced: time.Now().Add(-RowLasts)}
		rows.rows[keyOf(51)] = Row{Announced: time.Now().Add(time.Hour)}
		rows.rows[keyOf(52)] = Row{Announced: time.Now()}
		forgetAll(store.families[0].peers)
		n = start(t, Config{
			IPv4: world.listen(publicAddr(0)), Reachable: at(7000), Rows: rows, Bootstrap: []string{publicAddr(1).String()},
		})
		if rows.len() != 11 {
			t.Errorf("%d rows are kept of 10 good, 1 old, 1 of the future, 1 unknown", rows.len())
		}
		for i := range 10 {
			n.Offer(keyOf(i), time.Now())
		}
		n.Withdraw(keyOf(3))
		n.Withdraw(keyOf(52))
		time.Sleep(10 * time.Minute)
		if got := held([]*running{store}, ourPeer); len(got) != 0 || n.Stats().Announced != 9 {
			t.Errorf("%d keys were announced again too early, %d count as announced", len(got), n.Stats().Announced)
		}
		time.Sleep(renewAfter)
		if got := held([]*running{store}, ourPeer); len(got) != 9 || rows.len() != 9 {
			t.Errorf("%d keys are held, %d rows", len(got), rows.len())
		}
	})
}

func TestUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		store := start(t, Config{IPv4: world.listen(publicAddr(1)), Reachable: at(7001)})
		var mu sync.Mutex
		var port uint16
		reachable := func(bool) (netip.AddrPort, bool) {
			mu.Lock()
			defer mu.Unlock()
			return netip.AddrPortFrom(netip.Addr{}, port), port != 0
		}
		n := start(t, Config{IPv4: world.listen(publicAddr(0)), Reachable: reachable, Bootstrap: []string{publicAddr(1).String()}})
		n.Offer(keyOf(1), time.Now())
		store.families[0].peers.add(keyOf(2), publicAddr(7), 8000)
		time.Sleep(10 * time.Minute)
		if s := n.Stats(); s.Announced != 0 || !s.ReadOnly || s.GoodNodes != 1 {
			t.Errorf("unreachable: %+v", s)
		}
		if got := store.Stats().Nodes; got != 0 {
			t.Error("a read-only node is in another's table")
		}
		if peer, _ := firstOf(n.Node, keyOf(2)); !peer.IsValid() {
			t.Error("a read-only node finds nothing")
		}
		mu.Lock()
		port = 7000
		mu.Unlock()
		time.Sleep(10 * time.Minute)
		if s := n.Stats(); s.Announced != 1 || s.ReadOnly {
			t.Errorf("reachable: %+v", s)
		}
		if got := held([]*running{store}, ourPeer); len(got) != 1 || store.Stats().GoodNodes != 1 {
			t.Errorf("held are %v, the other knows %+v", got, store.Stats())
		}
	})
}
