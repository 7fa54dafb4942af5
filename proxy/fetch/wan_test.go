// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/store"
)

// aNode is a node without a local network, on one where it is alone, or with
// another one.
func aNode(s *site, lan string) *node {
	switch lan {
	case "none":
		return s.withoutLAN()
	case "others":
		s.add(store.Config{})
	}
	n := s.add(store.Config{})
	n.alone = lan == "alone"
	return n
}

// What strangers have comes from them, and from all of them where it is large.
func TestFromTheInternet(t *testing.T) {
	for _, lan := range []string{"none", "alone", "others"} {
		for _, size := range []int{WorthSeeking, 300_000, store.PieceSize, store.PieceSize + 1, 5*store.PieceSize + 77, 20 * store.PieceSize} {
			t.Run(fmt.Sprint(lan, size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, 0)
					w := newWorld(s, 3)
					n := aNode(s, lan)
					data := randomBytes(50, size)
					want := w.file(s, "f", data)
					g := n.mustRead(want, data)
					n.ends()
					if g.from != FromWAN || !g.head.Modified.Equal(modified) || g.head.Size != int64(size) {
						t.Errorf("from %s, modified %v, size %d", g.from, g.head.Modified, g.head.Size)
					}
					if len(s.requests(want)) > 0 || n.BytesFromMirror() > 0 || n.BytesFromLAN() > 0 {
						t.Error("the mirror was asked, or others")
					}
					came := n.BytesFromWAN()
					if came < int64(size) || came > int64(size)*101/100 || w.told(want) != came {
						t.Errorf("%d bytes came, %d were told", came, w.told(want))
					}
					if meta, err := n.store.Meta(want.Digest); err != nil || !meta.Shareable {
						t.Errorf("stored as %+v, %v", meta, err)
					}
					for _, p := range w.strangers {
						if size > 10*store.PieceSize && p.bytes == 0 {
							t.Errorf("%s was asked for nothing", p.self.ID)
						}
					}
				})
			})
		}
	}
}

// Mirrors wait for strangers as long as they are patient, and not at all where it
// is known that nobody is there.
func TestPatience(t *testing.T) {
	data := randomBytes(51, 300_000)
	for _, tc := range []struct {
		name           string
		patience, over time.Duration
		shares         bool
		asked          time.Duration // the mirror is, after at least
		least          time.Duration // and the file is there after that
	}{
		{"nobody, in time", 100 * time.Millisecond, time.Minute, true, 100 * time.Millisecond, 0},
		{"nobody, at once", 100 * time.Millisecond, 10 * time.Millisecond, true, 10 * time.Millisecond, 0},
		{"impatient", 0, time.Minute, true, 0, 0},
		{"not shareable", 1500 * time.Millisecond, time.Minute, false, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 0)
				w := newWorld(s, 1)
				n := s.withoutLAN()
				w.patience, w.over = tc.patience, tc.over
				want := s.file("f", data)
				want.Shareable = func(context.Context) bool { return tc.shares }
				began := time.Now()
				g := n.mustRead(want, data)
				n.ends()
				requests := s.requests(want)
				if len(requests) != 1 || requests[0].began.Sub(began) != tc.asked || g.from != FromMirror {
					t.Errorf("from %s, requests %+v after %v", g.from, requests, requests[0].began.Sub(began))
				}
				told := w.told(want)
				if learns := tc.shares && tc.over == time.Minute; learns && told != 0 || !learns && told != -1 {
					t.Errorf("the world was told %d", told)
				}
				meta, err := n.store.Meta(want.Digest)
				if err != nil || meta.Shareable != tc.shares || tc.shares != (len(w.sought) == 1) {
					t.Errorf("stored as %+v, %v; sought %d", meta, err, len(w.sought))
				}
			})
		})
	}
}

// What may not be shared, or is not known, or is small, is not sought as long as
// mirrors give it.
func TestNotSought(t *testing.T) {
	for name, change := range map[string]func(want *Want){
		"may not be shared": func(want *Want) { want.Shareable = func(context.Context) bool { return false } },
		"nobody says so":    func(want *Want) { want.Shareable = nil },
		"unknown":           func(want *Want) { want.Digest, want.Size = Digest{}, -1 },
		"no size":           func(want *Want) { want.Size = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 0)
				w := newWorld(s, 2)
				n := s.withoutLAN()
				data := randomBytes(52, 2*store.PieceSize)
				want := w.file(s, "f", data)
				digest, shares := want.Digest, name == "no size"
				change(&want)
				n.mustRead(want, data)
				n.ends()
				if meta, err := n.store.Meta(digest); len(w.sought) > 0 || err != nil || meta.Shareable != shares {
					t.Errorf("sought %d, stored as %+v, %v", len(w.sought), meta, err)
				}
				if _, err := n.OpenPublic(digest); !shares && !errors.Is(err, ErrNotHere) {
					t.Errorf("it is public: %v", err)
				}
			})
		})
	}
	t.Run("small", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 0)
			w := newWorld(s, 1)
			n := s.withoutLAN()
			data := randomBytes(52, WorthSeeking-1)
			want := w.file(s, "f", data)
			if g := n.mustRead(want, data); len(w.sought) > 0 || g.from != FromMirror || w.told(want) != -1 {
				t.Errorf("sought %d, from %s", len(w.sought), g.from)
			}
		})
	})
}

// Only what is stored and may be shared is given to strangers.
func TestOpenPublic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		w := newWorld(s, 0)
		n := s.withoutLAN()
		data := randomBytes(53, 100_000)
		want := w.file(s, "f", data)
		release := make(chan struct{})
		s.mirror = func(rw http.ResponseWriter, r *http.Request) {
			<-release
			serving(data)(rw, r)
		}
		ahead := n.Prefetch(want)
		synctest.Wait()
		if _, err := n.OpenPublic(want.Digest); !errors.Is(err, ErrNotHere) {
			t.Errorf("still arriving: %v", err)
		}
		close(release)
		n.ends()
		ahead.Release()
		blob, err := n.OpenPublic(want.Digest)
		if err != nil || blob.File == nil || blob.Size != want.Size {
			t.Fatalf("%+v, %v", blob, err)
		}
		blob.Close()
	})
}

// Strangers' requests keep nothing from eviction; those of the local network do.
func TestStrangersUseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		w := newWorld(s, 0)
		n := s.withoutLAN()
		data := randomBytes(55, 100_000)
		want := w.file(s, "f", data)
		n.mustRead(want, data)
		n.ends()
		usedAfter := func(blob *Shared, err error) time.Time {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			blob.Close()
			meta, err := n.store.Meta(want.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return meta.Used
		}
		before := time.Now()
		time.Sleep(time.Hour)
		if used := usedAfter(n.OpenPublic(want.Digest)); used.After(before) {
			t.Errorf("after a stranger's request: used %v, stored %v", used, before)
		}
		if used := usedAfter(n.OpenShared(t.Context(), want.Digest)); !used.Equal(time.Now()) {
			t.Errorf("after a neighbour's request: used %v at %v", used, time.Now())
		}
	})
}

// What is public stays so when the same bytes come by a URL that no index names.
func TestPublicStaysPublic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		w := newWorld(s, 0)
		n := s.withoutLAN()
		data := randomBytes(54, 100_000)
		want := w.file(s, "f", data)
		n.mustRead(want, data)
		unnamed := want
		unnamed.URL, unnamed.Digest, unnamed.Size = want.URL+"-latest", Digest{}, -1
		s.mirror = serving(data)
		n.mustRead(unnamed, data)
		n.ends()
		if meta, err := n.store.Meta(want.Digest); err != nil || meta.Origin != want.URL {
			t.Errorf("%+v, %v", meta, err)
		}
		blob, err := n.OpenPublic(want.Digest)
		if err != nil {
			t.Fatal(err)
		}
		blob.Close()
	})
}

// Strangers who turn up when the mirror has been asked bring the end of the file.
func TestLateStrangers(t *testing.T) {
	for _, size := range []int{800_000, 12*store.PieceSize + 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 0)
				w := newWorld(s, 2)
				w.patience, w.finding, w.over = 0, 200*time.Millisecond, time.Minute
				n := s.withoutLAN()
				s.uplink = newPipe(300_000)
				data := randomBytes(54, size)
				want := w.file(s, "f", data)
				began := time.Now()
				g := n.mustRead(want, data)
				requests := s.requests(want)
				if len(requests) != 1 || !requests[0].began.Equal(began) || g.from != FromMirror {
					t.Errorf("from %s, requests %+v", g.from, requests)
				}
				if g.took > 2*time.Second {
					t.Errorf("it took %v", g.took)
				}
				if from := n.BytesFromMirror(); from > 700_000 {
					t.Errorf("%d bytes from the mirror", from)
				}
				n.ends()
				if told := w.told(want); told == 0 {
					t.Error("the strangers were of no use")
				}
			})
		})
	}
}

// Where no mirror can be reached all files come from strangers, also small ones,
// and none waits for a mirror's time to be over.
func TestDeadMirror(t *testing.T) {
	for name, mirror := range map[string]http.HandlerFunc{
		"refuses": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"404":     http.NotFound,
		"silent":  func(_ http.ResponseWriter, r *http.Request) { sleep(r.Context(), 15*time.Second) },
		"breaks": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10000000")
			panic(http.ErrAbortHandler)
		},
	} {
		for _, patience := range []time.Duration{0, 100 * time.Millisecond} {
			for _, lan := range []string{"none", "others"} {
				t.Run(fmt.Sprint(name, patience, lan), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := newSite(t, 0)
						w := newWorld(s, 3)
						w.patience = patience
						n := aNode(s, lan)
						s.mirror = mirror
						var wg sync.WaitGroup
						for i, size := range []int{100, 5000, WorthSeeking, 500_000, store.PieceSize, 3*store.PieceSize + 1, 10 * store.PieceSize} {
							data := randomBytes(uint64(55+i), size)
							want := w.file(s, fmt.Sprint(i), data)
							limit := 2 * time.Second
							if name == "silent" && (size < WorthSeeking || lan == "others") {
								limit += mirrorSilence // so long its request counts as answered soon
							}
							wg.Go(func() {
								if g := n.mustRead(want, data); g.took > limit {
									t.Errorf("%d bytes took %v", size, g.took)
								}
							})
						}
						wg.Wait()
					})
				})
			}
		}
	}
}

// The mirror's error is told once nobody else is to be hoped for.
func TestNobodyHasIt(t *testing.T) {
	for _, tc := range []struct {
		over, least, most time.Duration
	}{
		{10 * time.Millisecond, 0, time.Second},
		{3 * time.Second, 3 * time.Second, 4 * time.Second},
		{time.Hour, lanPatience, lanPatience + time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 0)
			w := newWorld(s, 0)
			w.over = tc.over
			n := s.withoutLAN()
			s.mirror = http.NotFound
			for _, size := range []int{1000, 200_000} {
				want := w.file(s, fmt.Sprint(size), randomBytes(56, size))
				want.Exact = true
				g := n.read(t.Context(), want)
				if status := (*StatusError)(nil); !errors.As(g.err, &status) || status.Code != 404 {
					t.Errorf("%d bytes: %v", size, g.err)
				}
				if g.first < tc.least || g.first > tc.most {
					t.Errorf("%d bytes: after %v", size, g.first)
				}
			}
		})
	}
}

// Strangers that are busy are asked again, and no more often than they bear.
func TestBusyStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		w := newWorld(s, 1)
		n := s.withoutLAN()
		s.mirror = http.NotFound
		data := randomBytes(57, 6*store.PieceSize)
		want := w.file(s, "f", data)
		p := w.strangers[0]
		p.most = 0
		time.AfterFunc(3*time.Second, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.most = 1
		})
		g := n.mustRead(want, data)
		if g.from != FromWAN || g.took > 10*time.Second || p.many == 0 || p.many > 30 {
			t.Errorf("from %s after %v, %d refusals", g.from, g.took, p.many)
		}
		if len(w.failed) > 0 || n.wan.shunned.has(p.self) {
			t.Errorf("it was blamed: %v", w.failed)
		}
	})
}

// One stranger gets no more than three requests at a time, of all transfers.
func TestFewBodiesAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		w := newWorld(s, 1)
		n := s.withoutLAN()
		w.strangers[0].most = maxBodiesWAN
		var wg sync.WaitGroup
		for i := range 20 {
			data := randomBytes(uint64(i), 100_000*(1+i%3*10))
			want := w.file(s, fmt.Sprint(i), data)
			wg.Go(func() { n.mustRead(want, data) })
		}
		wg.Wait()
		if w.strangers[0].many > 0 {
			t.Errorf("%d requests too many", w.strangers[0].many)
		}
	})
}
