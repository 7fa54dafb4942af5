// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"apt-dht/dht"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
)

const (
	// maxAsked is how many of the nodes that are known are asked for a blob.
	maxAsked = 16

	// The DHT is asked once none of them has said within headStart that it has
	// the blob; if one has, after secondLook: by then the blob is mostly here.
	headStart  = 100 * time.Millisecond
	secondLook = time.Second

	// maxStrangers bounds the nodes that have never answered and are being asked,
	// maxStrangersEach those of one network: they may all be inventions.
	maxStrangers     = 128
	maxStrangersEach = 8
)

// A seek looks for peers that have one blob.
type seek struct {
	digest Digest
	news   chan struct{} // has one if there may be something to take
	// settled is closed once a peer has been found or all have answered.
	settled chan struct{}

	mu    sync.Mutex // guards following
	asked map[netip.AddrPort]bool
	open  int // questions without an answer
	found []fetch.Peer
	any   bool // some have been found
	done  bool // settled is closed
}

// asks reports whether addr is still to be asked, and counts the question.
func (s *seek) asks(addr netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked[addr] {
		return false
	}
	s.asked[addr] = true
	s.open++
	return true
}

// answered ends a question.
func (s *seek) answered(addr netip.AddrPort, has bool) {
	s.mu.Lock()
	s.open--
	if has {
		s.found = append(s.found, peerAt(addr))
		s.any = true
	}
	if (has || s.open == 0) && !s.done {
		s.done = true
		close(s.settled)
	}
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// take returns the peers found since the last time; over: no question is open.
func (s *seek) take() (found []fetch.Peer, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, s.found = s.found, nil
	return found, s.open == 0
}

func (s *seek) state() (any, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.any, s.open == 0
}

// seeks are those that are going on.
type seeks struct {
	mu  sync.Mutex // guards following
	all map[*seek]struct{}
}

func (l *seeks) add(d Digest) *seek {
	s := &seek{digest: d, news: make(chan struct{}, 1), settled: make(chan struct{}), asked: make(map[netip.AddrPort]bool)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[*seek]struct{})
	}
	l.all[s] = struct{}{}
	return s
}

func (l *seeks) remove(s *seek) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, s)
}

func (l *seeks) list() []*seek {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*seek, 0, len(l.all))
	for s := range l.all {
		list = append(list, s)
	}
	return list
}

// Seek implements fetch.WAN.
func (n *Node) Seek(ctx context.Context, d Digest, found func(fetch.Peer)) {
	if n.Find(ctx, d, found) {
		n.patience.learn(false)
	}
}

// Find is Seek for who only wants to know: transfers learn nothing from it. What it
// calls found with has answered lately, and says that it has the blob. First those
// are asked who are known, many blobs at a time; the DHT where they do not have it,
// or have not brought it within a second. Nobody: all have been asked in vain.
func (n *Node) Find(ctx context.Context, d Digest, found func(fetch.Peer)) (nobody bool) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(n.ctx, stop)()
	s := n.seeks.add(d)
	defer n.seeks.remove(s)
	for _, addr := range n.peers.best(maxAsked, time.Now()) {
		n.askFor(addr, s)
	}
	looked := make(chan struct{})
	if !n.work.Begin(func() { defer close(looked); n.lookUp(ctx, s) }) {
		return false
	}
	return s.listen(ctx, looked, found)
}

// listen hands over who is found, until nobody more will be. It returns whether
// nobody was.
func (s *seek) listen(ctx context.Context, looked chan struct{}, found func(fetch.Peer)) (nobody bool) {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-s.news:
		case <-looked:
			looked = nil
		}
		peers, over := s.take()
		for _, p := range peers {
			found(p)
		}
		if over && looked == nil {
			any, _ := s.state()
			return !any && ctx.Err() == nil
		}
	}
}

// lookUp asks the DHT who has the blob. Who turns up is asked for all that is
// sought.
func (n *Node) lookUp(ctx context.Context, s *seek) {
	if !s.first(ctx, headStart) {
		return
	}
	if any, _ := s.state(); any && !peer.Sleep(ctx, secondLook) {
		return
	}
	for addr := range n.cfg.DHT.Lookup(ctx, keyOf(s.digest)) {
		if n.peers.resting(addr, time.Now()) {
			continue
		}
		for _, other := range n.seeks.list() {
			n.askFor(addr, other)
		}
	}
}

// first waits until one of those who were asked has the blob, or all have answered,
// for a time at most. It returns false if ctx ends before.
func (s *seek) first(ctx context.Context, most time.Duration) bool {
	if any, over := s.state(); any || over {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-s.settled:
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// askFor asks a node for a blob, together with others that are sought.
func (n *Node) askFor(addr netip.AddrPort, s *seek) {
	if !n.mayDial(addr) || n.liars.Has(n.liarAt(addr)) || !s.asks(addr) {
		return
	}
	if !n.questions.Add(addr, s) {
		s.answered(addr, false)
	}
}

// askHave asks a node which of a batch of blobs it has.
func (n *Node) askHave(addr netip.AddrPort, batch []*seek) bool {
	if !n.peers.knows(addr) && !n.cfg.Private {
		network := dht.NetworkOf(addr.Addr()).Addr()
		if !n.strangers.Take(network) {
			return false
		}
		defer n.strangers.Put(network)
	}
	question := haveQuestion{head: spoken, Want: make([]peer.Hash, len(batch))}
	for i, s := range batch {
		question.Want[i] = peer.Hash(s.digest)
	}
	ctx, cancel := context.WithTimeout(n.ctx, answerTimeout)
	defer cancel()
	var answer haveAnswer
	began := time.Now()
	if err := n.ask(ctx, addr, "have", &question, maxMessage, &answer); err != nil {
		n.noAnswer(addr, err)
		return false
	}
	n.peers.answered(addr, time.Since(began), time.Now())
	has := make(map[peer.Hash]bool, len(answer.Have))
	for _, h := range answer.Have {
		has[h] = true
	}
	for _, s := range batch {
		s.answered(addr, has[peer.Hash(s.digest)])
	}
	return true
}

// noAnswer takes note of why a node that was asked has not answered.
func (n *Node) noAnswer(addr netip.AddrPort, err error) {
	if n.ctx.Err() != nil {
		return
	}
	n.cfg.Log.Debug("a node on the internet does not answer", "addr", addr, "err", err)
	if !errors.Is(err, peer.ErrBusy) {
		n.peers.failed(addr, time.Now())
	}
}

// notThere tells seeks that a node did not answer.
func notThere(addr netip.AddrPort, batch []*seek) {
	for _, s := range batch {
		s.answered(addr, false)
	}
}
