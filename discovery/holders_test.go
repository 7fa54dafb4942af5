// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestHeldIsSpread(t *testing.T) {
	h := newTestHome(t, 8)
	for i := range 7 {
		h.announce(i, 0)
	}
	firsts := map[Member]int{}
	for range 70 {
		f := h.ask(0)
		if f.State != Held || len(f.From) != maxTold {
			t.Fatalf("%+v, want %d holders", f, maxTold)
		}
		firsts[f.From[0]]++
	}
	for i := range 6 {
		if n := firsts[testMember(i+1)]; n < 5 {
			t.Errorf("holder %d came first %d times of 70", i+1, n)
		}
	}
}

func TestHeldBy(t *testing.T) {
	day := holderAge + time.Second
	for name, tt := range map[string]struct {
		then func(h *testHome)
		held bool
	}{
		"it":               {func(h *testHome) {}, true},
		"one that left":    {func(h *testHome) { h.Forget(testMember(1).ID) }, false},
		"one that died":    {func(h *testHome) { h.dead[testMember(1).ID] = true }, false},
		"one that dropped": {func(h *testHome) { h.Announce(testMember(1), nil, digestsOf([]int{0})) }, false},
		"one that another says dropped": {func(h *testHome) {
			h.Announce(testMember(2), nil, digestsOf([]int{0}))
		}, true},
		"one that its namesake says dropped": {func(h *testHome) {
			h.Announce(Member{ID: testMember(1).ID, Addr: testMember(2).Addr}, nil, digestsOf([]int{0}))
		}, true},
		"one restarted":       {func(h *testHome) { h.Joined(Member{ID: "new", Addr: testMember(1).Addr}) }, false},
		"one not heard since": {func(h *testHome) { time.Sleep(day) }, false},
		"one heard since":     {func(h *testHome) { time.Sleep(day / 2); h.announce(1, 0); time.Sleep(day / 2) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHome(t, 3)
				h.announce(1, 0)
				tt.then(h)
				for range 2 { // before and after the sweep
					if f := h.ask(0, noLease); (f.State == Held) != tt.held {
						t.Errorf("%+v, want held %v", f, tt.held)
					}
					h.sweep()
					checkHome(t, h.Home)
				}
				if stats := h.Stats(); (stats.Holders == 0) == tt.held && name != "one that died" {
					t.Errorf("%+v after the sweep", stats)
				}
			})
		})
	}
}

// Zones are the home's own business: the asker knows others.
func TestSilentWithoutZone(t *testing.T) {
	h := newTestHome(t, 1)
	holder := Member{ID: "z", Addr: netip.MustParseAddrPort("[fe80::1%eth0]:9977")}
	h.Announce(holder, digestsOf([]int{0}), nil)
	if f := h.ask(0, noLease); f.State != Held || f.From[0] != holder {
		t.Errorf("%+v, want %v", f, holder)
	}
	seen := func(w *Want) { w.Silent = []netip.AddrPort{netip.MustParseAddrPort("[fe80::1%wlan0]:9977")} }
	if f := h.ask(0, noLease, seen); f.State != None {
		t.Errorf("%+v, want none", f)
	}
	if len(h.suspects) != 1 || h.suspects[0] != holder {
		t.Errorf("suspects %v, want the holder", h.suspects)
	}
}

func TestHoldersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHome(t, 40)
		for i := range 40 {
			time.Sleep(time.Second)
			h.announce(i, 0)
		}
		asked := map[Member]bool{}
		for range 100 {
			for _, m := range h.ask(0).From {
				asked[m] = true
			}
		}
		for i := range 40 {
			if want := i >= 40-maxHolders; asked[testMember(i)] != want {
				t.Errorf("holder %d is told: %v, want %v", i, asked[testMember(i)], want)
			}
		}
		checkHome(t, h.Home)
	})
}

func TestRowsAreBounded(t *testing.T) {
	h := newTestHome(t, 4)
	next := 0
	fill := func(i, n int) {
		blobs := make([]Digest, n)
		for j := range blobs {
			binary.BigEndian.PutUint64(blobs[j][:], mix(uint64(next)))
			next++
		}
		h.Announce(testMember(i), blobs, nil)
	}
	rows := func(i int) int { return h.roster.peers[testMember(i)].rows }
	fill(0, maxMemberRows+10)
	fill(1, maxMemberRows+10)
	if rows(0) != maxMemberRows || rows(1) != maxMemberRows {
		t.Errorf("%d and %d rows, want %d", rows(0), rows(1), maxMemberRows)
	}
	fill(2, 5000)
	if rows(2) != 5000 || h.Stats().Holders != maxRows {
		t.Errorf("%d rows of a modest member and %d in all, want 5000 and %d", rows(2), h.Stats().Holders, maxRows)
	}
	checkHome(t, h.Home)
}

// fakeRows keeps rows in memory, and fails when told to.
type fakeRows struct {
	rows map[rowKey]time.Time
	fail error
}

func (f *fakeRows) Put(rows []Row) error {
	for _, r := range rows {
		f.rows[rowKey{r.Digest, r.Holder}] = r.At
	}
	return f.fail
}

func (f *fakeRows) Delete(rows []Row) error {
	for _, r := range rows {
		delete(f.rows, rowKey{r.Digest, r.Holder})
	}
	return f.fail
}

func (f *fakeRows) Each(yield func(Row) bool) error {
	for key, at := range f.rows {
		if !yield(Row{key.digest, key.holder, at}) {
			break
		}
	}
	return f.fail
}

// runHome runs h for d.
func runHome(t *testing.T, h *Home, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := h.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestRowsSurviveRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := &fakeRows{rows: map[rowKey]time.Time{}}
		cfg := HomeConfig{Self: testSelf, Rows: kept}
		h := NewHome(cfg)
		h.Announce(testMember(1), digestsOf([]int{1, 2, 3}), nil)
		h.Announce(testMember(2), digestsOf([]int{1}), nil)
		h.Announce(testMember(1), nil, digestsOf([]int{2}))
		runHome(t, h, time.Minute)
		if len(kept.rows) != 3 {
			t.Errorf("%d rows kept, want 3", len(kept.rows))
		}

		h = NewHome(cfg)
		want := []Want{{Hash: testDigest(1)}}
		if f := h.Lookup(testMember(0), want); f[0].State != None {
			t.Errorf("%+v of holders that nobody saw yet", f)
		}
		h.Joined(testMember(1))
		if f := h.Lookup(testMember(0), want); f[0].State != Held || !slices.Equal(f[0].From, from(1)) {
			t.Errorf("%+v, want member 1", f)
		}

		time.Sleep(holderAge)
		if stats := NewHome(cfg).Stats(); stats.Holders != 0 {
			t.Errorf("%+v of rows a day old", stats)
		}
		runHome(t, h, 2*rewriteAfter)
		if len(kept.rows) != 0 || h.Stats().Holders != 0 {
			t.Errorf("%d rows and %+v kept after a day", len(kept.rows), h.Stats())
		}
	})
}

func TestRowsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := &fakeRows{rows: map[rowKey]time.Time{}, fail: errors.New("disk on fire")}
		h := NewHome(HomeConfig{Self: testSelf, Rows: broken})
		h.Announce(testMember(1), digestsOf([]int{0}), nil)
		runHome(t, h, 3*sweepEvery)
		if f := h.Lookup(testMember(0), []Want{{Hash: testDigest(0)}}); f[0].State != Held {
			t.Errorf("%+v, want held", f)
		}
	})
}

func TestPendingIsBounded(t *testing.T) {
	h := NewHome(HomeConfig{Self: testSelf, Rows: &fakeRows{rows: map[rowKey]time.Time{}}})
	for i := range maxPending + 100 {
		blob := []Digest{testDigest(i)}
		h.Announce(testMember(1), blob, nil)
		h.Announce(testMember(1), nil, blob)
	}
	if n := len(h.holders.pending); n != maxPending || h.holders.unsaved != 200 {
		t.Errorf("%d changes wait and %d were dropped, want %d and 200", n, h.holders.unsaved, maxPending)
	}
	h.flush()
	if len(h.holders.pending) != 0 || h.holders.unsaved != 0 {
		t.Error("changes wait after they were written")
	}
}

func BenchmarkAnnounce(b *testing.B) {
	h := newTestHome(b, 200)
	blobs := make([]Digest, 512)
	for i := range blobs {
		blobs[i] = testDigest(i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h.Announce(testMember(i%200), blobs, nil)
	}
}

// A home that is told what its own node has needs no announcements of it, and
// keeps no rows.
func TestOwnBlobs(t *testing.T) {
	own := testDigest(0)
	self := Member{ID: "self", Addr: netip.MustParseAddrPort("[::]:9977")}
	h := NewHome(HomeConfig{Self: self, Has: func(d Digest) bool { return d == own }})
	them := testMember(1)
	ask := func(asker Member, w Want) Found { return h.Lookup(asker, []Want{w})[0] }
	if f := ask(them, Want{Hash: own, Lease: true}); f.State != Held || !slices.Equal(f.From, []Member{self}) {
		t.Errorf("%+v, want it held here", f)
	}
	if f := ask(them, Want{Hash: own, Silent: []netip.AddrPort{self.Addr}}); f.State != None {
		t.Errorf("%+v to one that hears nothing from here", f)
	}
	if f := ask(self, Want{Hash: own, Lease: true}); f.State != Lease {
		t.Errorf("%+v to itself", f)
	}
	h.Progress(self, []LeaseProgress{{Hash: own, Done: true}})
	if stats := h.Stats(); stats != (HomeStats{}) {
		t.Errorf("%+v after its own lease was done", stats)
	}
	for i := range maxTold {
		h.Announce(testMember(2+i), []Digest{own}, nil)
	}
	first := 0
	for range 50 {
		f := ask(them, Want{Hash: own})
		if len(f.From) != maxTold {
			t.Fatalf("%+v, want %d holders", f, maxTold)
		}
		if f.From[0] == self {
			first++
		}
	}
	if first < 5 || first > 20 {
		t.Errorf("of five holders this node came first %d times of 50", first)
	}
}
