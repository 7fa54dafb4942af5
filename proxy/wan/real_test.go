// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"iter"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"apt-dht/dht"
)

// later is a DHT that begins after the node that uses it.
type later struct{ node *dht.Node }

func (l *later) Lookup(ctx context.Context, key dht.Key) iter.Seq[netip.AddrPort] {
	return l.node.Lookup(ctx, key)
}

func (l *later) Offer(key dht.Key, added time.Time) {
	if l.node != nil {
		l.node.Offer(key, added)
	}
}

func (l *later) Withdraw(key dht.Key) { l.node.Withdraw(key) }

// startDHT starts one node of a DHT, whose announces say that peer is there.
func startDHT(t *testing.T, peer netip.AddrPort, bootstrap ...string) (node *dht.Node, addr string) {
	t.Helper()
	socket, err := net.ListenPacket("udp4", netip.AddrPortFrom(peer.Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	node, err = dht.New(dht.Config{
		IPv4: socket, Private: true, Bootstrap: bootstrap,
		Reachable: func(bool) (netip.AddrPort, bool) { return netip.AddrPortFrom(netip.Addr{}, peer.Port()), true },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { node.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	return node, socket.LocalAddr().String()
}

// Two nodes that share nothing but a DHT of their own: what one stores the other
// finds, and each finds the other to check whether it is reachable.
func TestRealDHT(t *testing.T) {
	_, bootstrap := startDHT(t, netip.MustParseAddrPort("127.0.0.1:9978"))
	var nodes [2]*testNode
	var inDHT [2]*dht.Node
	for i := range nodes {
		l := new(later)
		nodes[i] = startNode(t, nil, i, func(cfg *Config) { cfg.DHT = l })
		inDHT[i], _ = startDHT(t, nodes[i].addr, bootstrap)
		l.node = inDHT[i]
		nodes[i].offerAll(t.Context())
	}
	blob := nodes[0].put(t, bytesOf(0, 1000))
	eventually(t, "the blob is announced, and both nodes as helpers", func() bool {
		return inDHT[0].Stats().Announced == 2 && inDHT[1].Stats().Announced == 1
	})
	if found := nodes[1].seek(t, blob); !slices.Equal(found, []netip.AddrPort{nodes[0].addr}) {
		t.Errorf("it found %v", found)
	}
	if v := nodes[0].check(t.Context(), true, nodes[0].addr); v != reached {
		t.Errorf("the verdict is %d", v)
	}
}
