// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	// stay is for how long a reader waits that does not leave: longer than anything
	// may take.
	stay = 5 * time.Minute

	// delay is what strangers may cost beside a mirror: they are waited for, for no
	// longer than is drawn, and one that falls silent is noticed only after a while.
	// Where the mirror is faster than firstBudget per second, which is assumed of one
	// that has not been measured, those that are slower than it may take coldStart
	// more.
	delay     = 1500*time.Millisecond + peerSilence + grace
	coldStart = 2 * time.Second

	// fastEnough is the rate of a stranger, in bytes per second, that is to bring
	// everything where no mirror does: four fifths of it count. Beside that it may
	// take coldPeers to find it, to give up the mirror and to leave bad ones.
	fastEnough = 100_000
	coldPeers  = 30 * time.Second
)

// FuzzTransfer runs the case that a seed stands for: some files, a mirror, strangers
// good and bad, and readers that come and go. Whatever it is, nobody reads a wrong
// byte, nobody honest is blamed, who stays gets the whole in time where it can be
// had, and nothing is left of it all.
func FuzzTransfer(f *testing.F) {
	for seed := range uint64(96) {
		f.Add(seed)
	}
	for _, seed := range []uint64{1931, 2656, 3554, 4136} { // took too long once
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		c := draw(seed)
		t.Log(c)
		synctest.Test(t, func(t *testing.T) { newTrial(t, c).run() })
	})
}

// A trial is a drawn case that is being run.
type trial struct {
	*drawn
	t     *testing.T
	world *world
	node  *node
	wants []Want // of the files
}

func newTrial(t *testing.T, c *drawn) *trial {
	s := newSite(t, 0)
	s.uplink, s.mirror = newPipe(c.uplink), c.serve()
	w := newWorld(s, len(c.peers))
	w.rtt, w.patience, w.finding, w.over = c.rtt, c.patience, c.finding, c.over
	for i, p := range w.strangers {
		from := c.peers[i]
		p.link, p.most, p.after, p.spoil = from.link, from.most, from.after, from.spoil
	}
	x := &trial{drawn: c, t: t, world: w, node: s.withoutLAN()}
	for _, f := range c.files {
		x.wants = append(x.wants, w.file(s, f.name, f.data))
	}
	return x
}

// serve is the mirror.
func (c *drawn) serve() http.HandlerFunc {
	mux := http.NewServeMux()
	for _, f := range c.files {
		mux.HandleFunc("/"+f.name, c.mirror.serves(f.data, max(1, len(f.data)*c.share/100)))
	}
	return mux.ServeHTTP
}

func (x *trial) run() {
	var readers sync.WaitGroup
	for i, f := range x.files {
		for _, r := range f.readers {
			readers.Go(func() { x.read(i, r) })
		}
	}
	readers.Wait()
	x.rests()
	for i := range x.files { // what was left in the middle is taken up again
		x.read(i, drawnReader{})
	}
	x.rests()
	x.checkBlame()
	x.checkNothingIsLeft()
}

// rests waits until what nobody reads any more has ended.
func (x *trial) rests() {
	time.Sleep(linger + time.Second)
	x.node.ends()
}

// read has one reader come, read and go.
func (x *trial) read(file int, r drawnReader) {
	time.Sleep(r.comes)
	ctx, cancel := context.WithTimeout(x.t.Context(), r.stays())
	defer cancel()
	want := x.wants[file]
	want.Start = r.from
	g := x.node.readFrom(ctx, want, r.from)
	due := x.due(r)
	if r.leaves > 0 && ctx.Err() != nil {
		due.whole = false
	}
	x.check(file, x.files[file].data[r.from:], g, due)
}

// check looks at what a reader of a file got, of the bytes that it wanted.
func (x *trial) check(file int, data []byte, g got, due due) {
	switch {
	case !bytes.HasPrefix(data, g.data):
		x.t.Errorf("file %d: wrong bytes", file)
	case g.err == nil && len(g.data) < len(data):
		x.t.Errorf("file %d: an end without an error after %d bytes of %d", file, len(g.data), len(data))
	case !due.whole:
	case g.err != nil:
		x.t.Errorf("file %d: %d bytes of %d after %v, %v", file, len(g.data), len(data), g.took, g.err)
	case g.took > due.within:
		x.t.Errorf("file %d: it took %v, from %s; due within %v", file, g.took, g.from, due.within)
	}
}

// A due is what a reader must get.
type due struct {
	whole  bool
	within time.Duration
}

// due is for a reader that stays. One that does not want the beginning may ask the
// mirror itself, whatever that is like.
func (c *drawn) due(r drawnReader) due {
	switch {
	case c.mirror.good:
		return due{true, timeOf(c.size(), c.uplink)*12/10 + c.delay()}
	case c.peersSuffice() && r.from == 0:
		return due{true, timeOf(c.size(), fastEnough*4/5) + coldPeers}
	}
	return due{}
}

func (c *drawn) delay() time.Duration {
	if c.uplink > 2*firstBudget {
		return delay + coldStart
	}
	return delay
}

func timeOf(size, rate int64) time.Duration {
	return time.Duration(size) * time.Second / time.Duration(rate)
}

func (x *trial) checkBlame() {
	for i, p := range x.world.strangers {
		if what := x.world.liars[p.self]; what != "" && !x.peers[i].liar {
			x.t.Errorf("peer %d was set aside: %s", i, what)
		}
	}
}

func (x *trial) checkNothingIsLeft() {
	f := x.node.Fetcher
	for what, n := range map[string]int{
		"transfers":            len(f.transfers),
		"requests at the gate": len(f.gate.lines),
		"slots for gaps":       len(f.filling),
		"slots for proofs":     len(f.completing),
		"slots of peers":       int(f.wan.bodies.inUse.Load()),
		"peers with slots":     len(f.wan.bodies.peers),
		"bodies asked for":     f.wan.speed.asked,
		"bodies that come":     f.wan.speed.open,
	} {
		if n != 0 {
			x.t.Errorf("%d %s are left", n, what)
		}
	}
	for i, p := range x.world.strangers {
		if p.open != 0 {
			x.t.Errorf("peer %d is still giving %d bodies", i, p.open)
		}
	}
}
