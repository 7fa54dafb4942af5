// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/store"
)

// chain makes the nodes want a file one after the other, each told to read from
// the one before it, and returns what they got.
func (s *site) chain(want Want) []got {
	nodes := s.list()
	list := make([]got, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		if i > 0 {
			before := nodes[i-1].peer()
			first := true
			n.answer = func(q Question) (Answer, bool) {
				if !first {
					return Answer{}, false
				}
				first = false
				n.ask(q) // takes its number
				return Answer{State: Coming, From: []Peer{before}, Number: 1<<i - 1}, true
			}
		}
		wg.Go(func() { list[i] = n.read(s.t.Context(), want) })
		time.Sleep(10 * time.Millisecond)
	}
	wg.Wait()
	return list
}

// A file goes through six nodes while it grows, and its head is killed.
func TestRelayChainLosesItsHead(t *testing.T) {
	for _, state := range []int{dead, deaf} {
		t.Run(fmt.Sprint(state), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 6)
				s.uplink = newPipe(500_000)
				data := randomBytes(10, 4<<20)
				want := s.file("f", data)
				head := s.node(0)
				time.AfterFunc(4*time.Second, func() { go head.kill(state) })
				list := s.chain(want)
				for i, g := range list[1:] {
					if g.err != nil || !bytes.Equal(g.data, data) {
						t.Errorf("node %d: %d bytes, %v", i+2, len(g.data), g.err)
					}
					if limit := 8500*time.Millisecond + 5*time.Second; g.took > limit {
						t.Errorf("node %d: it took %v", i+2, g.took)
					}
				}
				requests := s.requests(want)
				if len(requests) != 2 || requests[1].from == "" {
					t.Errorf("the mirror was asked %+v", requests)
				}
			})
		})
	}
}

// A holder that is killed in the middle of a body costs half a second at most.
func TestHolderKilledInItsBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 3)
		data := randomBytes(11, 6*store.PieceSize)
		want := s.file("f", data)
		for i := range 2 {
			s.node(i).has(data)
			s.node(i).link = newPipe(4_000_000)
		}
		time.AfterFunc(500*time.Millisecond, func() { go s.node(0).kill(dead) })
		g := s.node(2).mustRead(want, data)
		if g.took > 2500*time.Millisecond || len(s.requests(want)) > 0 {
			t.Errorf("it took %v; %d requests to the mirror", g.took, len(s.requests(want)))
		}
	})
}

// stalling serves a file, but says nothing to a node after so many bytes.
func (s *site) stalling(victim *node, data []byte, after int) {
	s.mirror = func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(byKey{}) != victim {
			serving(data)(w, r)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:after])
		<-r.Context().Done()
	}
}

// A lease holder whose mirror stalls loses the lease; the next resumes where its
// own bytes end, and the first reads on from it.
func TestLeaseMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 3)
		data := randomBytes(12, 2<<20)
		want := s.file("f", data)
		s.stalling(s.node(0), data, 700_000)
		var wg sync.WaitGroup
		for _, n := range s.list() {
			wg.Go(func() {
				if g := n.mustRead(want, data); g.took > 15*time.Second {
					t.Errorf("node %s: it took %v", n.self.ID[15:], g.took)
				}
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		requests := s.requests(want)
		if len(requests) != 2 || requests[1].by == s.node(0) || requests[1].from != "bytes=700000-" {
			t.Errorf("the mirror was asked %+v", requests)
		}
	})
}

// Whoever can mend a wrong answer reads unproven bytes after a while; others wait
// until they are proven, but not for ever.
func TestUnproven(t *testing.T) {
	for _, tc := range []struct {
		name     string
		seconds  int // that the uplink needs
		want     func(*Want)
		first    time.Duration // until the answer begins, at least
		requests int
	}{
		{"apt, soon proven", 4, func(*Want) {}, 4 * time.Second, 1},
		{"apt", 12, func(*Want) {}, 5 * time.Second, 1},
		{"another client", 12, func(w *Want) { w.Unproven = false }, 12 * time.Second, 1},
		{"another client, long", 40, func(w *Want) { w.Unproven = false }, 20 * time.Second, 2},
		{"apt, a part", 12, func(w *Want) { w.Start = 1000 }, 12 * time.Second, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 2)
				data := randomBytes(13, 4_000_000)
				want := s.file("f", data)
				s.uplink = newPipe(int64(len(data) / tc.seconds))
				var wg sync.WaitGroup
				wg.Go(func() { s.node(0).mustRead(want, data) })
				time.Sleep(10 * time.Millisecond)
				mine := want
				tc.want(&mine)
				g := s.node(1).mustRead(mine, data)
				wg.Wait()
				if g.first < tc.first-100*time.Millisecond || g.first > tc.first+1500*time.Millisecond {
					t.Errorf("the answer began after %v, want %v", g.first, tc.first)
				}
				if g.head.Modified.IsZero() != (tc.first == proofWait) {
					t.Errorf("from %s, modified %v", g.from, g.head.Modified)
				}
				if n := len(s.requests(want)); n != tc.requests {
					t.Errorf("%d requests", n)
				}
				if tc.requests == 1 && g.took > time.Duration(tc.seconds)*time.Second+time.Second {
					t.Errorf("it took %v", g.took)
				}
			})
		})
	}
}

// Wrong bytes that were relayed: who got none of them does not notice; who did
// gets a short answer, and then the right file, whole.
func TestWrongRelay(t *testing.T) {
	for _, seconds := range []int{2, 10} {
		t.Run(fmt.Sprint(seconds), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 3)
				data := randomBytes(14, 2_000_000)
				want := s.file("f", data)
				s.uplink = newPipe(int64(len(data) / seconds))
				liar, victim := s.node(0), s.node(1)
				liar.spoil = flip(1000)
				var wg sync.WaitGroup
				wg.Go(func() { liar.mustRead(want, data) })
				time.Sleep(10 * time.Millisecond)
				g := victim.read(s.t.Context(), want)
				wg.Wait()
				cut := seconds > 5
				if cut != (g.err != nil) || cut && len(g.data) > len(data)-heldBack || !cut && !bytes.Equal(g.data, data) {
					t.Fatalf("%d bytes, %v", len(g.data), g.err)
				}
				if victim.WholeOnly(want.Digest) != cut {
					t.Errorf("whole only: %v", victim.WholeOnly(want.Digest))
				}
				if len(victim.liars) > 0 && cut {
					t.Errorf("somebody who relayed was set aside: %v", victim.liars)
				}
				if !victim.barred.has(liar.peer()) {
					t.Error("who fed wrong bytes was not barred")
				}
				victim.await(t)
				victim.mustRead(want, data)
			})
		})
	}
}

// What has been begun from other nodes and kept may be gone on with by anybody,
// but is not taken for the mirror's.
func TestKeptRelay(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		t.Run(fmt.Sprint(wrong), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 1)
				data := randomBytes(15, 2_000_000)
				want := s.file("f", data)
				want.Unproven = false
				n := s.node(0)
				g, err := n.store.Create(want.Digest, want.Size)
				if err != nil {
					t.Fatal(err)
				}
				g.SetOrigin(FromLAN)
				begin := bytes.Clone(data[:1_200_000])
				if wrong {
					begin[77] ^= 1
				}
				g.Write(begin)
				g.Suspend()
				n.mustRead(want, data)
				requests := s.requests(want)
				if requests[0].from != "bytes=1200000-" || len(requests) != map[bool]int{false: 1, true: 2}[wrong] {
					t.Errorf("the mirror was asked %+v", requests)
				}
				if n.taints.wrong(want.Digest, want.URL, time.Now()) {
					t.Error("the mirror was blamed")
				}
			})
		})
	}
}

// A node reads on for the others when its own client has gone; when they have
// gone, too, it gives the lease back with its offset.
func TestOthersKeepATransferAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		s.uplink = newPipe(200_000)
		data := randomBytes(16, 2_000_000)
		want := s.file("f", data)
		first, second := s.node(0), s.node(1)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { first.read(ctx, want) })
		time.Sleep(10 * time.Millisecond)
		ctx2, cancel2 := context.WithCancel(t.Context())
		wg.Go(func() { second.read(ctx2, want) })
		time.Sleep(time.Second)
		cancel()
		time.Sleep(3 * time.Second)
		if len(first.Transfers()) != 1 || second.BytesFromLAN() < 600_000 {
			t.Fatalf("the transfer ended with its own reader: %+v, %d", first.Transfers(), second.BytesFromLAN())
		}
		cancel2()
		time.Sleep(10 * time.Second)
		if len(first.Transfers())+len(second.Transfers()) != 0 {
			t.Error("it goes on for nobody")
		}
		wg.Wait()
		second.mustRead(want, data)
		requests := s.requests(want)
		if len(requests) != 2 || requests[1].from == "" {
			t.Errorf("the mirror was asked %+v", requests)
		}
	})
}
