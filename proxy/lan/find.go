// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
)

const (
	// secondGrace is how much longer than the first home, which may be this node
	// itself, the second may take to say that somebody has the blob after all.
	secondGrace = 50 * time.Millisecond

	// rounds is how often a lookup asks, each time for patience at most.
	rounds = 2
)

// Find implements fetch.LAN.
func (n *Node) Find(ctx context.Context, q fetch.Question) (wait func() fetch.Answer) {
	f := &finding{n: n, ctx: ctx, q: q, silent: q.Silent}
	if n.Alone() {
		a := f.alone()
		return func() fetch.Answer { return a }
	}
	homes, forced := n.homesToAsk(q.Digest, "")
	f.ask(homes, forced)
	return f.wait
}

// finding is one lookup.
type finding struct {
	n      *Node
	ctx    context.Context
	q      fetch.Question
	silent []fetch.Peer
	asked  []*question // of this round, the first home first
	mute   string      // the id of a first home that did not answer
}

func (f *finding) alone() fetch.Answer {
	found := f.n.lookup(f.n.self, []discovery.Want{f.n.wantOf(&question{q: &f.q, silent: f.silent})})
	if a, ok := f.answer(found[0], f.n.self); ok {
		return a
	}
	return f.otherwise()
}

// ask puts the question to the homes. The first of them is told to act as the
// first where it stands in for another.
func (f *finding) ask(homes []discovery.Member, forced bool) {
	f.asked = make([]*question, len(homes))
	for i, home := range homes {
		f.asked[i] = newQuestion(&f.q, f.silent, home, forced && i == 0)
		f.n.put(f.asked[i])
	}
}

// wait is what Find returns. Where the first home is silent, or thinks that it is
// not the first, one that answers is told to act as it.
func (f *finding) wait() fetch.Answer {
	for round := 1; ; round++ {
		a, ok := f.hear()
		switch {
		case ok:
			return a
		case f.ctx.Err() != nil:
			return fetch.Answer{State: fetch.Nowhere, Number: -1}
		case round == rounds || !f.q.Lease:
			return f.otherwise()
		}
		homes, _ := f.n.homesToAsk(f.q.Digest, f.mute)
		f.ask(homes[:1], true)
	}
}

// otherwise is the answer where no home had one: a lease that reports to whoever
// is a home, rather than a failure.
func (f *finding) otherwise() fetch.Answer {
	if !f.q.Lease || f.ctx.Err() != nil {
		return fetch.Answer{State: fetch.Nowhere, Number: -1}
	}
	return f.leased(discovery.Found{Number: -1}, discovery.Member{})
}

// hear collects the answers of a round until one of them is good.
func (f *finding) hear() (fetch.Answer, bool) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	waiting := len(f.asked)
	replies := [2]<-chan reply{}
	for i, q := range f.asked {
		replies[i] = q.reply
	}
	var heard [2]reply
	for waiting > 0 {
		var i int
		select {
		case heard[0] = <-replies[0]:
			i = 0
		case heard[1] = <-replies[1]:
			i = 1
		case <-timer.C:
			return f.choose(heard)
		case <-f.ctx.Done():
			return f.choose([2]reply{})
		}
		replies[i] = nil
		waiting--
		if f.isHeld(heard[i]) || i == 0 && f.isComing(heard[i]) {
			break
		}
		if i == 0 && heard[i].ok {
			timer.Reset(secondGrace)
		}
	}
	return f.choose(heard)
}

func (f *finding) isHeld(r reply) bool {
	return r.ok && r.found.State == discovery.Held && len(f.n.usable(r.found.From)) > 0
}

func (f *finding) isComing(r reply) bool {
	return r.ok && r.found.State == discovery.Coming && (len(r.found.From) == 0 || len(f.n.usable(r.found.From)) > 0)
}

// choose takes the best of what the homes said: that somebody has the blob,
// then the first home's word, then the second's. The others' leases go back.
func (f *finding) choose(heard [2]reply) (a fetch.Answer, ok bool) {
	for _, good := range []func(reply) bool{f.isHeld, func(r reply) bool { return f.isComing(r) || r.leased() }} {
		for i, r := range heard {
			if good(r) && !ok {
				a, ok = f.answer(r.found, f.asked[i].home)
			}
		}
	}
	for _, q := range f.asked {
		if a.State != fetch.Leased {
			q.leave(f.n)
		}
	}
	if !heard[0].ok {
		f.mute = f.asked[0].home.ID
	}
	f.avoid(heard)
	f.judge(heard)
	return a, ok
}

// avoid has the homes told next of the places that this node will not go to.
func (f *finding) avoid(heard [2]reply) {
	for _, r := range heard {
		for _, m := range r.found.From {
			if _, ok := f.n.reachable(m); !ok && len(f.silent) < maxPlaces {
				f.silent = append(f.silent[:len(f.silent):len(f.silent)], fetch.Peer{ID: m.ID, Addr: m.Addr})
			}
		}
	}
}

// judge looks for homes that put this node off.
func (f *finding) judge(heard [2]reply) {
	for i, r := range heard {
		if !r.ok || !f.q.Lease || f.n.isSelf(f.asked[i].home) {
			continue
		}
		if home := f.asked[i].home; !f.n.stallers.heard(home.ID, r.found, time.Now()) {
			f.n.cfg.Log.Warn("a node of the LAN says of a file that it is coming, never from where; others are asked in its place",
				slog.String("id", home.ID), slog.Any("addr", home.Addr))
		}
	}
}

// answer makes a home's word the caller's answer, unless it is of no use.
func (f *finding) answer(found discovery.Found, home discovery.Member) (fetch.Answer, bool) {
	a := fetch.Answer{Number: found.Number, From: f.n.usable(found.From)}
	switch found.State {
	case discovery.Held:
		a.State = fetch.Held
		return a, len(a.From) > 0
	case discovery.Coming:
		a.State = fetch.Coming
		return a, len(a.From) > 0 || len(found.From) == 0
	case discovery.Lease:
		if f.q.Lease {
			return f.leased(found, home), true
		}
	}
	return fetch.Answer{}, false
}

func (f *finding) leased(found discovery.Found, home discovery.Member) fetch.Answer {
	return fetch.Answer{State: fetch.Leased, Number: found.Number, Lease: f.n.newLease(f.q.Digest, f.q.Have, home)}
}

// usable are the places that this node goes to.
func (n *Node) usable(from []discovery.Member) []fetch.Peer {
	var peers []fetch.Peer
	for _, m := range from {
		if p, ok := n.reachable(m); ok {
			peers = append(peers, p)
		}
	}
	return peers
}

// reachable returns where a node that others name is: a member where it answered
// our own probe, another where they say, but only on the link and at an
// unprivileged port. Liars are nowhere.
func (n *Node) reachable(m discovery.Member) (fetch.Peer, bool) {
	p := fetch.Peer{ID: m.ID, Addr: m.Addr}
	if member, ok := n.view.Load().byID[m.ID]; ok {
		p.Addr = member.Addr
	} else if !n.mayConnect(m.Addr) {
		return fetch.Peer{}, false
	}
	return p, m.ID != n.self.ID && !n.liars.Has(p)
}

// firstUnprivileged is the lowest port that any user may listen on.
const firstUnprivileged = 1024

func (n *Node) mayConnect(addr netip.AddrPort) bool {
	ip := addr.Addr()
	lost := ip.Is6() && ip.IsLinkLocalUnicast() && ip.Zone() == "" // on no link in particular
	return !lost && addr.Port() >= firstUnprivileged && n.cfg.Members.OnLink(addr.Addr())
}
