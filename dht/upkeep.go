// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

const (
	// joinFirst and joinLast are the pauses between attempts to find a first
	// bucketSize nodes: each twice as long as the one before.
	joinFirst = 2 * time.Second
	joinLast  = 5 * time.Minute
	// refreshFirst and refreshLast are the same for looks into parts of the
	// network, so that a new node soon knows all, and an old one keeps quiet. A
	// look that finds no node for the table makes the pause idleFactor times as long.
	refreshFirst = time.Second
	refreshLast  = 10 * time.Minute
	idleFactor   = 4
	// upkeepInterval is how often nodes are looked at that grow old.
	upkeepInterval = time.Minute
	// pingAfter is when a node is pinged, so that it stays good.
	pingAfter = goodFor - 2*upkeepInterval
	// maxPings bounds those of one round.
	maxPings = 32
	// strangerRate and strangerBurst bound the pings per second to those who ask
	// us.
	strangerRate  = 0.2
	strangerBurst = 64
	// parallelPings are under way at once.
	parallelPings = 8
	// resolveTimeout bounds the resolving of one bootstrap node.
	resolveTimeout = 5 * time.Second
	// maxBootstrap bounds the addresses tried.
	maxBootstrap = 32

	joinAlpha    = 8
	refreshAlpha = 3
)

// join finds the first nodes, and finds them again if they are lost.
func (f *family) join(ctx context.Context) error {
	for pause := joinFirst; ctx.Err() == nil; {
		if f.goodNodes() >= bucketSize {
			pause = joinFirst
			sleep(ctx, upkeepInterval)
			continue
		}
		f.walk(ctx, f.ownID(), joinAlpha, f.resolve(ctx))
		sleep(ctx, pause)
		pause = min(2*pause, joinLast)
	}
	return nil
}

// refresh looks into one part of the network after the other, its own first.
func (f *family) refresh(ctx context.Context) error {
	pause := refreshFirst
	for bucket := 0; ctx.Err() == nil; bucket++ {
		sleep(ctx, pause)
		own := f.ownID()
		target := own
		if depth := f.table.depth(); bucket%(depth+2) <= depth {
			target = randomKey(own, bucket%(depth+2))
		}
		before := f.goodNodes()
		f.walk(ctx, target, refreshAlpha, nil)
		factor := time.Duration(2)
		if f.goodNodes() <= before {
			factor = idleFactor
		}
		pause = min(factor*pause, refreshLast)
	}
	return nil
}

func (f *family) walk(ctx context.Context, target Key, alpha int, nameless []netip.AddrPort) {
	t := &traversal{
		family: f, target: target, method: "find_node",
		alpha: alpha, tries: lookupTries, limit: lookupLimit,
	}
	t.addNameless(nameless)
	t.run(ctx, f.table.nodes(anyNode))
}

// upkeep pings nodes that have not answered for long, and forgets old peers.
func (f *family) upkeep(ctx context.Context) error {
	for ctx.Err() == nil {
		sleep(ctx, upkeepInterval)
		f.peers.expire()
		old := f.table.nodes(func(n *tableNode) bool { return time.Since(n.answered) > pingAfter })
		f.pingAll(ctx, old[:min(maxPings, len(old))])
	}
	return nil
}

func (f *family) pingAll(ctx context.Context, nodes []contact) {
	var pings errgroup.Group
	pings.SetLimit(parallelPings)
	for _, c := range nodes {
		pings.Go(func() error {
			_, err := f.ask(ctx, c.addr, "ping", krpc.MsgArgs{}, lookupTries)
			if err != nil {
				f.log.Debug("pinging a DHT node", slog.Any("error", err))
			}
			return nil
		})
	}
	_ = pings.Wait() // they return no errors
}

// greet pings strangers who have asked us something.
func (f *family) greet(ctx context.Context) error {
	var pings errgroup.Group
	pings.SetLimit(parallelPings)
	allowance := rate.NewLimiter(strangerRate, strangerBurst)
	for {
		select {
		case <-ctx.Done():
			return pings.Wait()
		case c := <-f.strangers:
			if !f.contacts.expected(c.addr) && allowance.Allow() {
				pings.Go(func() error { f.pingAll(ctx, []contact{c}); return nil })
			}
		}
	}
}

func (f *family) goodNodes() int { return len(f.table.nodes((*tableNode).good)) }
