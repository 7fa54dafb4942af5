// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/store"
)

// A bad stranger costs no wrong byte and little time, and a liar is found out; the
// honest ones beside it are not.
func TestBadStrangers(t *testing.T) {
	for _, size := range []int{100_000, 6*store.PieceSize + 5} {
		for _, bad := range badHolders {
			if size < 3*store.PieceSize && bad.whole {
				continue
			}
			for _, others := range []int{0, 1, 3} {
				for _, mirror := range []bool{true, false} {
					if others == 0 && !mirror {
						continue
					}
					t.Run(fmt.Sprintf("%s/%d/%d/%v", bad.name, size, others, mirror), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							s := newSite(t, 0)
							w := newWorld(s, 1+others)
							n := s.withoutLAN()
							data := randomBytes(60, size)
							want := w.file(s, "f", data)
							if !mirror {
								s.mirror = http.NotFound
							}
							liar := w.strangers[0]
							liar.spoil = bad.spoil
							g := n.mustRead(want, data)
							n.ends()
							if limit := 2*time.Second + peerSilence; g.took > limit {
								t.Errorf("it took %v", g.took)
							}
							for p, what := range w.liars {
								if p != liar.self || !bad.liar {
									t.Errorf("%s was set aside: %s", p.ID, what)
								}
							}
							always := bad.name == "wrong bytes in each" || bad.name == "wrong states"
							if size > store.PieceSize && always && w.liars[liar.self] == "" {
								t.Error("the liar was not set aside")
							}
							if again := w.twice(); bad.liar && again > 2 {
								t.Errorf("%d pieces were fetched twice", again)
							}
						})
					})
				}
			}
		}
	}
}

// Of four strangers one corrupts, one stalls and one lies in its states, from the
// start or later: the fourth gives what is right, and nobody else is blamed.
func TestThreeOfFourAreBad(t *testing.T) {
	for name, honest := range map[string]int64{"from the start": 0, "later": 5} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 0)
				w := newWorld(s, 4)
				n := s.withoutLAN()
				s.mirror = http.NotFound
				data := randomBytes(61, 31<<20)
				want := w.file(s, "f", data)
				for i, bad := range []string{"wrong bytes in each", "silent in the body", "wrong states"} {
					w.strangers[i].link = newPipe(2_500_000)
					w.strangers[i].spoil = after(honest, spoilCalled(bad))
				}
				w.strangers[3].link = newPipe(2_500_000)
				g := n.mustRead(want, data)
				n.ends()
				if len(w.liars) != 2 || w.liars[w.strangers[0].self] == "" || w.liars[w.strangers[2].self] == "" {
					t.Errorf("set aside are %v", w.liars)
				}
				most := honest + 2
				if honest > 0 {
					most = honest + maxUnproven
				}
				for i, p := range w.strangers[:3] {
					if asked := p.asked(); asked > most {
						t.Errorf("%d was asked for %d pieces, of which %d were right", i, asked, honest)
					}
				}
				t.Logf("%v, %d pieces twice", g.took, w.twice())
			})
		})
	}
}

func spoilCalled(name string) spoil {
	for _, bad := range badHolders {
		if bad.name == name {
			return bad.spoil
		}
	}
	panic(name)
}

// after spoils all answers but the first ones.
func after(honest int64, bad spoil) spoil {
	var answers atomic.Int64
	return func(ctx context.Context, d Digest, from, to int64, body *PeerBody) (*PeerBody, error) {
		if answers.Add(1) <= honest {
			return body, nil
		}
		return bad(ctx, d, from, to, body)
	}
}

// Strangers that are slower than the mirror cost no more than the time in which
// that shows.
func TestSlowStrangers(t *testing.T) {
	for _, rate := range []int64{1, 1000, 100_000} {
		for _, size := range []int{200_000, 20 * store.PieceSize} {
			t.Run(fmt.Sprint(rate, size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, 0)
					w := newWorld(s, 1)
					n := s.withoutLAN()
					s.uplink = newPipe(2_000_000)
					w.strangers[0].link = newPipe(rate)
					data := randomBytes(62, size)
					want := w.file(s, "f", data)
					g := n.mustRead(want, data)
					alone := time.Duration(size) * time.Second / 2_000_000
					if limit := alone*105/100 + w.patience + grace + pieceTick; g.took > limit {
						t.Errorf("it took %v, with the mirror alone %v", g.took, alone)
					}
					n.ends()
					if told := w.told(want); told != 0 {
						t.Errorf("they are said to have been useful: %d", told)
					}
					// What is known by then is not waited for again.
					if size > 10*store.PieceSize && rate > 1000 {
						want = w.file(s, "g", append(bytes.Clone(data), 'x'))
						began := time.Now()
						n.mustRead(want, append(bytes.Clone(data), 'x'))
						if requests := s.requests(want); len(requests) != 1 || requests[0].began.Sub(began) > w.finding {
							t.Errorf("the next one's requests: %+v", requests)
						}
					}
				})
			})
		}
	}
}

// A reader gets no byte before strangers have brought the whole; it waits for a
// file that they bring soon, and the mirror feeds another one's front.
func TestReadersOfLargeFiles(t *testing.T) {
	for _, tc := range []struct {
		pieces int
		from   string
	}{{16, FromWAN}, {24, FromWAN}, {64, FromMirror}} {
		t.Run(fmt.Sprint(tc.pieces), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 0)
				w := newWorld(s, 2)
				n := s.withoutLAN()
				s.uplink = newPipe(2_000_000)
				for _, p := range w.strangers {
					p.link = newPipe(1_000_000)
				}
				data := randomBytes(63, tc.pieces*store.PieceSize)
				want := w.file(s, "f", data)
				g := n.mustRead(want, data)
				if g.from != tc.from || g.first > wholeWithin {
					t.Errorf("from %s after %v", g.from, g.first)
				}
				if alone := time.Duration(len(data)) * time.Second / 2_000_000; g.took > alone+alone/4 {
					t.Errorf("it took %v, with the mirror alone %v", g.took, alone)
				}
			})
		})
	}
}

// What a mirror has sent before is not fetched again, nor is it a stranger's.
func TestStrangersAndAKeptBeginning(t *testing.T) {
	for _, size := range []int{900_000, 5*store.PieceSize + 5} {
		for _, wrong := range []bool{false, true} {
			t.Run(fmt.Sprint(size, wrong), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, 0)
					w := newWorld(s, 2)
					w.patience = 0
					n := s.withoutLAN()
					data := randomBytes(64, size)
					want := w.file(s, "f", data)
					first := bytes.Clone(data[:500_000])
					if wrong {
						first[7] ^= 1
					}
					for _, p := range w.strangers {
						p.after = time.Minute
					}
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(time.Second/4, cancel)
					s.mirror = func(rw http.ResponseWriter, r *http.Request) {
						rw.Header().Set("Content-Length", fmt.Sprint(size))
						rw.Write(first)
						<-r.Context().Done()
					}
					if g := n.read(ctx, want); g.err == nil {
						t.Fatal("it was read to its end")
					}
					n.ends()
					for _, p := range w.strangers {
						p.after = 0
					}
					s.mirror = http.NotFound
					came := n.BytesFromWAN()
					g := n.mustRead(want, data)
					if !wrong && (g.from != FromMirror || n.BytesFromWAN()-came != int64(size-len(first))) {
						t.Errorf("from %s, %d bytes came", g.from, n.BytesFromWAN()-came)
					}
					if wrong && g.from != FromWAN {
						t.Errorf("from %s, with a wrong beginning", g.from)
					}
					if len(w.liars) > 0 {
						t.Errorf("set aside: %v", w.liars)
					}
				})
			})
		}
	}
}

// On a local network one node asks the internet for all, and keeps the lease while
// it does; others read from it.
func TestLeaseAndStrangers(t *testing.T) {
	for _, tc := range []struct {
		name string
		size int
		rate int64 // of each of two strangers
		from string
	}{
		{"small", 300_000, 1_000_000, FromWAN},
		{"in time", 6 * store.PieceSize, 1_000_000, FromWAN},
		{"long", 24 * store.PieceSize, 1_000_000, FromMirror},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 0)
				w := newWorld(s, 2)
				for range 4 {
					s.add(store.Config{})
				}
				s.uplink = newPipe(2_000_000)
				for _, p := range w.strangers {
					p.link = newPipe(tc.rate)
				}
				data := randomBytes(65, tc.size)
				want := w.file(s, "f", data)
				s.all(want, data, nil)
				var came, mirror int64
				for _, n := range s.list() {
					came += n.BytesFromWAN()
					mirror += n.BytesFromMirror()
				}
				if came+mirror > int64(tc.size)*11/10 || len(w.sought) != 1 {
					t.Errorf("%d bytes of %d came over the uplink, %d times it was sought", came+mirror, tc.size, len(w.sought))
				}
				if most := map[string]int{FromWAN: 0, FromMirror: 1}[tc.from]; len(s.requests(want)) != most {
					t.Errorf("the mirror was asked %d times", len(s.requests(want)))
				}
			})
		})
	}
}

// A transfer that nobody wants any more ends, with all that it has started.
func TestStrangersAreLeft(t *testing.T) {
	for name, patience := range map[string]time.Duration{"beside a mirror": 0, "alone": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 0)
				w := newWorld(s, 3)
				w.patience, w.over = patience, time.Hour
				n := s.withoutLAN()
				s.uplink = newPipe(100_000)
				for _, p := range w.strangers {
					p.link = newPipe(3_000_000)
				}
				data := randomBytes(66, 31<<20)
				want := w.file(s, "f", data)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if g := n.read(ctx, want); g.err == nil {
					t.Error("it was read to its end")
				}
				time.Sleep(linger + time.Second)
				synctest.Wait()
				if len(n.Transfers()) > 0 || n.wan.bodies.inUse.Load() > 0 || len(n.wan.bodies.peers) > 0 || n.wan.speed.open > 0 {
					t.Errorf("it goes on: %+v", n.Transfers())
				}
				for _, p := range w.strangers {
					if p.open > 0 {
						t.Errorf("%s is still giving", p.self.ID)
					}
				}
			})
		})
	}
}

// A mirror that is wrong about the beginning is not joined to the right end.
func TestWrongMirrorAndStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		w := newWorld(s, 1)
		w.patience = 0
		n := s.withoutLAN()
		s.uplink, w.strangers[0].link = newPipe(1_000_000), newPipe(1_000_000)
		data := randomBytes(67, 8*store.PieceSize)
		want := w.file(s, "f", data)
		bad := bytes.Clone(data)
		bad[3] ^= 1
		s.mirror = serving(bad)
		g := n.read(t.Context(), want)
		if g.err == nil || len(g.data) >= len(data)-heldBack || !n.WholeOnly(want.Digest) || len(w.liars) > 0 {
			t.Errorf("%d bytes, %v, set aside %v", len(g.data), g.err, w.liars)
		}
		n.ends()
		n.mustRead(want, data)
	})
}

// However many strangers there are, only some are asked.
func TestManyStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		w := newWorld(s, 100)
		n := s.withoutLAN()
		data := randomBytes(69, 200*store.PieceSize)
		want := w.file(s, "f", data)
		for _, p := range w.strangers {
			p.link = newPipe(1_000_000)
		}
		n.mustRead(want, data)
		asked := 0
		for _, p := range w.strangers {
			if p.bytes > 0 {
				asked++
			}
		}
		if asked < maxAbroad/2 || asked > maxAbroad {
			t.Errorf("%d strangers were asked", asked)
		}
	})
}
