// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"apt-dht/discovery"
	"apt-dht/proxy/peer"
)

// reportEvery is how often lease holders report to both homes.
const reportEvery = time.Second

// leases are those that this node has.
type leases struct {
	wake chan struct{} // holds a token when there is a new one

	mu     sync.Mutex // guards following
	active map[Digest]*lease
}

func (l *leases) init() {
	l.wake = make(chan struct{}, 1)
	l.active = make(map[Digest]*lease)
}

func (l *leases) has(d Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active[d] != nil
}

func (l *leases) add(one *lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active[one.digest] = one
	poke(l.wake)
}

// remove reports whether the lease was still active.
func (l *leases) remove(one *lease) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active[one.digest] != one {
		return false
	}
	delete(l.active, one.digest)
	return true
}

func (l *leases) all() []*lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*lease, 0, len(l.active))
	for _, one := range l.active {
		all = append(all, one)
	}
	return all
}

// lease implements fetch.Lease.
type lease struct {
	n      *Node
	digest Digest
	// grantor is the home that granted it; none: no home answered.
	grantor discovery.Member
	have    atomic.Int64
	lost    chan struct{} // closed when it is taken out of leases.active for that
}

// newLease is a lease from here on. Where it is not from the blob's proper first
// home, the homes are told of it at once.
func (n *Node) newLease(d Digest, have int64, grantor discovery.Member) *lease {
	l := &lease{n: n, digest: d, grantor: grantor, lost: make(chan struct{})}
	l.have.Store(have)
	n.leases.add(l)
	if first, _ := n.view.Load().ring.Homes(d, nil); first[0].ID != grantor.ID {
		l.report(false)
	}
	return l
}

// Progress implements fetch.Lease.
func (l *lease) Progress(have int64) { l.have.Store(have) }

// Lost implements fetch.Lease.
func (l *lease) Lost() <-chan struct{} { return l.lost }

// Done implements fetch.Lease. That the node has the blob is news, too, so that
// one message tells both. Its own home need not be told who has it, only that
// nobody fetches it any more.
func (l *lease) Done() {
	if l.n.leases.remove(l) {
		l.n.home.Progress(l.n.self, []discovery.LeaseProgress{{Hash: l.digest, Done: true}})
		l.n.haveNow(l.digest)
	}
}

// GiveUp implements fetch.Lease.
func (l *lease) GiveUp(have int64) {
	if l.n.leases.remove(l) {
		l.have.Store(have)
		l.report(true)
	}
}

// report tells both homes how far the lease is.
func (l *lease) report(giveUp bool) {
	for _, home := range l.n.homes(l.digest) {
		l.n.report(home, report{Hash: hash(l.digest), Offset: bounded(l.have.Load()), GiveUp: giveUp})
	}
}

// heeds tells whether the word of a home that the lease is lost counts: that of
// the one that granted it, or of another if that one is dead. Homes that do not
// hear each other may disagree.
func (l *lease) heeds(home discovery.Member) bool {
	return home.ID == l.grantor.ID || l.n.dead(l.grantor.ID)
}

// reportLeases reports while there are leases. One that ends within reportEvery is
// never reported.
func (n *Node) reportLeases(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.leases.wake:
		}
		for more := true; more; {
			if !peer.Sleep(ctx, reportEvery) {
				return nil
			}
			all := n.leases.all()
			for _, l := range all {
				l.report(false)
			}
			more = len(all) > 0
		}
	}
}

// report sends a report to a home, or gives it to the node's own.
func (n *Node) report(home discovery.Member, r report) {
	if n.isSelf(home) {
		n.lose(home, n.home.Progress(n.self, []discovery.LeaseProgress{progressOf(r)}))
		return
	}
	n.reports.Add(home, r) // if there is room; there is another report soon
}

func progressOf(r report) discovery.LeaseProgress {
	return discovery.LeaseProgress{Hash: Digest(r.Hash), Offset: r.Offset, Done: r.Done, GiveUp: r.GiveUp}
}

func (n *Node) sendReports(home discovery.Member, batch []report) bool {
	var answer leaseAnswer
	if !n.askMember(home, "lease", newsPatience, &leaseQuestion{hello: n.hello(), Leases: batch}, &answer) {
		return false
	}
	var lost []Digest
	for _, r := range batch {
		if !r.GiveUp && slices.Contains(answer.Lost, r.Hash) {
			lost = append(lost, Digest(r.Hash))
		}
	}
	n.lose(home, lost)
	return true
}

// lose acts on a home's word that leases are lost.
func (n *Node) lose(home discovery.Member, lost []Digest) {
	n.leases.mu.Lock()
	defer n.leases.mu.Unlock()
	for _, d := range lost {
		if l := n.leases.active[d]; l != nil && l.heeds(home) {
			delete(n.leases.active, d)
			close(l.lost)
		}
	}
}

// sendCopies tells a second home what this one granted as the first.
func (n *Node) sendCopies(second discovery.Member, batch []discovery.Grant) bool {
	msg := copyQuestion{hello: n.hello(), Grants: make([]grant, len(batch))}
	for i, g := range batch {
		asker := placeOf(g.Asker)
		if n.isSelf(g.Asker) {
			asker = place{ID: n.self.ID}
		}
		msg.Grants[i] = grant{Hash: hash(g.Hash), Asker: asker, Number: g.Number, Lease: g.Lease, Offset: bounded(g.Offset)}
	}
	return n.askMember(second, "copy", newsPatience, &msg, &done{})
}
