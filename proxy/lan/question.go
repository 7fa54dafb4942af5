// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"net/netip"
	"sync/atomic"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
)

// question is what one lookup asks one home.
type question struct {
	q      *fetch.Question
	silent []fetch.Peer
	home   discovery.Member
	forced bool // the home shall act as the first
	reply  chan reply
	mark   atomic.Int32
}

// What may be marked of a question.
const (
	granted = 1 << iota // the home granted a lease
	left                // the asker does not need it
)

// reply answers a question; ok is false where no answer came.
type reply struct {
	found discovery.Found
	ok    bool
}

func (r reply) leased() bool { return r.ok && r.found.State == discovery.Lease }

func newQuestion(q *fetch.Question, silent []fetch.Peer, home discovery.Member, forced bool) *question {
	return &question{q: q, silent: silent, home: home, forced: forced, reply: make(chan reply, 1)}
}

// weigh is a bound for the question's length in a message.
func (q *question) weigh() int { return 256 + 100*len(q.silent) }

// put sends the question on its way. Its reply comes even if none does.
func (n *Node) put(q *question) {
	if n.isSelf(q.home) {
		q.deliver(n, reply{n.lookup(n.self, []discovery.Want{n.wantOf(q)})[0], true})
		return
	}
	if !n.questions.Add(q.home, q) {
		q.deliver(n, reply{})
	}
}

func (q *question) deliver(n *Node, r reply) {
	q.reply <- r
	if r.leased() && q.mark.Or(granted)&left != 0 {
		n.giveBack(q)
	}
}

// leave tells that the asker does not need what the reply grants, be it here or
// on its way.
func (q *question) leave(n *Node) {
	if q.mark.Or(left)&granted != 0 {
		n.giveBack(q)
	}
}

// giveBack returns a lease to the home that granted it, unless the node has one
// from the other.
func (n *Node) giveBack(q *question) {
	if !n.leases.has(q.q.Digest) {
		n.report(q.home, report{Hash: hash(q.q.Digest), Offset: bounded(q.q.Have), GiveUp: true})
	}
}

// wantOf is the question for this node's own home.
func (n *Node) wantOf(q *question) discovery.Want {
	w := discovery.Want{Hash: q.q.Digest, Size: q.q.Size, Have: q.q.Have, Lease: q.q.Lease, FirstSilent: q.forced}
	for _, p := range q.silent {
		w.Silent = n.appendSilent(w.Silent, discovery.Member(p))
	}
	return w
}

// appendSilent appends all addresses under which this node's home may know a
// place from which an asker hears nothing.
func (n *Node) appendSilent(addrs []netip.AddrPort, m discovery.Member) []netip.AddrPort {
	if n.isSelf(m) {
		return append(addrs, n.self.Addr)
	}
	return append(append(addrs, m.Addr), n.met.addrsOf(m.ID)...)
}

// lookup asks this node's own home, for itself or another, and tells the second
// homes what was granted.
func (n *Node) lookup(asker discovery.Member, wants []discovery.Want) []discovery.Found {
	found := n.home.Lookup(asker, wants)
	for _, g := range discovery.Grants(asker, found) {
		homes := n.homes(g.Hash)
		if len(homes) == 2 && n.isSelf(homes[0]) {
			n.copies.Add(homes[1], g) // if there is room; it only helps
		}
	}
	return found
}

// sendQuestions asks a home a batch, in order.
func (n *Node) sendQuestions(home discovery.Member, batch []*question) bool {
	msg := lookupQuestion{hello: n.hello(), Want: make([]want, len(batch))}
	for i, q := range batch {
		msg.Want[i] = q.wire()
	}
	var answer lookupAnswer
	if !n.askMember(home, "lookup", patience, &msg, &answer) {
		return false
	}
	if !answers(&answer, msg.Want) {
		n.cfg.Log.Debug("a node of the LAN answers what it was not asked", "id", home.ID, "addr", home.Addr)
		n.cfg.Members.Failed(home.ID)
		return false
	}
	for i, q := range batch {
		q.deliver(n, reply{n.foundBy(home, &answer.Found[i]), true})
	}
	return true
}

func (n *Node) failQuestions(_ discovery.Member, batch []*question) {
	for _, q := range batch {
		q.deliver(n, reply{})
	}
}

// wire is the question for another node's home.
func (q *question) wire() want {
	w := want{Hash: hash(q.q.Digest), Size: bounded(q.q.Size), Have: bounded(q.q.Have), Lease: q.q.Lease, FirstSilent: q.forced}
	for _, p := range q.silent[:min(len(q.silent), maxPlaces)] {
		w.Silent = append(w.Silent, placeOf(discovery.Member(p)))
	}
	return w
}

// answers tells whether an answer has one entry for each wanted blob, in order.
func answers(a *lookupAnswer, wants []want) bool {
	if len(a.Found) != len(wants) {
		return false
	}
	for i := range wants {
		if a.Found[i].Hash != wants[i].Hash {
			return false
		}
	}
	return true
}

// foundBy reads what a home found.
func (n *Node) foundBy(home discovery.Member, f *found) discovery.Found {
	d := discovery.Found{Hash: Digest(f.Hash), State: states[f.State], Number: -1}
	if f.Number != nil {
		d.Number = *f.Number
	}
	for _, p := range f.From {
		if p.ID == home.ID {
			d.From = append(d.From, home) // it is where it has just answered
		} else {
			d.From = append(d.From, p.heardFrom(home))
		}
	}
	return d
}
