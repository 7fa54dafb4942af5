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
	announceAlpha   = 4
	announceTries   = 1
	announceLimit   = 64 // questions per family
	announceTimeout = 2 * time.Minute
)

// announce looks who else has a key and, unless many do, announces it to the nodes
// nearest to it.
func (a *announcer) announce(ctx context.Context, o *offer) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	families, moves := a.node.announcing(), a.countMoves()
	visits, found, answered := a.visit(ctx, o.key, families)
	row := o.row
	if answered {
		row.Looked, row.Peers = time.Now(), len(found.passed)
	}
	if answered && row.Peers < plenty && (a.node.toldByNeighbour(found.passed) || a.tell(ctx, o.key, visits)) {
		row.Announced, row.Families = time.Now(), familiesOf(families)
	}
	a.finish(o, row, moves)
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

func (a *announcer) countMoves() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.moves
}

// finish writes down what came of an announce, and when the next is due. It began
// after so many moves of this node.
func (a *announcer) finish(o *offer, row Row, moves int) {
	a.mu.Lock()
	moved := moves != a.moves // meanwhile
	if moved {
		row.Announced = time.Time{}
	}
	changed := row != o.row
	o.row = row
	due := o.nextDue(a.schedule.families)
	if again := time.Now().Add(retryAfter); due.Before(again) && !moved {
		due = again
	}
	kept := a.schedule.giveBack(o, due)
	a.mu.Unlock()
	if moved {
		a.signal()
	}
	if kept && changed {
		a.putRow(o.key, row)
	}
}
