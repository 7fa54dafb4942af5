// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
)

const (
	// maxCandidates bounds the nodes that a traversal keeps in mind.
	maxCandidates = 256
	// maxNodesPerAnswer bounds the nodes taken from an answer; BEP 5 says 8.
	maxNodesPerAnswer = 16
	// maxAskedPerNetwork bounds the nodes of one network that a traversal asks in
	// the public DHT: whoever makes up nodes near the target has to own networks.
	maxAskedPerNetwork = 4
	// lateFactor is how many times longer than the mean a hurried question takes
	// before it keeps no place, and lateAtLeast how long in any case.
	lateFactor  = 2
	lateAtLeast = 20 * time.Millisecond
	// maxToken bounds the token that we send back. Libraries in use have at most 20
	// bytes.
	maxToken = 64
)

// traversal walks towards a key: it asks the nearest nodes it knows for nearer
// ones, until the nearest bucketSize that answer know none.
type traversal struct {
	family *family
	target Key
	method string // "find_node" or "get_peers"
	alpha  int    // questions under way at once
	tries  int    // how often each is sent
	limit  int    // questions in all
	// hurry has a question that takes longer than others do keep no place of alpha:
	// where many nodes are dead they would soon hold all.
	hurry bool
	// pause is waited for before each question. nil: no wait.
	pause func(context.Context) error
	// each gets the answers as they come; false ends the traversal. nil: none
	// wanted.
	each func(from netip.AddrPort, r *krpc.Return) bool

	candidates []candidate // the nearest first
	known      map[netip.AddrPort]bool
	networks   map[netip.AddrPort]int
	answered   []responder // the nearest first
	asked      int
	pending    map[int]time.Time // when the questions under way were asked
	answers    int
	waited     time.Duration // for all answers
}

// candidate is a node to ask. One without an id comes from the configuration.
type candidate struct {
	contact
	nameless bool
}

// responder is a node that answered.
type responder struct {
	contact
	token string
}

type outcome struct {
	candidate
	number int // of the question
	r      *krpc.Return
	err    error
}

// run asks until it is done, ctx ends or each has had enough, and returns up to
// bucketSize nodes that answered, the nearest first. When it returns, nothing of it
// is left running.
func (t *traversal) run(ctx context.Context, seeds []contact) []responder {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.known, t.networks = make(map[netip.AddrPort]bool), make(map[netip.AddrPort]int)
	t.pending = make(map[int]time.Time)
	t.addSeeds(seeds)
	outcomes := make(chan outcome, t.alpha)
	for {
		t.fill(ctx, outcomes)
		if len(t.pending) == 0 {
			return t.answered[:min(bucketSize, len(t.answered))]
		}
		if o, ok := t.wait(outcomes); ok && !t.take(o) {
			cancel()
		}
	}
}

// fill asks for as long as there are places.
func (t *traversal) fill(ctx context.Context, outcomes chan<- outcome) {
	for ctx.Err() == nil {
		if held, _ := t.places(); held >= t.alpha {
			return
		}
		c, ok := t.next()
		if !ok {
			return
		}
		number := t.asked
		t.pending[number] = time.Now()
		go func() {
			o := t.ask(ctx, c)
			o.number = number
			outcomes <- o
		}()
	}
}

// places counts the questions that hold one, and says when the next of them is
// late.
func (t *traversal) places() (held int, next time.Duration) {
	late := t.late()
	next = late
	for _, began := range t.pending {
		if left := late - time.Since(began); !t.hurry || left > 0 {
			held++
			next = min(next, left)
		}
	}
	return held, next
}

// late is how long a question may take and hold its place.
func (t *traversal) late() time.Duration {
	if t.answers == 0 {
		return resendDelay
	}
	return min(max(lateFactor*t.waited/time.Duration(t.answers), lateAtLeast), resendDelay)
}

// wait returns the next outcome; ok is false if a place has become free before.
func (t *traversal) wait(outcomes <-chan outcome) (o outcome, ok bool) {
	var late <-chan time.Time
	if held, next := t.places(); t.hurry && held > 0 {
		timer := time.NewTimer(next)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case o = <-outcomes:
		if o.err == nil {
			t.answers++
			t.waited += time.Since(t.pending[o.number])
		}
		delete(t.pending, o.number)
		return o, true
	case <-late:
		return outcome{}, false
	}
}

// addSeeds leaves out those that have been silent, if enough others are there.
func (t *traversal) addSeeds(seeds []contact) {
	var silent []contact
	for _, c := range seeds {
		if t.family.contacts.silent(c.addr) {
			silent = append(silent, c)
			continue
		}
		t.add(c)
	}
	if len(t.candidates) < bucketSize {
		for _, c := range silent {
			t.add(c)
		}
	}
}

func (t *traversal) add(c contact) {
	if t.known[c.addr] || !t.family.socket.talksTo(c.addr) || c.id == t.family.ownID() {
		return
	}
	at, _ := slices.BinarySearchFunc(t.candidates, c, func(a candidate, b contact) int {
		return compareDistance(t.target, a.id, b.id)
	})
	if at >= maxCandidates {
		return
	}
	t.known[c.addr] = true
	t.candidates = slices.Insert(t.candidates, at, candidate{contact: c})
	if len(t.candidates) > maxCandidates {
		last := t.candidates[maxCandidates]
		delete(t.known, last.addr)
		t.candidates = t.candidates[:maxCandidates]
	}
}

// addNameless puts a configured node before all others: nothing is known of it.
func (t *traversal) addNameless(addrs []netip.AddrPort) {
	for _, addr := range addrs {
		t.candidates = append(t.candidates, candidate{contact{t.target, addr}, true})
	}
}

func (t *traversal) next() (candidate, bool) {
	for len(t.candidates) > 0 && t.asked < t.limit {
		c := t.candidates[0]
		if len(t.answered) >= bucketSize &&
			compareDistance(t.target, c.id, t.answered[bucketSize-1].id) > 0 {
			return candidate{}, false
		}
		t.candidates = t.candidates[1:]
		if t.mayAsk(c) {
			t.asked++
			return c, true
		}
	}
	return candidate{}, false
}

func (t *traversal) mayAsk(c candidate) bool {
	if t.family.private {
		return true
	}
	by := owner(c.addr, false)
	t.networks[by]++
	return t.networks[by] <= maxAskedPerNetwork
}

func (t *traversal) ask(ctx context.Context, c candidate) outcome {
	if t.pause != nil {
		if err := t.pause(ctx); err != nil {
			return outcome{candidate: c, err: err}
		}
	}
	args := krpc.MsgArgs{Target: t.target}
	if t.method == "get_peers" {
		args = krpc.MsgArgs{InfoHash: t.target}
	}
	r, err := t.family.ask(ctx, c.addr, t.method, args, t.tries)
	return outcome{candidate: c, r: r, err: err}
}

// take uses an answer. One that comes with another id than the node was said to
// have is worth nothing.
func (t *traversal) take(o outcome) bool {
	if o.err != nil || !o.nameless && o.r.ID != o.id || o.r.ID == t.family.ownID() {
		return true
	}
	r := responder{contact: contact{o.r.ID, o.addr}}
	if o.r.Token != nil && len(*o.r.Token) <= maxToken {
		r.token = *o.r.Token
	}
	at, _ := slices.BinarySearchFunc(t.answered, r, func(a, b responder) int {
		return compareDistance(t.target, a.id, b.id)
	})
	t.answered = slices.Insert(t.answered, at, r)
	for _, c := range t.family.nodesIn(o.r) {
		if !t.family.contacts.silent(c.addr) {
			t.add(c)
		}
	}
	return t.each == nil || t.each(o.addr, o.r)
}

// nodesIn are the nodes of this family that an answer names.
func (f *family) nodesIn(r *krpc.Return) []contact {
	nodes := []krpc.NodeInfo(r.Nodes)
	if f.want == krpc.WantNodes6 {
		nodes = r.Nodes6
	}
	var list []contact
	for _, n := range nodes[:min(maxNodesPerAnswer, len(nodes))] {
		if addr, ok := wireAddrPort(n.Addr.IP, n.Addr.Port); ok {
			list = append(list, contact{n.ID, addr})
		}
	}
	return list
}
