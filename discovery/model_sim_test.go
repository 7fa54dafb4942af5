// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"container/heap"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// The model: nodes with real homes and rings, and askers as small as can be,
// over a network and with clocks that are played from a seed.

const (
	simTick     = 50 * time.Millisecond
	simOutside  = 5_000_000  // bytes per second of a node's uplink
	simLAN      = 50_000_000 // and from node to node
	simTimeout  = 250 * time.Millisecond
	simPatience = 20 * time.Second // an asker that waits longer helps itself
)

type simEvent struct {
	at  time.Time
	seq int
	do  func()
}

type simQueue []simEvent

func (q simQueue) Len() int      { return len(q) }
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q simQueue) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].seq < q[j].seq
	}
	return q[i].at.Before(q[j].at)
}
func (q *simQueue) Push(e any) { *q = append(*q, e.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// simFaults says what goes wrong.
type simFaults struct {
	loss, repeat float64       // of messages
	delay        time.Duration // at most
}

type sim struct {
	t       *testing.T
	rng     *rand.Rand
	faults  simFaults
	queue   simQueue
	seq     int
	nodes   []*simNode
	cut     map[[2]int]bool // which pairs hear nothing of each other
	blobs   []Digest
	sizes   map[Digest]int64
	starts  map[Digest]int // fetches from outside
	now     map[Digest]int // of these under way
	most    int            // of one blob at a time
	longest time.Duration  // that an asker with an uplink waited
	alone   int            // transfers that had to help themselves
}

func newSim(t *testing.T, seed uint64, nodes int) *sim {
	s := &sim{t: t, rng: rand.New(rand.NewPCG(seed, 1)), cut: map[[2]int]bool{}, sizes: map[Digest]int64{}, starts: map[Digest]int{}, now: map[Digest]int{}}
	for i := range nodes {
		s.nodes = append(s.nodes, &simNode{sim: s, index: i, whole: map[Digest]bool{}})
	}
	for _, n := range s.nodes {
		n.start()
	}
	for _, n := range s.nodes {
		n.look()
	}
	return s
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{time.Now().Add(d), s.seq, do})
}

// rnd returns a random time below d.
func (s *sim) rnd(d time.Duration) time.Duration { return time.Duration(s.rng.Int64N(int64(d))) }

// run plays events for some time.
func (s *sim) run(d time.Duration) {
	end := time.Now().Add(d)
	for len(s.queue) > 0 && !s.queue[0].at.After(end) {
		e := heap.Pop(&s.queue).(simEvent)
		time.Sleep(time.Until(e.at))
		e.do()
	}
	time.Sleep(time.Until(end))
}

func (s *sim) blob(i int) Digest {
	var d Digest
	binary.BigEndian.PutUint64(d[:], mix(uint64(i)+s.rng.Uint64()))
	s.sizes[d] = 100_000 + s.rng.Int64N(20_000_000)
	s.blobs = append(s.blobs, d)
	return d
}

func (s *sim) at(addr netip.AddrPort) *simNode {
	return s.nodes[addr.Port()-1000]
}

func (s *sim) reach(a, b *simNode) bool {
	return a == b || a.up && b.up && !s.cut[[2]int{a.index, b.index}] && !s.cut[[2]int{b.index, a.index}]
}

func (s *sim) lag() time.Duration {
	d := 200*time.Microsecond + s.rnd(time.Millisecond)
	if s.faults.delay > 0 && s.rng.IntN(10) == 0 {
		d += s.rnd(s.faults.delay)
	}
	return d
}

// carry brings a message to a node; it may get lost, late or come twice.
func (s *sim) carry(from, to *simNode, deliver func()) {
	for range 2 {
		if s.rng.Float64() >= s.faults.loss {
			id := to.self.ID
			s.after(s.lag(), func() {
				if s.reach(from, to) && to.self.ID == id {
					deliver()
				}
			})
		}
		if s.rng.Float64() >= s.faults.repeat {
			return
		}
	}
}

// call asks a member; answered gets false if nothing came in time.
func (n *simNode) call(m Member, question func(to *simNode), answered func(bool)) {
	to, self := n.at(m.Addr), n.self.ID
	if to == n {
		question(n)
		answered(true)
		return
	}
	over := false
	end := func(ok bool) {
		if over || n.self.ID != self || !n.up {
			return
		}
		over = true
		if !ok {
			n.failed(m.ID)
		}
		answered(ok)
	}
	n.after(simTimeout, func() { end(false) })
	if !to.up && to.refuses {
		n.after(time.Millisecond, func() { end(false) })
		return
	}
	n.carry(n, to, func() {
		question(to)
		n.carry(to, n, func() { end(true) })
	})
}
