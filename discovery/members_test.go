// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeLAN answers probes: an address that is in it answers with its id, others
// not at all.
type fakeLAN struct {
	mu sync.Mutex // guards following
	at map[netip.AddrPort]string
	// asked counts the probes of each address.
	asked map[netip.AddrPort]int
}

func (f *fakeLAN) put(addr, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at[ap(addr)] = id
}

func (f *fakeLAN) probes(addr string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[ap(addr)]
}

func (f *fakeLAN) probe(ctx context.Context, addr netip.AddrPort) (string, error) {
	f.mu.Lock()
	id := f.at[addr]
	f.asked[addr]++
	f.mu.Unlock()
	switch id {
	case "":
		<-ctx.Done()
		return "", ctx.Err()
	case "refuses":
		return "", errors.New("connection refused")
	}
	return id, nil
}

func ap(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

// inMembership runs f, in a bubble with a clock of its own, beside a
// membership that is running.
func inMembership(t *testing.T, f func(t *testing.T, m *membership, lan *fakeLAN)) {
	synctest.Test(t, func(t *testing.T) {
		lan := &fakeLAN{at: make(map[netip.AddrPort]string), asked: make(map[netip.AddrPort]int)}
		m := newMembership(testID(0), lan.probe, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { m.run(ctx) })
		f(t, m, lan)
		cancel()
		running.Wait()
	})
}

func (m *membership) hears(id string, addrs ...string) {
	var parsed []netip.AddrPort
	for _, a := range addrs {
		parsed = append(parsed, ap(a))
	}
	m.heard(id, parsed, parsed[0].Addr())
}

// expect checks the ring and, of it, those alive, after d.
func (m *membership) expect(t *testing.T, d time.Duration, ring, alive []string) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	view := m.view.Load()
	var gotRing, gotAlive []string
	for _, member := range view.ring {
		gotRing = append(gotRing, member.ID)
		if _, ok := view.alive[member.ID]; ok {
			gotAlive = append(gotAlive, member.ID)
		}
	}
	if !slices.Equal(gotRing, ring) || !slices.Equal(gotAlive, alive) {
		t.Errorf("the ring is %v, alive are %v; want %v and %v", gotRing, gotAlive, ring, alive)
	}
}

var (
	nobody = []string(nil)
	one    = []string{testID(1)}
)

func TestOnlyThoseThatAnswerAreMembers(t *testing.T) {
	inMembership(t, func(t *testing.T, m *membership, lan *fakeLAN) {
		lan.put("10.0.0.1:1", testID(1))
		lan.put("10.0.0.2:1", testID(9))
		lan.put("10.0.0.4:1", testID(0))
		lan.put("10.0.0.5:1", "not an id")
		changed := m.view.Load().replaced
		m.hears(testID(1), "10.9.9.9:1", "10.0.0.1:1", "[fe80::1%eth0]:1") // two of which are dead
		m.hears(testID(2), "10.0.0.2:1")                                   // where another node is
		m.hears(testID(3), "10.0.0.3:1")                                   // silent
		m.hears(testID(4), "10.0.0.4:1")                                   // ourselves
		m.hears(testID(5), "10.0.0.5:1")
		m.hears(testID(0), "10.0.0.6:1")
		m.expect(t, probeTimeout, []string{testID(1), testID(9)}, []string{testID(1), testID(9)})
		if got := m.view.Load().ring[0].Addr; got != ap("10.0.0.1:1") {
			t.Errorf("the member is at %s", got)
		}
		select {
		case <-changed:
		default:
			t.Error("the change was not told")
		}
		if lan.probes("10.0.0.6:1") > 0 {
			t.Error("our own id was probed")
		}
	})
}

func TestADeadMemberIsSkippedThenLeaves(t *testing.T) {
	inMembership(t, func(t *testing.T, m *membership, lan *fakeLAN) {
		const addr = "10.0.0.1:1"
		lan.put(addr, testID(1))
		m.hears(testID(1), addr)
		m.expect(t, 0, one, one)
		lan.put(addr, "")
		m.expect(t, time.Second, one, one) // nobody has noticed
		m.failed(testID(1))
		m.expect(t, 0, one, nobody)
		changed := m.view.Load().replaced
		m.expect(t, leaveAfter-time.Second, one, nobody)
		before := lan.probes(addr)
		m.expect(t, 2*time.Second, nobody, nobody)
		<-changed
		if before > 9 {
			t.Errorf("%d probes of a dead node in a minute", before)
		}
		m.expect(t, forgetAfter+maxDelay, nobody, nobody)
		if n := lan.probes(addr) - before; n < 3 || n > 8 {
			t.Errorf("%d probes after it left the ring", n)
		}
		if len(m.nodes) > 0 {
			t.Error("the dead node is still remembered")
		}
	})
}

func TestAMemberThatComesBack(t *testing.T) {
	inMembership(t, func(t *testing.T, m *membership, lan *fakeLAN) {
		const addr = "10.0.0.1:1"
		lan.put(addr, testID(1))
		m.hears(testID(1), addr)
		m.expect(t, 0, one, one)

		// One that answers probes but not callers is trusted ever more slowly.
		for delay := firstDelay; delay < 16*time.Second; delay *= 2 {
			m.failed(testID(1))
			m.expect(t, delay-time.Millisecond, one, nobody)
			m.expect(t, time.Millisecond, one, one)
		}
		// A hello brings a dead one back at once, though not twice a second.
		lan.put(addr, "")
		m.failed(testID(1))
		m.expect(t, 2*leaveAfter, nobody, nobody)
		lan.put(addr, testID(1))
		m.hears(testID(1), addr)
		m.expect(t, firstDelay, one, one)
		// A new address is used once the old one is dead.
		lan.put(addr, "")
		lan.put("10.0.0.2:1", testID(1))
		m.hears(testID(1), "10.0.0.2:1")
		m.expect(t, firstDelay+2*probeTimeout, one, one)
		if got := m.view.Load().ring[0].Addr; got != ap("10.0.0.2:1") {
			t.Errorf("the member is at %s", got)
		}
	})
}

func TestGoodbye(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers string // after the goodbye
		then    string // 500 ms later
		ring    []string
		within  time.Duration
	}{
		{"a stopped node", "refuses", "refuses", nobody, 0},
		{"a host that is gone", "", "", nobody, 2 * probeTimeout},
		{"a node that takes a while to stop", testID(1), "refuses", nobody, time.Second},
		{"a node that is succeeded by another", testID(2), testID(2), []string{testID(2)}, 0},
		{"a forged goodbye", testID(1), testID(1), one, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			inMembership(t, func(t *testing.T, m *membership, lan *fakeLAN) {
				const addr = "10.0.0.1:1"
				lan.put(addr, testID(1))
				m.hears(testID(1), addr)
				m.expect(t, 0, one, one)
				lan.put(addr, test.answers)
				m.goodbye(testID(1))
				time.AfterFunc(500*time.Millisecond, func() { lan.put(addr, test.then) })
				m.expect(t, test.within, test.ring, test.ring)
				time.Sleep(time.Second)
			})
		})
	}
}

func TestForgedGoodbyesCostLittle(t *testing.T) {
	inMembership(t, func(t *testing.T, m *membership, lan *fakeLAN) {
		const addr = "10.0.0.1:1"
		lan.put(addr, testID(1))
		m.hears(testID(1), addr)
		for range 1000 {
			m.goodbye(testID(1))
			m.hears(testID(1), addr)
			m.expect(t, 10*time.Millisecond, one, one)
		}
		if n := lan.probes(addr); n > 1+3*doubts {
			t.Errorf("%d probes in ten seconds", n)
		}
	})
}

func TestFloodsOfNames(t *testing.T) {
	inMembership(t, func(t *testing.T, m *membership, lan *fakeLAN) {
		lan.put("10.0.0.1:1", testID(1))
		m.hears(testID(1), "10.0.0.1:1")
		m.expect(t, 0, one, one)
		for i := range 100 {
			m.hears(fmt.Sprintf("bad%013d", i), "10.0.0.66:1")
		}
		m.expect(t, 0, one, one)
		if len(m.nodes) > 1+maxUnproven {
			t.Errorf("one source put %d nodes in", len(m.nodes)-1)
		}
		for i := range 3 * maxNodes {
			m.hears(fmt.Sprintf("bad%013d", i), fmt.Sprintf("10.1.%d.%d:1", i/250, i%250+1))
			if i%64 == 0 {
				m.expect(t, 100*time.Millisecond, one, one)
			}
		}
		m.expect(t, time.Minute, one, one)
		if len(m.nodes) > maxNodes {
			t.Errorf("%d nodes are known", len(m.nodes))
		}
		// Those that have proved silent make room for one that comes.
		lan.put("10.0.0.2:1", testID(2))
		m.hears(testID(2), "10.0.0.2:1")
		both := []string{testID(1), testID(2)}
		m.expect(t, 30*time.Second, both, both)
	})
}

func TestAddressesOfOneNodeAreBounded(t *testing.T) {
	n := newNode(testID(1), netip.Addr{}, time.Now())
	n.addAddrs([]netip.AddrPort{ap("10.0.0.1:1")})
	n.answered(ap("10.0.0.1:1"), time.Now())
	for i := range 20 {
		if !n.addAddrs([]netip.AddrPort{ap(fmt.Sprintf("10.0.1.%d:1", i))}) {
			t.Error("a new address is no news")
		}
	}
	if len(n.addrs) != maxAddrs || n.addrs[0] != ap("10.0.0.1:1") || n.addrs[1] != ap("10.0.1.19:1") {
		t.Errorf("kept are %v", n.addrs)
	}
	if n.addAddrs(n.addrs) {
		t.Error("known addresses are news")
	}
}

func TestRecheckAfterSleep(t *testing.T) {
	inMembership(t, func(t *testing.T, m *membership, lan *fakeLAN) {
		lan.put("10.0.0.1:1", testID(1))
		m.hears(testID(1), "10.0.0.1:1")
		m.expect(t, 0, one, one)
		lan.put("10.0.0.1:1", "")
		m.recheck()
		m.expect(t, 2*probeTimeout, one, nobody)
	})
}

func TestStaticPeer(t *testing.T) {
	inMembership(t, func(t *testing.T, m *membership, lan *fakeLAN) {
		peer, err := newStaticPeer("10.0.0.1", 9)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { peer.run(ctx, m) })
		m.expect(t, time.Minute, nobody, nobody)
		if n := lan.probes("10.0.0.1:9"); n < 4 || n > 8 {
			t.Errorf("%d probes in a minute of a peer that is not there", n)
		}
		lan.put("10.0.0.1:9", testID(1))
		m.expect(t, 2*time.Minute, one, one)
		if !peer.has(netip.MustParseAddr("10.0.0.1")) || peer.has(netip.MustParseAddr("10.0.0.2")) {
			t.Error("its address is not known")
		}
		cancel()
		running.Wait()
	})
}

func TestStaticPeerNames(t *testing.T) {
	for _, test := range []struct {
		name, host string
		port       uint16 // 0: an error
	}{
		{"cache", "cache", 9977},
		{"cache.example:80", "cache.example", 80},
		{"10.0.0.1", "10.0.0.1", 9977},
		{"10.0.0.1:1", "10.0.0.1", 1},
		{"fd00::1", "fd00::1", 9977},
		{"[fd00::1]:65535", "fd00::1", 65535},
		{"", "", 0},
		{":80", "", 0},
		{"cache:", "", 0},
		{"cache:0", "", 0},
		{"cache:65536", "", 0},
		{"cache:http", "", 0},
	} {
		peer, err := newStaticPeer(test.name, 9977)
		switch {
		case test.port == 0:
			if err == nil {
				t.Errorf("%q was taken", test.name)
			}
		case err != nil:
			t.Errorf("%q: %v", test.name, err)
		case peer.host != test.host || peer.port != test.port:
			t.Errorf("%q is %s at port %d", test.name, peer.host, peer.port)
		}
	}
}
