// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// Four strangers with slow uplinks are nearly four times as fast as one, whether
// the mirror is slow or dead.
func TestStrangersTogether(t *testing.T) {
	const rate = 2_500_000
	data := randomBytes(68, 31<<20)
	took := func(t *testing.T, strangers int, mirror int64) (d time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 0)
			w := newWorld(s, strangers)
			n := s.withoutLAN()
			s.uplink = newPipe(mirror)
			if mirror == 0 {
				s.mirror = http.NotFound
			}
			for _, p := range w.strangers {
				p.link = newPipe(rate)
			}
			want := w.file(s, "f", data)
			d = n.mustRead(want, data).took
		})
		return d
	}
	for _, mirror := range []int64{0, 300_000} {
		one, four := took(t, 1, mirror), took(t, 4, mirror)
		t.Logf("mirror %d B/s: one %v, four %v, %.2f times", mirror, one, four, float64(one)/float64(four))
		if float64(one)/float64(four) < 3.6 {
			t.Errorf("four are only %.2f times as fast as one", float64(one)/float64(four))
		}
	}
}

// aptsFiles are sizes as apt has them.
func aptsFiles() (sizes []int) {
	for i := range 60 {
		sizes = append(sizes, 70_000+i*i*500)
	}
	return append(sizes, 9<<20, 25<<20, 5<<20)
}

// readAptly reads files as apt does, which asks for ten at a time and reads them in
// order, and returns how long that took.
func readAptly(n *node, wants []Want, datas [][]byte) time.Duration {
	began := time.Now()
	var holds []*Hold
	for i := range wants {
		for ahead := len(holds); ahead < min(i+10, len(wants)); ahead++ {
			holds = append(holds, n.Prefetch(wants[ahead]))
		}
		c, err := n.Open(n.site.t.Context(), wants[i])
		if err != nil {
			n.site.t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, datas[i]) {
			n.site.t.Errorf("file %d: %d bytes, %v", i, len(got), err)
		}
		c.Close()
		holds[i].Release()
	}
	return time.Since(began)
}

// Where strangers have all, as fast as the mirror, nearly all comes from them; where
// nobody has anything, it takes hardly longer than without them.
func TestAptsFiles(t *testing.T) {
	var datas [][]byte
	for i, size := range aptsFiles() {
		datas = append(datas, randomBytes(uint64(i), size))
	}
	run := func(t *testing.T, set func(s *site) *world, patience func(w *world)) (took time.Duration, share float64) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 0)
			w := set(s)
			n := s.withoutLAN()
			if w == nil {
				n.Fetcher.cfg.WAN = nil
				w = newWorld(s, 0)
			}
			s.uplink = newPipe(6_000_000)
			s.mirror = func(rw http.ResponseWriter, r *http.Request) {
				time.Sleep(25 * time.Millisecond)
				s.mu.Lock()
				data := s.files[r.URL.Path]
				s.mu.Unlock()
				serving(data)(rw, r)
			}
			var wants []Want
			for i, data := range datas {
				wants = append(wants, w.file(s, fmt.Sprint(i), data))
			}
			if patience != nil {
				patience(w)
			}
			took = readAptly(n, wants, datas)
			share = float64(n.BytesFromWAN()) / float64(n.BytesFromWAN()+n.BytesFromMirror())
		})
		return took, share
	}
	without, _ := run(t, func(*site) *world { return nil }, nil)
	for strangers, least := range map[int]float64{1: 0.95, 2: 0.95, 4: 0.95} {
		took, share := run(t, func(s *site) *world {
			w := newWorld(s, strangers)
			for _, p := range w.strangers {
				p.link = newPipe(6_000_000 / int64(strangers))
			}
			return w
		}, nil)
		t.Logf("%d strangers: %.1f %% in %v, without them %v", strangers, 100*share, took, without)
		if share < least || took > without*125/100 {
			t.Errorf("%d strangers: only %.1f %% came from them, in %v (%v)", strangers, 100*share, took, without)
		}
	}
	took, _ := run(t, func(s *site) *world { w := newWorld(s, 0); w.over = 3 * time.Second; return w }, (*world).learning)
	t.Logf("nobody there: %v, without looking %v: %.3f", took, without, took.Seconds()/without.Seconds())
	if took > without*105/100 {
		t.Errorf("nobody there: %v, without looking %v", took, without)
	}
	took, _ = run(t, func(s *site) *world { w := newWorld(s, 1); w.strangers[0].link = newPipe(1000); return w }, (*world).learning)
	t.Logf("a very slow one: %v, without it %v: %.3f", took, without, took.Seconds()/without.Seconds())
	if took > without*105/100+grace+100*time.Millisecond {
		t.Errorf("a very slow one: %v, without it %v", took, without)
	}
}

// learning makes the world's patience follow what strangers bring.
func (w *world) learning() {
	w.learn = func(n int64) {
		switch {
		case n > 0:
			w.patience = min(max(2*w.patience, 100*time.Millisecond), 1500*time.Millisecond)
		case w.patience/2 < 20*time.Millisecond:
			w.patience = 0
		default:
			w.patience /= 2
		}
	}
}
