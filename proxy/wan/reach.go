// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"apt-dht/dht"
	"apt-dht/proxy/peer"
)

// HelpersKey is where nodes that can be reached are found in the DHT, to be asked
// whether another can. It never has many: dht announces no key that has plenty. A
// Node offers it besides its blobs (dht.Config.Uncounted).
var HelpersKey = keyOf(sha256.Sum256([]byte("apt-dht wan reach 1")))

const (
	// firstCheck gives the DHT time to find other nodes.
	firstCheck = 5 * time.Second

	// A node that was found to be reachable is checked again after againReached;
	// one that was not, or that found nobody to check it, after a while that
	// doubles up to a bound.
	againReached   = 2 * time.Hour
	againUnreached = 10 * time.Minute
	againUnknown   = 10 * time.Second
	latestUnknown  = 30 * time.Minute

	// A check asks maxTried nodes at most, of them knownTried that have answered
	// lately, and believes that the node cannot be reached when maxNo of different
	// networks say so, or all who answer. One who reaches it is proof.
	knownTried   = 4
	maxTried     = 12
	maxNo        = 3
	checkTimeout = 30 * time.Second

	// changes is how often the outside address is looked at.
	changes = 5 * time.Second
)

// verdict is what others have found.
type verdict int

const (
	unknown verdict = iota
	reached
	unreached
)

// reach is whether others can reach this node, over IPv4 and over IPv6: routers and
// firewalls treat them differently, and each has a DHT of its own (BEP 32).
type reach struct {
	mu     sync.Mutex      // guards following
	nonces map[string]bool // of checks that go on: whether somebody came
	judged map[bool]judged // by whether it is IPv4
}

// judged is the last verdict.
type judged struct {
	verdict verdict
	about   netip.AddrPort // the outside address; zero: none was known
	at      time.Time      // of the check, or visit
}

// conclude takes note of a verdict, and reports whether it is another than before.
func (r *reach) conclude(is4 bool, v verdict, about netip.AddrPort, now time.Time) (changed bool) {
	if v == unknown {
		return false // what was found before still holds
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.judged == nil {
		r.judged = make(map[bool]judged)
	}
	last := r.judged[is4]
	r.judged[is4] = judged{v, about, now}
	return v != last.verdict || about != last.about
}

// found is the verdict about an outside address.
func (r *reach) found(is4 bool, about netip.AddrPort) (v verdict, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.judged[is4]
	if about != last.about {
		return unknown, time.Time{}
	}
	return last.verdict, last.at
}

// expect has somebody come with a nonce, until the returned function is called.
func (r *reach) expect() (nonce string, end func()) {
	var b [16]byte
	rand.Read(b[:])
	nonce = hex.EncodeToString(b[:])
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.nonces == nil {
		r.nonces = make(map[string]bool)
	}
	r.nonces[nonce] = false
	return nonce, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.nonces, nonce)
	}
}

// came takes note of somebody with a nonce who comes from outside, and reports
// whether it is expected.
func (r *reach) came(nonce string, outside bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, expected := r.nonces[nonce]
	if expected && outside {
		r.nonces[nonce] = true
	}
	return expected
}

func (r *reach) hasCome(nonce string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nonces[nonce]
}

// Reachable tells whether other nodes can reach this one over IPv4, or else over
// IPv6, and where: if one of them has, or the router or operator says so and those
// that have tried do not deny it. The address is the zero Addr where only others know
// it (dht.Config.Reachable).
func (n *Node) Reachable(is4 bool) (at netip.AddrPort, ok bool) {
	outside, known := n.outside(is4)
	v, _ := n.reach.found(is4, outside)
	if !known {
		return netip.AddrPortFrom(netip.Addr{}, n.cfg.Port), v == reached
	}
	return outside, v != unreached
}

// outside is the address at which this node should be reached; zero: it is not
// known.
func (n *Node) outside(is4 bool) (addr netip.AddrPort, known bool) {
	addr, known = n.cfg.External(is4)
	if !known {
		addr = netip.AddrPort{}
	}
	return addr, known
}

// visited takes note of a stranger that has come: whoever comes from the
// internet, or in a DHT of one's own from another machine, has reached this node.
func (n *Node) visited(source netip.Addr) {
	is4 := source.Is4()
	outside, _ := n.outside(is4)
	foreign := dht.IsPublic(source) || n.cfg.Private && !source.IsLoopback()
	if !foreign || source == outside.Addr() {
		return
	}
	n.conclude(is4, reached, outside)
}

// conclude takes note of a verdict about an outside address, and logs what is new.
func (n *Node) conclude(is4 bool, v verdict, outside netip.AddrPort) {
	if !n.reach.conclude(is4, v, outside, time.Now()) {
		return
	}
	level := slog.LevelInfo
	if v == unreached {
		level = slog.LevelWarn
	}
	n.cfg.Log.Log(context.Background(), level, n.reachText(is4, v, outside, outside.IsValid()), slog.Bool("ipv4", is4))
}

// watchReach has others check whether they can reach this node over IPv4, or else
// over IPv6, until ctx ends.
func (n *Node) watchReach(ctx context.Context, is4 bool) error {
	if !peer.Sleep(ctx, firstCheck) {
		return nil
	}
	outside, _ := n.outside(is4)
	last := unknown
	for pause := time.Duration(0); ; {
		v := n.check(ctx, is4, outside)
		if ctx.Err() != nil {
			return nil
		}
		n.conclude(is4, v, outside)
		pause = nextCheck(v, last, pause)
		last = v
		if n.sameOutside(ctx, is4, outside, pause) {
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		outside, _ = n.outside(is4)
		pause = 0
	}
}

// nextCheck is how long a check's verdict is left alone. The check before it said
// former, and that was left alone for last: what is said again is, for longer.
func nextCheck(v, former verdict, last time.Duration) time.Duration {
	if v != former {
		last = 0
	}
	switch v {
	case reached:
		return againReached
	case unreached:
		return min(max(2*last, againUnreached), againReached)
	default:
		return min(max(2*last, againUnknown), latestUnknown)
	}
}

// sameOutside waits, and returns false as soon as the outside address is another
// one or ctx has ended.
func (n *Node) sameOutside(ctx context.Context, is4 bool, outside netip.AddrPort, wait time.Duration) bool {
	for ; wait > 0; wait -= changes {
		if !peer.Sleep(ctx, min(wait, changes)) {
			return false
		}
		if now, _ := n.outside(is4); now != outside {
			return false
		}
	}
	return true
}

var errOther = errors.New("another node is there")

// check asks others to connect to this node.
func (n *Node) check(ctx context.Context, is4 bool, outside netip.AddrPort) verdict {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	nonce, end := n.reach.expect()
	defer end()
	port := n.cfg.Port
	if outside.IsValid() {
		port = outside.Port()
	}
	said := make(map[netip.Addr]bool) // the networks that have spoken
	tried := 0
	for addr := range n.helpers(ctx, is4) {
		network := n.ownerOf(addr)
		if said[network] {
			continue
		}
		if tried++; tried > maxTried {
			break
		}
		came, err := n.askReach(ctx, addr, port, nonce)
		if n.reach.hasCome(nonce) {
			return reached
		}
		if err == nil && !came {
			said[network] = true
		}
		if len(said) >= maxNo {
			break
		}
	}
	if len(said) > 0 {
		return unreached
	}
	return unknown
}

// ownerOf is whose word counts once: a network's, in a DHT of one's own an
// address's.
func (n *Node) ownerOf(addr netip.AddrPort) netip.Addr {
	if n.cfg.Private {
		return addr.Addr()
	}
	return dht.NetworkOf(addr.Addr()).Addr()
}

// helpers are nodes that may be able to say whether this one can be reached over
// IPv4, or else over IPv6: they connect back to where they are asked from.
func (n *Node) helpers(ctx context.Context, is4 bool) iter.Seq[netip.AddrPort] {
	fits := func(addr netip.AddrPort) bool {
		return addr.Addr().Is4() == is4 && n.mayDial(addr) &&
			!n.liars.Has(n.liarAt(addr)) && !n.peers.resting(addr, time.Now())
	}
	return func(yield func(netip.AddrPort) bool) {
		for _, addr := range n.peers.best(knownTried, time.Now()) {
			if fits(addr) && !yield(addr) {
				return
			}
		}
		for addr := range n.cfg.DHT.Lookup(ctx, HelpersKey) {
			if fits(addr) && !yield(addr) {
				return
			}
		}
	}
}

// askReach asks a node to connect back to where the question comes from.
func (n *Node) askReach(ctx context.Context, addr netip.AddrPort, port uint16, nonce string) (came bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout+helpTimeout)
	defer cancel()
	var answer reachAnswer
	err = n.ask(ctx, addr, "reach", &reachQuestion{spoken, port, nonce}, maxSmall, &answer)
	if err != nil {
		n.noAnswer(addr, err)
	}
	return answer.Reached, err
}
