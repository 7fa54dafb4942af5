// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/store"
)

// amongStrangers runs a test of a node that is alone in its network and knows so many
// strangers. All of them, and the mirror, may be changed before anything is asked.
func amongStrangers(t *testing.T, strangers int, test func(t *testing.T, s *site, w *world, n *node)) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		w := newWorld(s, strangers)
		test(t, s, w, s.withoutLAN())
	})
}

// mustReadWithin reads a file, which must take no longer than that.
func (n *node) mustReadWithin(limit time.Duration, want Want, data []byte) {
	n.site.t.Helper()
	g := n.mustRead(want, data)
	n.ends()
	if g.took > limit {
		n.site.t.Errorf("%d bytes came after %v, from %q", len(data), g.took, g.from)
	}
}

// Two strangers become slower while they have the last piece: they do not take it
// from each other for ever.
func TestStrangersBecomeSlower(t *testing.T) {
	for _, mirror := range []bool{true, false} {
		t.Run(fmt.Sprint("mirror ", mirror), func(t *testing.T) {
			amongStrangers(t, 2, func(t *testing.T, s *site, w *world, n *node) {
				if !mirror {
					s.mirror = http.NotFound
				}
				s.uplink = newPipe(2_000_000)
				for _, p := range w.strangers {
					p.link = newPipe(2_100_000)
					time.AfterFunc(1250*time.Millisecond, func() { p.link.set(300_000) })
				}
				data := randomBytes(70, 5*store.PieceSize)
				n.mustReadWithin(10*time.Second, w.file(s, "f", data), data)
				if came := n.BytesFromWAN(); came > int64(len(data))*3/2 {
					t.Errorf("%d bytes came of a file of %d", came, len(data))
				}
			})
		})
	}
}

// A mirror falls silent in the middle. The strangers are slower than it was, but
// have the file.
func TestFastMirrorFallsSilent(t *testing.T) {
	amongStrangers(t, 2, func(t *testing.T, s *site, w *world, n *node) {
		s.uplink = newPipe(10_000_000)
		for _, p := range w.strangers {
			p.link = newPipe(500_000)
		}
		w.over = time.Minute
		first := randomBytes(71, 40*store.PieceSize) // so that both rates are known
		n.mustRead(w.file(s, "first", first), first)
		n.ends()

		data := randomBytes(72, 8*store.PieceSize)
		want := w.file(s, "f", data)
		s.mirror = func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Length", strconv.Itoa(len(data)))
			rw.Write(data[:4*store.PieceSize+100_000])
			<-r.Context().Done()
		}
		n.mustReadWithin(15*time.Second, want, data)
	})
}

// The mirror was wrong once, and the only stranger is always busy: it is not
// waited for.
func TestBusyStrangerAndSuspectMirror(t *testing.T) {
	amongStrangers(t, 1, func(t *testing.T, s *site, w *world, n *node) {
		data := randomBytes(73, 3*store.PieceSize)
		want := w.file(s, "f", data)
		n.distrust(want.Digest, []string{want.URL})
		w.strangers[0].most = 0
		n.mustReadWithin(6*time.Second, want, data)
	})
}

// The mirror does not have the file, strangers of 20 kB/s are being asked for all
// that is missing, and a fast one is idle: it is given some of it.
func TestFastStrangerIsNotIdle(t *testing.T) {
	const slow, fast = 20_000, 2_000_000
	tests := []struct {
		name  string
		size  int
		links []int64
		after []time.Duration // when they are found; none: at once
	}{
		{name: "one piece", size: 900_000, links: []int64{slow, slow, fast}},
		{name: "it has brought the short last piece", size: store.PieceSize * 3 / 2, links: []int64{fast, slow}, after: []time.Duration{0, time.Millisecond}},
		{name: "it is found late", size: 2*store.PieceSize - 1, links: []int64{slow, slow, fast}, after: []time.Duration{0, 0, 2 * time.Second}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			amongStrangers(t, len(test.links), func(t *testing.T, s *site, w *world, n *node) {
				s.mirror = http.NotFound
				w.over = time.Minute
				for i, link := range test.links {
					w.strangers[i].link = newPipe(link)
				}
				for i, after := range test.after {
					w.strangers[i].after = after
				}
				data := randomBytes(74, test.size)
				n.mustReadWithin(10*time.Second, w.file(s, "f", data), data)
			})
		})
	}
}

// All but the last byte has come from a stranger that sends no more, and a slow one
// sends the same again: neither keeps the mirror from being asked.
func TestAllButTheLastByte(t *testing.T) {
	for _, size := range []int{store.PieceSize - 1, 6 * store.PieceSize} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			amongStrangers(t, 2, func(t *testing.T, s *site, w *world, n *node) {
				s.uplink = newPipe(10_000_000)
				quick, slow := w.strangers[0], w.strangers[1]
				quick.link, quick.spoil = newPipe(1_000_000), lastByteMissing
				slow.link, slow.after = newPipe(20_000), 100*time.Millisecond
				data := randomBytes(77, size)
				n.mustReadWithin(4*time.Second+time.Duration(size/2)*time.Microsecond, w.file(s, "f", data), data)
			})
		})
	}
}

// lastByteMissing is for a stranger that falls silent before the last byte of
// whatever it is asked for.
func lastByteMissing(ctx context.Context, _ Digest, from, to int64, body *PeerBody) (*PeerBody, error) {
	body.ReadCloser = &silentAfter{body.ReadCloser, ctx, to - from - 1}
	return body, nil
}

type silentAfter struct {
	io.ReadCloser
	ctx  context.Context
	left int64
}

func (s *silentAfter) Read(p []byte) (int, error) {
	if s.left == 0 {
		<-s.ctx.Done()
		return 0, context.Cause(s.ctx)
	}
	n, err := s.ReadCloser.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	return n, err
}
