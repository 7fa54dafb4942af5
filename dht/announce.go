// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
)

const (
	maxAnnounces    = 4
	announceAlpha   = 4
	announceTries   = 1
	announceLimit   = 64 // questions per family
	announceTimeout = 2 * time.Minute
	// idleInterval is how often a node that cannot announce looks whether it can.
	idleInterval = 2 * time.Second
	// maxPlaces bounds the keys of which it is known who took the last announce,
	// 450 bytes each.
	maxPlaces = 4096
)

// announcer keeps keys announced, as many as the budget allows.
type announcer struct {
	node *Node
	rows Rows // may be nil
	wake chan struct{}

	uncounted []Key // of counts

	mu sync.Mutex // guards following

	schedule *schedule
	rowOf    map[Key]Row             // from before the restart, not offered yet
	since    time.Time               // announces before this name another address
	places   *recent[Key, []contact] // who took a key's last announce

	rowsMu sync.Mutex // held over calls of rows
}

func newAnnouncer(node *Node, rows Rows, uncounted []Key) *announcer {
	a := &announcer{
		node: node, rows: rows, wake: make(chan struct{}, 1), uncounted: uncounted,
		schedule: newSchedule(),
		rowOf:    make(map[Key]Row),
		places:   newRecent[Key, []contact](maxPlaces / 2),
	}
	for _, f := range node.families {
		if _, since := f.standing.last(); since.After(a.since) {
			a.since = since
		}
	}
	if rows != nil {
		a.load()
	}
	return a
}

// Offer has a blob announced, from now until it is withdrawn. added is when this
// node got it: of what is due, the newest and those with the fewest peers go
// first, and what does not fit in the budget of 55 packets per second, about 1,500
// new keys per half hour, is not announced. Nor is what has 20 other peers already,
// which is looked at again after two hours, and the more rarely the older it is, or
// what another node announces from the same outside address. At most 32,768 keys
// are kept; of more the worst are forgotten. To offer a key again costs nothing, and
// counts if added is later. It never blocks.
func (n *Node) Offer(key Key, added time.Time) {
	a := n.announcer
	a.mu.Lock()
	row := a.rowOf[key]
	delete(a.rowOf, key)
	a.schedule.add(key, added, row)
	a.mu.Unlock()
	a.signal()
}

// Withdraw ends the announcing of a key. The DHT knows no goodbye: other nodes
// forget it within half an hour.
func (n *Node) Withdraw(key Key) {
	a := n.announcer
	a.mu.Lock()
	_, offered := a.schedule.offers[key]
	_, known := a.rowOf[key]
	a.schedule.remove(key)
	delete(a.rowOf, key)
	a.mu.Unlock()
	if offered || known {
		a.dropRow(key)
	}
}

func (a *announcer) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// work announces one key after the other, until ctx ends.
func (a *announcer) work(ctx context.Context) error {
	for {
		o := a.next(ctx)
		if o == nil {
			return nil
		}
		a.announce(ctx, o)
	}
}

// next waits for a key that is due, while there is somebody to tell and something
// to say. It returns nil when ctx ends.
func (a *announcer) next(ctx context.Context) *offer {
	for ctx.Err() == nil {
		if len(a.node.announcing()) == 0 {
			sleep(ctx, idleInterval)
			continue
		}
		a.mu.Lock()
		o, wait := a.schedule.take(time.Now())
		more := a.schedule.ready.Len() > 0
		a.mu.Unlock()
		if more {
			a.signal()
		}
		if o != nil {
			return o
		}
		a.sleep(ctx, wait)
	}
	return nil
}

// sleep waits for a signal, at most for wait if that is not negative.
func (a *announcer) sleep(ctx context.Context, wait time.Duration) {
	var after <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-after:
	case <-a.wake:
	case <-ctx.Done():
	}
}

// announce looks who else has a key and, unless many do, announces it to the nodes
// nearest to it.
func (a *announcer) announce(ctx context.Context, o *offer) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	began, families := time.Now(), a.node.announcing()
	visits, found, answered := a.visit(ctx, o.key, families)
	row := o.row
	if answered {
		row.Looked, row.Peers = time.Now(), len(found.passed)
	}
	if answered && row.Peers < plenty && (a.node.toldByNeighbour(found.passed) || a.tell(ctx, o.key, visits)) {
		row.Announced, row.Families = time.Now(), familiesOf(families)
	}
	a.finish(o, row, began)
}

// announceIn notes in which families this node announces.
func (a *announcer) announceIn(families uint8) {
	a.mu.Lock()
	more := a.schedule.announceIn(families)
	a.mu.Unlock()
	if more {
		a.signal()
	}
}

// moved has all announced anew: what was announced until now names an address at
// which this node is no longer.
func (a *announcer) moved(now time.Time) {
	a.mu.Lock()
	a.since = now
	a.schedule.forgetAnnounces()
	for key, row := range a.rowOf {
		a.rowOf[key] = row.since(now)
	}
	a.mu.Unlock()
	a.signal()
}

// visit is one family's way to a key.
type visit struct {
	family *family
	near   []responder
}

// visit finds the nodes nearest to key in each family that it is to be announced
// in, and the peers other than us that they know.
func (a *announcer) visit(ctx context.Context, key Key, families []*family) (visits []visit, found *sieve, answered bool) {
	a.mu.Lock()
	places, _ := a.places.get(key)
	a.mu.Unlock()
	var mu sync.Mutex // of the sieve
	sieve := newSieve(a.node.private, a.node.ownAddrs())
	visits = make([]visit, len(families))
	var running sync.WaitGroup
	for i, f := range families {
		running.Go(func() {
			t := &traversal{
				family: f, target: key, method: "get_peers",
				alpha: announceAlpha, tries: announceTries, limit: announceLimit,
				pause: a.pause,
				each: func(from netip.AddrPort, r *krpc.Return) bool {
					mu.Lock()
					defer mu.Unlock()
					for _, peer := range peersIn(r) {
						sieve.pass(from, peer)
					}
					return true
				},
			}
			visits[i] = visit{f, t.run(ctx, slices.Concat(places, f.table.nodes(anyNode)))}
		})
	}
	running.Wait()
	for _, v := range visits {
		answered = answered || len(v.near) > 0
	}
	return visits, sieve, answered
}

// toldByNeighbour tells whether one of the peers is at this node's own outside
// address: another machine of the same site has the blob announced, and one upload
// is the site's. Of two the lower port goes on, so that one always does. In a DHT
// of one's own all nodes of a machine are peers.
func (n *Node) toldByNeighbour(peers map[netip.AddrPort]bool) bool {
	if n.private {
		return false
	}
	for _, f := range n.families {
		external, ok := f.votes.winner()
		for peer := range peers {
			if ok && peer.Addr() == external && peer.Port() < f.port() {
				return true
			}
		}
	}
	return false
}

// tell announces key to the nodes that were visited, and reports whether one took
// it.
func (a *announcer) tell(ctx context.Context, key Key, visits []visit) bool {
	var mu sync.Mutex // guards took
	var took []contact
	var running sync.WaitGroup
	for _, v := range visits {
		port := int(v.family.port())
		for _, node := range v.near {
			if node.token == "" || port == 0 {
				continue
			}
			running.Go(func() {
				args := krpc.MsgArgs{InfoHash: key, Port: &port, Token: node.token}
				if a.pause(ctx) != nil {
					return
				}
				if _, err := v.family.ask(ctx, node.addr, "announce_peer", args, lookupTries); err == nil {
					mu.Lock()
					took = append(took, node.contact)
					mu.Unlock()
				}
			})
		}
	}
	running.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.places.put(key, took)
	return len(took) > 0
}

// pause waits until the budget allows a packet.
func (a *announcer) pause(ctx context.Context) error { return a.node.budget.wait(ctx, 0) }

// finish writes down what came of an announce, and when the next is due.
func (a *announcer) finish(o *offer, row Row, began time.Time) {
	a.mu.Lock()
	if began.Before(a.since) { // the node has moved meanwhile
		row = row.since(time.Now())
	}
	changed := row != o.row
	o.row = row
	due := o.nextDue(a.schedule.families)
	if again := time.Now().Add(retryAfter); due.Before(again) {
		due = again
	}
	kept := a.schedule.giveBack(o, due)
	a.mu.Unlock()
	if kept && changed {
		a.putRow(o.key, row)
	}
}

func (a *announcer) counts() (offered, announced int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.schedule.counts(time.Now(), a.uncounted)
}
