// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/store"
)

// Where holders are slow a mirror feeds the front after a while, they the tail,
// and the two meet.
func TestSlowHoldersAndAMirrorMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 3)
		data := randomBytes(30, 12*store.PieceSize+5)
		want := s.file("f", data)
		s.uplink = newPipe(1_000_000)
		for i := range 2 {
			s.node(i).has(data)
			s.node(i).link = newPipe(300_000)
		}
		n := s.node(2)
		g := n.mustRead(want, data)
		if g.from != FromMirror || g.first < proofWait || g.first > proofWait+100*time.Millisecond {
			t.Errorf("from %s after %v", g.from, g.first)
		}
		// 3 MB have come when the mirror begins; then 1.6 MB/s together.
		if g.took > 13*time.Second {
			t.Errorf("it took %v", g.took)
		}
		if part := n.BytesFromMirror(); part == 0 || part > int64(len(data))*2/3 {
			t.Errorf("%d of %d bytes from the mirror", part, len(data))
		}
		if n.BytesFromLAN() > int64(len(data))*2/3 {
			t.Errorf("%d of %d bytes from others", n.BytesFromLAN(), len(data))
		}
		if states, err := n.store.Pieces(want.Digest); err != nil || len(states) != 12 {
			t.Errorf("%d states, %v", len(states), err)
		}
	})
}

// A wrong front is not joined to a right tail.
func TestWrongMirrorAndHolders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		data := randomBytes(31, 8*store.PieceSize)
		want := s.file("f", data)
		bad := bytes.Clone(data)
		bad[3] ^= 1
		s.mirror = serving(bad)
		s.uplink = newPipe(1_000_000)
		s.node(0).has(data)
		s.node(0).link = newPipe(600_000)
		n := s.node(1)
		g := n.read(t.Context(), want)
		if g.err == nil || len(g.data) >= len(data)-heldBack || !n.WholeOnly(want.Digest) {
			t.Errorf("%d bytes, %v, whole only %v", len(g.data), g.err, n.WholeOnly(want.Digest))
		}
		if len(n.liars) > 0 {
			t.Errorf("the holder was set aside: %v", n.liars)
		}
		n.await(t)
		n.mustRead(want, data) // from the holder, if it takes 14 s
	})
}

// Without a mirror slow holders do: what they have is not less because a reader
// is impatient.
func TestHeldWithoutAMirror(t *testing.T) {
	for _, size := range []int{500_000, 7*store.PieceSize + 1} {
		for name, mirror := range map[string]http.HandlerFunc{
			"refuses": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			"404":     http.NotFound,
			"silent":  func(_ http.ResponseWriter, r *http.Request) { sleep(r.Context(), 15*time.Second) },
			"breaks":  cutAfter(make([]byte, size), 1, 100),
		} {
			if name == "breaks" && size < store.PieceSize {
				continue // a wrong byte of the mirror's is the front's
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, 2)
					data := randomBytes(32, size)
					data[0] = 0
					want := s.file("f", data)
					s.mirror = mirror
					s.node(0).has(data)
					s.node(0).link = newPipe(int64(size / 7))
					limit := 17 * time.Second
					if name == "silent" && size < store.PieceSize { // it was given up for the mirror, and begun again
						limit = 28 * time.Second
					}
					if g := s.node(1).mustRead(want, data); g.took > limit {
						t.Errorf("it took %v", g.took)
					}
				})
			})
		}
	}
}

// All mirrors have failed this node; others have the file by then.
func TestMirrorsFailedAndOthersHaveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		data := randomBytes(33, 300_000)
		want := s.file("f", data)
		s.mirror = func(w http.ResponseWriter, r *http.Request) {
			if r.Context().Value(byKey{}) != s.node(0) {
				serving(data)(w, r)
				return
			}
			s.node(1).has(data)
			http.NotFound(w, r)
		}
		g := s.node(0).mustRead(want, data)
		if g.from != FromLAN || len(s.requests(want)) != 1 {
			t.Errorf("from %s, %d requests", g.from, len(s.requests(want)))
		}
	})
}

// An error of the mirror's goes to everybody who asks, at once.
func TestMirrorsErrorWithOthersThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 4)
		want := s.file("f", []byte("x"))
		s.mirror = http.NotFound
		var wg sync.WaitGroup
		for _, n := range s.list() {
			wg.Go(func() {
				g := n.read(t.Context(), want)
				if status := (*StatusError)(nil); !errors.As(g.err, &status) || status.Code != 404 || g.first > 3*time.Second {
					t.Errorf("after %v: %v", g.first, g.err)
				}
			})
		}
		wg.Wait()
		if n := len(s.requests(want)); n != 4 {
			t.Errorf("%d requests", n)
		}
	})
}

// A home that lies costs one bounded delay.
func TestLyingHome(t *testing.T) {
	ghost := Peer{ID: "00000000000000ff", Addr: (&node{}).self.Addr}
	for _, tc := range []struct {
		name   string
		answer func(s *site) Answer
		limit  time.Duration
	}{
		{"nobody to read from", func(*site) Answer { return Answer{State: Coming} }, 22 * time.Second},
		{"a dead place", func(*site) Answer { return Answer{State: Coming, From: []Peer{ghost}} }, 22 * time.Second},
		{"a silent place", func(s *site) Answer { return Answer{State: Coming, From: []Peer{s.node(1).peer()}} }, 24 * time.Second},
		{"a dead holder", func(*site) Answer { return Answer{State: Held, From: []Peer{ghost}} }, 3 * time.Second},
		{"a silent holder", func(s *site) Answer { return Answer{State: Held, From: []Peer{s.node(1).peer()}} }, 6 * time.Second},
		{"nowhere", func(*site) Answer { return Answer{State: Nowhere} }, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 2)
				data := randomBytes(34, 3*store.PieceSize)
				n := s.node(0)
				s.node(1).state = deaf
				n.answer = func(Question) (Answer, bool) { return tc.answer(s), true }
				var wg sync.WaitGroup
				for i := range 5 { // in a row, on one connection
					want := s.file(string(rune('a'+i)), append(bytes.Clone(data), byte(i)))
					defer n.Prefetch(want).Release()
					wg.Go(func() {
						if g := n.mustRead(want, append(bytes.Clone(data), byte(i))); g.took > tc.limit {
							t.Errorf("it took %v", g.took)
						}
					})
				}
				wg.Wait()
				want := s.file("later", data)
				if g := n.mustRead(want, data); g.took > tc.limit {
					t.Errorf("then it took %v", g.took)
				}
			})
		})
	}
}

// What a reader got unproven must prove right together with what a mirror adds.
func TestTakingOverUnproven(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 2)
			data := randomBytes(35, 3_000_000)
			want := s.file("f", data)
			s.uplink = newPipe(200_000)
			first, second := s.node(0), s.node(1)
			if wrong {
				first.spoil = flip(1000)
			}
			s.home.Joined(first.self)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var wg sync.WaitGroup
			wg.Go(func() { first.read(ctx, want) })
			time.Sleep(10 * time.Millisecond)
			c, err := second.openAfter(want, 8*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			given, err := io.ReadAll(io.LimitReader(c, 1_000_000))
			if err != nil || c.Source != FromLAN {
				t.Fatalf("%d bytes from %s, %v", len(given), c.Source, err)
			}
			// Now nothing comes any more, and nobody else has it.
			first.kill(deaf)
			second.answer = func(Question) (Answer, bool) { return Answer{State: Coming}, true }
			s.uplink.set(25_000_000)
			rest, err := io.ReadAll(c)
			all := append(given, rest...)
			if !wrong && (err != nil || !bytes.Equal(all, data)) || wrong && (err == nil || len(all) > len(data)-heldBack) {
				t.Errorf("wrong %v: %d bytes, %v", wrong, len(all), err)
			}
			first.kill(up)
			cancel()
			wg.Wait()
		})
	}
}

// openAfter opens a file that is being relayed.
func (n *node) openAfter(want Want, limit time.Duration) (*Content, error) {
	began := time.Now()
	c, err := n.Open(n.site.t.Context(), want)
	if took := time.Since(began); took > limit {
		n.site.t.Errorf("it was opened after %v", took)
	}
	return c, err
}

// What is lent is what has been written, proven or not, to its very end.
func TestOpenShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1)
		n := s.node(0)
		data := randomBytes(36, 300_000)
		want := s.file("f", data)
		if _, err := n.OpenShared(t.Context(), want.Digest); !errors.Is(err, ErrNotHere) {
			t.Fatalf("before: %v", err)
		}
		release := make(chan struct{})
		s.mirror = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "300000")
			w.Write(data[:299_999])
			<-release
			w.Write(data[299_999:])
		}
		ahead := n.Prefetch(want)
		shared, err := n.OpenShared(t.Context(), want.Digest)
		if err != nil || shared.File != nil || shared.Size != want.Size {
			t.Fatalf("%+v, %v", shared, err)
		}
		ahead.Release()
		var got []byte
		for len(got) < 299_999 {
			to, err := shared.Arriving.Wait(t.Context(), int64(len(got)))
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, to-int64(len(got)))
			if _, err := shared.Arriving.ReadAt(p, int64(len(got))); err != nil {
				t.Fatal(err)
			}
			got = append(got, p...)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if _, err := shared.Arriving.Wait(ctx, 299_999); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("beyond what has come: %v", err)
		}
		cancel()
		close(release)
		if to, err := shared.Arriving.Wait(t.Context(), 299_999); to != 300_000 || err != nil {
			t.Errorf("%d, %v", to, err)
		}
		if _, err := shared.Arriving.Wait(t.Context(), 300_000); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
		shared.Close()
		shared.Close()
		stored, err := n.OpenShared(t.Context(), want.Digest)
		if err != nil || stored.File == nil || stored.Size != want.Size {
			t.Fatalf("then: %+v, %v", stored, err)
		}
		stored.Close()
	})
}

// Alone, a node asks its mirror at once, and has the lease.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1)
		s.rtt = 0
		n := s.node(0)
		n.alone = true
		data := randomBytes(37, 100_000)
		want := s.file("f", data)
		began := time.Now()
		n.mustRead(want, data)
		n.await(t)
		requests := s.requests(want)
		if len(requests) != 1 || requests[0].began != began || len(n.asks) != 1 || !n.asks[0].Lease {
			t.Errorf("requests %+v, questions %+v", requests, n.asks)
		}
		if stats := s.home.Stats(); stats.Coming != 0 || stats.Blobs != 1 {
			t.Errorf("the home keeps %+v", stats)
		}
	})
}
