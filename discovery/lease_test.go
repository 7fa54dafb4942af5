// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestLeaseEnds(t *testing.T) {
	done := func(i int) func(h *testHome) {
		return func(h *testHome) {
			h.Progress(testMember(i), []LeaseProgress{{Hash: testDigest(0), Done: true}})
		}
	}
	for name, tt := range map[string]struct {
		end  func(h *testHome)
		want State // of asker 1
		lost bool  // told to asker 0
	}{
		"not":                  {func(h *testHome) {}, Coming, false},
		"done":                 {done(0), Held, false},
		"announced":            {func(h *testHome) { h.announce(0, 0) }, Held, false},
		"given up":             {func(h *testHome) { h.giveUp(0, 5) }, Lease, true},
		"its holder left":      {func(h *testHome) { h.Forget(testMember(0).ID) }, Lease, true},
		"its holder died":      {func(h *testHome) { h.dead[testMember(0).ID] = true; time.Sleep(justSpoke) }, Lease, true},
		"its holder was busy":  {func(h *testHome) { h.dead[testMember(0).ID] = true }, Coming, false},
		"its holder is silent": {func(h *testHome) { time.Sleep(leaseTerm) }, Lease, true},
		"given up by another":  {func(h *testHome) { h.giveUp(2, 5) }, Coming, false},
		"given up by its namesake": {func(h *testHome) {
			h.Progress(Member{ID: testMember(0).ID, Addr: testMember(2).Addr}, []LeaseProgress{{Hash: testDigest(0), GiveUp: true}})
		}, Coming, false},
		"given up twice, and late": {func(h *testHome) { h.giveUp(0, 5); h.report(0, 7); h.giveUp(0, 3) }, Lease, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := herdOf(t, 3)
				tt.end(h)
				f := h.ask(1)
				if f.State != tt.want {
					t.Errorf("%+v, want %v", f, tt.want)
				}
				if lost := h.report(0, 10); (len(lost) > 0) != tt.lost {
					t.Errorf("lost %x, want %v", lost, tt.lost)
				}
				checkHome(t, h.Home)
			})
		})
	}
}

// What a reader hears nothing of is moved only if the holder is to blame.
func TestLeaseMoves(t *testing.T) {
	const s = time.Second
	report := func(every time.Duration, bytes int64) func(h *testHome, passed time.Duration) {
		return func(h *testHome, passed time.Duration) {
			if passed%every == 0 {
				h.report(0, int64(passed/every)*bytes)
			}
		}
	}
	after := func(wait time.Duration, then func(*testHome, time.Duration)) func(*testHome, time.Duration) {
		return func(h *testHome, passed time.Duration) {
			if passed < wait {
				h.report(0, 0)
			} else {
				then(h, passed-wait)
			}
		}
	}
	for name, tt := range map[string]struct {
		holder func(h *testHome, passed time.Duration)
		change func(*Want)
		moved  time.Duration // when, 0: not within a minute
	}{
		"progress":               {report(s, 100_000), have(1 << 40), 0},
		"slow first byte":        {after(4*s, report(s, 100_000)), have(1 << 40), 0},
		"no report":              {func(*testHome, time.Duration) {}, silent(), silentHolder},
		"no first byte":          {report(s, 0), silent(), stalledHolder},
		"too slow":               {report(s, 30_000), have(1 << 40), 5 * s},
		"trickle":                {report(s, 1), have(1 << 40), 5 * s},
		"more than there is":     {report(s, 100_000), func(w *Want) { w.Have, w.Size = 1<<40, 1_000_000 }, 11 * s},
		"reached, never ends":    {func(h *testHome, p time.Duration) { h.report(0, min(10_000_000, int64(p/s)*2_000_000)) }, have(1 << 40), 10 * s},
		"progress, but unheard":  {report(s, 100_000), silent(), 1*s + unreached},
		"progress, I am no heir": {report(s, 100_000), noLease, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := herdOf(t, 2)
				start, moved := time.Now(), time.Duration(0)
				for time.Since(start) < time.Minute && moved == 0 {
					time.Sleep(100 * time.Millisecond)
					tt.holder(h, time.Since(start))
					if h.ask(1, silent(0), tt.change).State == Lease {
						moved = time.Since(start)
					}
				}
				if moved != tt.moved {
					t.Errorf("asker 1 got the lease after %v, want %v", moved, tt.moved)
				}
			})
		})
	}
}

// Where all stall, as at a slow mirror, the lease moves ever more seldom.
func TestLeaseMovesSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := herdOf(t, 10)
		holder, moves := 0, 0
		for range 60 * 10 {
			time.Sleep(100 * time.Millisecond)
			h.report(holder, 0)
			for i := range 10 {
				if i != holder && h.ask(i, silent(holder)).State == Lease {
					holder, moves = i, moves+1
					break
				}
			}
		}
		if moves < 3 || moves > 5 {
			t.Errorf("the lease moved %d times in a minute, want at 5, 15, 30, 45 s", moves)
		}
	})
}

// An asker whose lease was told, but not heard, is told again.
func TestLeaseAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := herdOf(t, 2)
		time.Sleep(leaseTerm - time.Millisecond)
		if f := h.ask(0); f.State != Lease || f.Number != 0 {
			t.Errorf("%+v, want the lease again", f)
		}
		time.Sleep(leaseTerm - time.Millisecond)
		if f := h.ask(1); f.State != Coming {
			t.Errorf("%+v, want the lease renewed", f)
		}
	})
}

// Askers that cannot reach the holder end with leases of their own, and the
// holder keeps its own.
func TestLeaseOfTheIsolated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := herdOf(t, 12)
		for i := range 11 {
			var deaf []int
			asked := time.Now()
			for state := Coming; state != Lease; {
				h.report(0, int64(time.Since(asked)/time.Millisecond)+1)
				f := h.ask(1+i, silent(deaf...))
				state = f.State
				for _, m := range f.From {
					deaf = append(deaf, int(m.Addr.Addr().As4()[3]))
				}
				time.Sleep(100 * time.Millisecond)
			}
			if took := time.Since(asked); took > 2*time.Second {
				t.Errorf("asker %d got its lease after %v", 1+i, took)
			}
		}
		if lost := h.report(0, 1<<20); lost != nil {
			t.Error("the holder lost its lease")
		}
		for i := range 11 {
			h.giveUp(1+i, 0)
		}
		if f := h.ask(5, noLease); f.State != Coming || !slices.Contains(f.From, testMember(0)) {
			t.Errorf("%+v, want the holder", f)
		}
		checkHome(t, h.Home)
	})
}

// A home that does not know a lease, being new, takes the holder's word.
func TestLeaseAdopted(t *testing.T) {
	h := newTestHome(t, 4)
	if lost := h.report(0, 5000); lost != nil {
		t.Error("an unknown lease is lost")
	}
	if f := h.ask(1); f.State != Coming || !slices.Equal(f.From, from(0)) {
		t.Errorf("%+v, want member 0 to fetch it", f)
	}
	if lost := h.report(2, 100); len(lost) != 1 || lost[0] != testDigest(0) {
		t.Errorf("lost %x, want the blob: another fetches it", lost)
	}
	h.announce(0, 0)
	if lost := h.report(2, 200); len(lost) != 1 {
		t.Error("not lost though another holds it")
	}
	if lost := h.report(0, 200); lost != nil || h.Stats().Coming != 0 {
		t.Error("a report after the end begins again")
	}
	checkHome(t, h.Home)
}

// All that is kept of a blob goes when nobody speaks of it any more.
func TestLeaseForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := herdOf(t, 5)
		time.Sleep(herdAge / 2)
		h.report(0, 1)
		time.Sleep(herdAge / 2)
		h.sweep()
		if stats := h.Stats(); stats.Coming != 1 {
			t.Errorf("%+v: forgotten though its holder reports", stats)
		}
		time.Sleep(herdAge / 2)
		h.sweep()
		if stats := h.Stats(); stats != (HomeStats{}) {
			t.Errorf("%+v: not forgotten", stats)
		}
		checkHome(t, h.Home)
	})
}

func TestSuspects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := herdOf(t, 5)
		for range 15 {
			h.ask(4, silent(1))
			h.ask(3, silent(1, 77))
			time.Sleep(100 * time.Millisecond)
		}
		if !slices.Equal(h.suspects, from(1, 1)) {
			t.Errorf("suspects %v in 1.5 s, want member 1 twice", h.suspects)
		}
	})
}
