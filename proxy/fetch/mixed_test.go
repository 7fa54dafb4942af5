// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/store"
)

// Who reads what a mirror gave, with its date, gets nothing that is not proven
// when the lease has moved: it waits, and if the rest turns out wrong it goes on
// with a mirror.
func TestReadersOfALostLease(t *testing.T) {
	for name, wrong := range map[string]bool{"right rest": false, "wrong rest": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 2)
				data := randomBytes(40, 3_000_000)
				want := s.file("f", data)
				s.uplink.set(400_000)
				first, second := s.node(0), s.node(1)
				asked := 0
				s.mirror = func(w http.ResponseWriter, r *http.Request) {
					if r.Context().Value(byKey{}) == first {
						if asked++; asked == 1 {
							w.Header().Set("Content-Length", "3000000")
							w.Header().Set("Last-Modified", modified.Format(http.TimeFormat))
							w.Write(data[:1_000_000])
							<-r.Context().Done()
							return
						}
					}
					serving(data)(w, r)
				}
				if wrong {
					second.spoil = flip(2_000_000)
				}
				var wg sync.WaitGroup
				wg.Go(func() {
					c, err := first.Open(t.Context(), want)
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					if c.Source != FromMirror || c.Modified.IsZero() {
						t.Errorf("from %s, modified %v", c.Source, c.Modified)
					}
					got, err := io.ReadAll(c)
					if err != nil || !bytes.Equal(got, data) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				})
				time.Sleep(10 * time.Millisecond)
				second.mustRead(want, data)
				wg.Wait()
				if first.BytesFromLAN() == 0 {
					t.Error("the rest was not read from the other node")
				}
				if asked != map[bool]int{false: 1, true: 2}[wrong] {
					t.Errorf("its mirror was asked %d times", asked)
				}
			})
		})
	}
}

// What a slow peer has been asked for is asked of others when they have nothing
// else to do.
func TestSlowPeerIsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 3)
		data := randomBytes(41, 6*store.PieceSize)
		want := s.file("f", data)
		s.node(0).has(data)
		s.node(1).has(data)
		s.node(0).link = newPipe(100_000)
		g := s.node(2).mustRead(want, data)
		if g.took > 2*time.Second || len(s.requests(want)) > 0 {
			t.Errorf("it took %v; %d requests to the mirror", g.took, len(s.requests(want)))
		}
	})
}

// Slow or silent holders of a blob of unknown size.
func TestUnsizedFromSlowHolders(t *testing.T) {
	for name, rate := range map[string]int64{"slow": 100_000, "hardly there": 1000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 2)
				data := randomBytes(42, 2_000_000)
				want := s.file("f", data)
				want.Size = -1
				s.node(0).has(data)
				s.node(0).link = newPipe(rate)
				if g := s.node(1).mustRead(want, data); g.took > 7*time.Second || g.from != FromMirror {
					t.Errorf("it took %v, from %s", g.took, g.from)
				}
			})
		})
	}
}

// A node whose disk is full gives its client the file all the same.
func TestFullDiskAmongOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1)
		full := s.add(store.Config{Quota: 1 << 20})
		data := randomBytes(43, 2<<20)
		want := s.file("f", data)
		s.all(want, data, nil)
		unsized := want
		unsized.URL, unsized.Size = mirrorURL+"/f?", -1
		s.files["/f?"] = data
		full.mustRead(unsized, data)
	})
}

// Somebody who wants the end of a file does not fetch its beginning, nor is that
// a reason for others not to.
func TestEndsAndWholes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1)
		n := s.node(0)
		data := randomBytes(44, 6<<20)
		want := s.file("f", data)
		end := want
		end.Start = 5 << 20
		ahead := n.Prefetch(end)
		var wg sync.WaitGroup
		wg.Go(func() {
			c, err := n.Open(t.Context(), end)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.Seek(end.Start, io.SeekStart)
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data[end.Start:]) {
				t.Errorf("the end: %d bytes, %v", len(got), err)
			}
		})
		wg.Go(func() { n.mustRead(want, data) })
		wg.Wait()
		ahead.Release()
		n.await(t)
		if _, ok := n.store.Stat(want.Digest); !ok {
			t.Error("it was not stored")
		}
	})
}

// Reading what is being relayed ends with the reader's context, and leaves
// nothing behind.
func TestReaderLeavesARelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		s.uplink.set(100_000)
		data := randomBytes(45, 2_000_000)
		want := s.file("f", data)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, n := range s.list() {
			wg.Go(func() {
				if g := n.read(ctx, want); g.err == nil {
					t.Error("it was read to its end")
				}
			})
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(8 * time.Second)
		cancel()
		wg.Wait()
		time.Sleep(time.Minute)
		for _, n := range s.list() {
			if len(n.Transfers()) > 0 {
				t.Errorf("it goes on: %+v", n.Transfers())
			}
		}
		// What was relayed is kept, and known for what it is.
		g, err := s.node(1).store.Create(want.Digest, want.Size)
		if err != nil {
			t.Fatal(err)
		}
		if g.Len() < 500_000 || g.Origin() != FromLAN {
			t.Errorf("%d bytes are kept, from %q", g.Len(), g.Origin())
		}
		g.Suspend()
	})
}
