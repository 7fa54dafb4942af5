// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// testHome is the home of all blobs; members are known by their numbers.
type testHome struct {
	*Home
	t        testing.TB
	dead     map[string]bool
	suspects []Member
}

var testSelf = testMember(60_000)

func newTestHome(t testing.TB, members int) *testHome {
	h := &testHome{t: t, dead: map[string]bool{}}
	h.Home = NewHome(HomeConfig{
		Self:    testSelf,
		Alive:   func(id string) bool { return !h.dead[id] },
		Suspect: func(m Member) { h.suspects = append(h.suspects, m) },
	})
	for _, m := range testMembers(members) {
		h.Joined(m)
	}
	return h
}

// ask has member i want blob 0, with a lease unless the change says otherwise.
func (h *testHome) ask(i int, change ...func(*Want)) Found {
	h.t.Helper()
	w := Want{Hash: testDigest(0), Size: 10_000_000, Lease: true}
	for _, c := range change {
		c(&w)
	}
	found := h.Lookup(testMember(i), []Want{w})
	if len(found) != 1 || found[0].Hash != w.Hash {
		h.t.Fatalf("found %+v for %x", found, w.Hash)
	}
	checkFound(h.t, testMember(i), w, found[0])
	return found[0]
}

func (h *testHome) report(i int, offset int64) []Digest {
	return h.Progress(testMember(i), []LeaseProgress{{Hash: testDigest(0), Offset: offset}})
}

func (h *testHome) announce(i int, blobs ...int) {
	h.Announce(testMember(i), digestsOf(blobs), nil)
}

func digestsOf(blobs []int) (d []Digest) {
	for _, b := range blobs {
		d = append(d, testDigest(b))
	}
	return d
}

// silent names members that an asker does not hear.
func silent(members ...int) func(*Want) {
	return func(w *Want) {
		for _, i := range members {
			w.Silent = append(w.Silent, testMember(i).Addr)
		}
	}
}

func noLease(w *Want)            { w.Lease = false }
func firstSilent(w *Want)        { w.FirstSilent = true }
func have(n int64) func(w *Want) { return func(w *Want) { w.Have = n } }
func blob(i int) func(w *Want)   { return func(w *Want) { w.Hash = testDigest(i) } }
func from(members ...int) []Member {
	var list []Member
	for _, i := range members {
		list = append(list, testMember(i))
	}
	return list
}

// checkFound asserts what holds for every answer.
func checkFound(t testing.TB, asker Member, w Want, f Found) {
	t.Helper()
	most := map[State]int{Held: maxTold, Coming: 2}[f.State]
	if len(f.From) > most || f.State == Held && len(f.From) == 0 {
		t.Errorf("%v with %d places", f.State, len(f.From))
	}
	for i, m := range f.From {
		switch {
		case m.ID == asker.ID || m.Addr == asker.Addr:
			t.Errorf("an asker is sent to itself: %+v", f)
		case slices.Contains(f.From[:i], m):
			t.Errorf("a place is named twice: %+v", f)
		case slices.Contains(w.Silent[:min(len(w.Silent), maxSilent)], m.Addr):
			t.Errorf("an asker is sent to a place that it found silent: %+v", f)
		}
	}
	if (f.Until > 0) != (f.State == Lease) {
		t.Errorf("%v until %v", f.State, f.Until)
	}
}

// Strangers cannot take the room of members, nor stay for ever.
func TestStrangersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHome(t, 3)
		for i := range 3 * maxPeers {
			h.Lookup(testMember(1000+i), []Want{{Hash: testDigest(i % 7)}})
		}
		if n := len(h.roster.slots); n > maxStrangers+10 {
			t.Errorf("%d peers kept", n)
		}
		h.Joined(testMember(500))
		h.announce(500, 0)
		if f := h.ask(0); f.State != Held {
			t.Errorf("%+v: a member that joined has no room", f)
		}
		late := testMember(50_000)
		if f := h.Lookup(late, []Want{{Hash: testDigest(1), Lease: true}}); f[0].State != Lease || f[0].Number != -1 {
			t.Errorf("%+v, want a lease without a number where there is no room", f)
		}
		time.Sleep(strangerAge + time.Second)
		h.sweep()
		checkHome(t, h.Home)
		if n := len(h.roster.peers); n != 5 {
			t.Errorf("%d peers are left, want the 4 members and the node itself", n)
		}
	})
}

func FuzzHome(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x11\x01\x00\x22\x01\x05\x31\x01\x00"))
	f.Fuzz(func(t *testing.T, script []byte) {
		synctest.Test(t, func(t *testing.T) { playHome(t, script) })
	})
}

// playHome plays a script of three bytes a step: what, who and how.
func playHome(t *testing.T, script []byte) {
	h := newTestHome(t, 8)
	script = script[:min(len(script), 1500)]
	for ; len(script) >= 3; script = script[3:] {
		what, who, how := script[0], testMember(int(script[1]%10)), script[2]
		blob := testDigest(int(what >> 5))
		switch what & 15 {
		case 0, 1, 2, 3:
			w := Want{Hash: blob, Size: int64(how) << 10, Lease: how&1 == 0, Have: int64(how) << 8, FirstSilent: how&2 == 0}
			for i := range int(how >> 4) {
				w.Silent = append(w.Silent, testMember(i).Addr)
			}
			checkFound(t, who, w, h.Lookup(who, []Want{w})[0])
		case 4:
			h.Announce(who, []Digest{blob}, nil)
		case 5:
			h.Announce(who, nil, []Digest{blob})
		case 6, 7, 8:
			l := LeaseProgress{Hash: blob, Offset: int64(how) << 10, Done: how&7 == 1, GiveUp: how&7 == 2}
			if lost := h.Progress(who, []LeaseProgress{l}); len(lost) > 0 && (l.Done || l.GiveUp) {
				t.Errorf("%+v is lost", l)
			}
		case 9:
			h.mu.Lock()
			h.copyLocked(time.Now(), Grant{Hash: blob, Asker: who, Number: int(how) - 1, Lease: how&1 == 0})
			h.mu.Unlock()
		case 10:
			h.Forget(who.ID)
		case 11:
			h.Joined(Member{ID: string(rune('a' + how%20)), Addr: who.Addr})
		case 12:
			h.dead[who.ID] = how&1 == 0
		case 13:
			h.sweep()
		default:
			time.Sleep(time.Duration(how) * 50 * time.Millisecond)
		}
		checkHome(t, h.Home)
	}
	time.Sleep(holderAge)
	h.sweep()
	checkHome(t, h.Home)
	if stats := h.Stats(); stats != (HomeStats{}) {
		t.Errorf("%+v a day later", stats)
	}
}

func TestHomeScripts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		script := make([]byte, 3*rng.IntN(300))
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		synctest.Test(t, func(t *testing.T) { playHome(t, script) })
	}
}

func BenchmarkLookup(b *testing.B) {
	h := newTestHome(b, 200)
	ring := NewRing(testSelf, testMembers(200))
	h.cfg.Ring = func() *Ring { return ring }
	wants := make([]Want, 300)
	for i := range wants {
		wants[i] = Want{Hash: testDigest(i), Size: 1_000_000, Lease: true, FirstSilent: true}
		switch i % 3 {
		case 0: // held by many
			for j := range maxHolders {
				h.announce(j, i)
			}
		case 1: // wanted by many
			for j := range 12 {
				h.Lookup(testMember(100+j), wants[i:i+1])
			}
		default: // wanted by none
			wants[i].Lease = false
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		h.Lookup(testMember(100), wants)
	}
}
