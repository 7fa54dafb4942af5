// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mainline "github.com/anacrolix/dht/v2"
)

func TestConfig(t *testing.T) {
	conn := &recorder{}
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no socket", Config{}, "needs a UDP socket"},
		{"no port", Config{IPv4: conn, Bootstrap: []string{"node.example"}}, "not HOST:PORT"},
		{"a low port", Config{IPv4: conn, Bootstrap: []string{"node.example:53"}}, "from 1024 up"},
		{"no host", Config{IPv4: conn, Bootstrap: []string{":6881"}}, "not HOST:PORT"},
		{"all right", Config{IPv4: conn, Bootstrap: []string{"node.example:6881", "[2a00::1]:6881"}}, ""},
	} {
		_, err := New(c.cfg)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestSecureIds has nodes learn their outside addresses and take ids that fit
// (BEP 42), once.
func TestSecureIds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		var nodes []*running
		for i := range 12 {
			cfg := Config{IPv4: world.listen(publicAddr(i)), Reachable: at(7000), Bootstrap: []string{publicAddr(0).String()}}
			nodes = append(nodes, start(t, cfg))
		}
		time.Sleep(2 * time.Minute)
		for i, n := range nodes {
			f := n.families[0]
			if !mainline.NodeIdSecure(f.ownID(), publicAddr(i).Addr().AsSlice()) {
				t.Errorf("the id of node %d does not fit its address", i)
			}
			if got := n.Stats(); len(got.External) != 1 || got.External[0] != publicAddr(i).Addr() || got.GoodNodes < bucketSize {
				t.Errorf("node %d: %+v", i, got)
			}
		}
		f := nodes[0].families[0]
		id := f.ownID()
		for i := range maxVotes {
			f.votes.add(publicAddr(3000+i), publicAddr(77).Addr())
		}
		time.Sleep(checkInterval)
		if f.ownID() != id {
			t.Error("liars make the node change its id at once")
		}
	})
}

// TestLateStart has nodes whose bootstrap node comes up an hour late.
func TestLateStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		first := publicAddr(0).String()
		n := start(t, Config{IPv4: world.listen(publicAddr(1)), Reachable: at(7000), Bootstrap: []string{first}})
		time.Sleep(time.Hour)
		if s := n.Stats(); s.PacketsOut > 100 {
			t.Errorf("%d packets to nobody", s.PacketsOut)
		}
		start(t, Config{IPv4: world.listen(publicAddr(0)), Reachable: at(7000)})
		time.Sleep(joinLast + 10*time.Second)
		if got := n.Stats().GoodNodes; got != 1 {
			t.Errorf("%d good nodes", got)
		}
	})
}

// TestNetworkAway has all nodes of a table vanish, and come back: a node that was
// away must not have forgotten everybody.
func TestNetworkAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		var nodes []*running
		for i := range 12 {
			cfg := Config{IPv4: world.listen(publicAddr(i)), Reachable: at(7000)}
			if i > 0 {
				cfg.Bootstrap = []string{publicAddr(0).String()}
			}
			nodes = append(nodes, start(t, cfg))
		}
		time.Sleep(2 * time.Minute)
		away := nodes[5]
		known := away.Stats().Nodes
		world.cut(away.addr, true)
		time.Sleep(time.Hour)
		if got := away.Stats(); got.GoodNodes != 0 || got.Nodes < known/2 {
			t.Errorf("away for an hour: %d of %d nodes are left, %d good", got.Nodes, known, got.GoodNodes)
		}
		world.cut(away.addr, false)
		time.Sleep(joinLast + time.Minute)
		if got := away.Stats().GoodNodes; got < bucketSize {
			t.Errorf("back for %v: %d good nodes", joinLast, got)
		}
	})
}

func TestIPv6Loopback(t *testing.T) {
	var nodes []*running
	for i := range 3 {
		conn, err := net.ListenPacket("udp6", "[::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{IPv6: conn, Private: true, Reachable: at(uint16(loopbackPort + i))}
		if i > 0 {
			cfg.Bootstrap = []string{nodes[0].addr.String()}
		}
		nodes = append(nodes, start(t, cfg))
	}
	eventually(t, "the nodes know each other", func() bool {
		return nodes[1].Stats().GoodNodes == 2 && nodes[2].Stats().GoodNodes == 2
	})
	nodes[1].Offer(keyOf(1), time.Now())
	allAnnounced(t, nodes, 1)
	want := netip.AddrPortFrom(nodes[1].addr.Addr(), loopbackPort+1)
	if peer, _ := firstOf(nodes[2].Node, keyOf(1)); peer != want {
		t.Errorf("found %v, want %v", peer, want)
	}
}
