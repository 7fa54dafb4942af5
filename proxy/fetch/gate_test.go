// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// gateTest notes in which order requests are sent.
type gateTest struct {
	*gate
	mu   sync.Mutex // guards following
	sent []string
}

func newGateTest(free bool) *gateTest {
	return &gateTest{gate: newGate(func() bool { return free })}
}

func (g *gateTest) send(e *entry, name string) {
	go e.send(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.sent = append(g.sent, name)
	})
	synctest.Wait()
}

func (g *gateTest) check(t *testing.T, want ...string) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(g.sent, want) {
		t.Errorf("sent %q, want %q", g.sent, want)
	}
}

func (g *gateTest) enterAll(sizes ...int64) (list []*entry) {
	for _, size := range sizes {
		e := g.enter(lane{"host", "flow"}, size)
		e.opened(true)
		list = append(list, e)
	}
	return list
}

// A file that takes long to be opened is waited for, but not for ever; one that
// has much to be read again, not at all.
func TestGateAndFilesBeingOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateTest(true)
		a, b, c := g.enter(lane{}, 1), g.enter(lane{}, 1), g.enter(lane{}, 1)
		c.opened(true)
		g.send(c, "c")
		b.opened(false)
		time.Sleep(openWait - time.Millisecond)
		synctest.Wait()
		g.check(t)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		g.check(t, "c")
		a.opened(true)
		g.send(a, "a")
		g.send(b, "b")
		g.check(t, "c", "a", "b")
	})
}

// Requests are sent in the order in which the files were wanted, also where it
// becomes known in another that they are needed.
func TestGateKeepsTheOrder(t *testing.T) {
	for _, free := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			g := newGateTest(free)
			e := g.enterAll(1000, 1000, 1000, 1000, 1000)
			g.send(e[2], "2")
			g.send(e[4], "4")
			g.check(t)
			e[1].goInside()
			g.check(t)
			g.send(e[0], "0")
			g.check(t, "0", "2")
			e[3].leave()
			g.check(t, "0", "2", "4")
			g.send(e[1], "1")
			g.check(t, "0", "2", "4", "1")
		})
	}
}

// Nobody waits for an unanswered question for more than 20 ms, and then all go in
// order.
func TestGateDoesNotWaitLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateTest(false)
		e := g.enterAll(1000, 1000, 1000, 1000)
		g.send(e[3], "3")
		time.Sleep(15 * time.Millisecond)
		g.send(e[2], "2")
		time.Sleep(4 * time.Millisecond)
		synctest.Wait()
		g.check(t)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		g.check(t, "2", "3")
		g.send(e[0], "0") // late, it waits for nobody who is
		g.check(t, "2", "3", "0")
		g.send(g.enter(lane{"host", "flow"}, 1), "4")
		g.check(t, "2", "3", "0", "4")
	})
}

// Lanes do not wait for each other.
func TestGateLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateTest(false)
		g.enter(lane{"slow", "flow"}, 100<<20)
		other := g.enter(lane{"host", "flow"}, 100<<20)
		g.send(g.enter(lane{"host", "another"}, 1000), "a")
		g.check(t, "a")
		if !other.mayLease() {
			t.Error("a large file of another lane is in the way")
		}
	})
}

// Only what the uplink brings in a second is asked for with a lease.
func TestGateBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateTest(false)
		e := g.enterAll(firstBudget/2, firstBudget/4, firstBudget/4, 1000, firstBudget, 1)
		var may []bool
		for _, one := range e {
			may = append(may, one.mayLease())
		}
		if !slices.Equal(may, []bool{true, true, true, false, false, false}) {
			t.Errorf("within the budget: %v", may)
		}
		turn := e[3].awaitTurn()
		if closed(turn) {
			t.Error("a turn beyond the budget")
		}
		g.send(e[0], "0")
		e[0].took(1000)
		if !closed(turn) {
			t.Error("no turn within the budget")
		}
		// The first may always.
		for _, one := range e[:4] {
			one.goInside()
		}
		if !e[4].mayLease() || e[5].mayLease() {
			t.Error("a large file at the front")
		}
		turn = e[5].awaitTurn()
		e[4].leave()
		if !closed(turn) {
			t.Error("no turn for the first")
		}
	})
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A mirror that sends nothing does not keep others from being asked.
func TestGateForgetsTheStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateTest(false)
		e := g.enterAll(100<<20, 1000)
		g.send(e[0], "0")
		turn := e[1].awaitTurn()
		time.Sleep(stale / 2)
		e[0].took(1)
		time.Sleep(stale - time.Millisecond)
		synctest.Wait()
		if closed(turn) {
			t.Error("a turn though bytes came")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if !closed(turn) {
			t.Error("no turn though nothing comes")
		}
	})
}

// At most so many files at a time, however small.
func TestGateCount(t *testing.T) {
	g := newGateTest(false)
	e := g.enterAll(make([]int64, maxOutside+1)...)
	if !e[maxOutside-1].mayLease() || e[maxOutside].mayLease() {
		t.Error("the number of files is not bounded")
	}
}

func TestUplinkIsMeasured(t *testing.T) {
	for _, tc := range []struct {
		rate         int64 // bytes per second
		budget, slow int64
	}{
		{2500, minBudget, slowest},
		{200_000, minBudget, 50_000},
		{600_000, 600_000, slowRate},
		{5_000_000, 5_000_000, slowRate},
		{100_000_000, maxBudget, slowRate},
	} {
		t.Run(fmt.Sprint(tc.rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGateTest(false)
				if g.pace() != (pace{slowRate, slowest}) {
					t.Error("a floor that was not measured")
				}
				e := g.enterAll(1 << 40)[0]
				for range 1000 { // in bursts, with lulls that do not count
					for range 10 {
						time.Sleep(100 * time.Millisecond)
						e.took(tc.rate / 10)
					}
					time.Sleep(time.Minute)
				}
				if got := g.uplink.budget(); got < tc.budget*9/10 || got > tc.budget*11/10 {
					t.Errorf("budget %d, want %d", got, tc.budget)
				}
				if got := g.pace().floor; got < tc.slow*9/10 || got > tc.slow*11/10 {
					t.Errorf("floor %d, want %d", got, tc.slow)
				}
			})
		})
	}
}

// A peer is asked for only so much at a time, of all transfers together.
func TestSemaphores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := semaphores{most: 2}
		a, b := Peer{Addr: addrOf(1)}, Peer{Addr: addrOf(2)}
		var got []func()
		for range 2 {
			release, err := s.acquire(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, release)
		}
		if release, err := s.acquire(t.Context(), b); err != nil {
			t.Error(err)
		} else {
			release()
		}
		third := make(chan func())
		go func() {
			release, _ := s.acquire(t.Context(), a)
			third <- release
		}()
		synctest.Wait()
		got[0]()
		(<-third)()
		got[1]()
		if len(s.peers) != 0 {
			t.Errorf("%d peers are remembered", len(s.peers))
		}
	})
}

func TestPlacesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s places
		for i := range 3 * maxPlaces {
			s.add(Peer{Addr: addrOf(i)}, time.Minute)
		}
		if len(s.until) > maxPlaces {
			t.Errorf("%d are remembered", len(s.until))
		}
		last := Peer{Addr: addrOf(3*maxPlaces - 1)}
		if !s.has(last) || s.has(Peer{Addr: addrOf(1 << 20)}) {
			t.Error("the wrong ones are remembered")
		}
		time.Sleep(time.Minute)
		if s.has(last) {
			t.Error("remembered for too long")
		}
	})
}

func addrOf(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 9977)
}
