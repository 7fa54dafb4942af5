// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"apt-dht/dht"
	"apt-dht/proxy"
)

// tell has a doctor's questions to the nodes to begin with come to that.
func (d *doctor) tell(tries ...bootstrapTry) {
	d.ask = func(context.Context, internetConfig, string) []bootstrapTry { return tries }
}

var errMute = fmt.Errorf("%w: no route", dht.ErrSilent)

func TestCheckDHT(t *testing.T) {
	d := newDoctor(t, func(s *settings) { s.DHT = true })
	want(t, "no node", d.checkDHT(t.Context()), warn, "not known without a node")
	d.node = &proxy.Status{UptimeS: 3600}
	d.node.DHT.Mode = proxy.ModePublic
	d.node.WAN.Reach, d.node.WAN.Router = "reach", "no router"
	d.tell(bootstrapTry{"a.example:6881", errMute})
	want(t, "UDP blocked", d.checkDHT(t.Context()), warn, "not one packet has come: a.example:6881 does not answer", "block UDP")
	want(t, "and so not known", d.checkDHT(t.Context()), warn, "reached from outside: not known: no node is known that could try – the router: no router")
	d.node.DHT.PacketsIn = 1
	d.tell(bootstrapTry{"a.example:6881", nil})
	want(t, "not our packets", d.checkDHT(t.Context()), warn, "a.example:6881 answers", "does a firewall keep UDP from this node's port?")
	d.node.UptimeS = 5
	want(t, "just started", d.checkDHT(t.Context()), warn, "look again in a minute")
	d.node.DHT.Nodes, d.node.WAN.Reachable, d.node.WAN.Offered = 7, true, 3
	want(t, "fine", d.checkDHT(t.Context()), good, "nodes known: 7; files offered: 3")
	want(t, "not tried", d.checkDHT(t.Context()), warn, "reached from outside: not known yet: reach")
	d.node.WAN.Checked = time.Now()
	want(t, "reached", d.checkDHT(t.Context()), good, "reached from outside: reach")
	d.node.WAN.Reachable = false
	want(t, "not reached", d.checkDHT(t.Context()), warn, "reached from outside: reach – the router: no router")
	d.node.DHT.Nodes, d.node.WAN.Reachable = 0, true
	want(t, "not any more", d.checkDHT(t.Context()), warn, "reached from outside: not known")
}

// A DHT of one's own is nothing without those that the operator has named.
func TestCheckDHTNamed(t *testing.T) {
	d := newDoctor(t, func(s *settings) {
		s.DHT, s.DHTPrivate, s.DHTBootstrap = true, true, []dhtAddr{{"10.4.0.2:9978"}, {"10.4.0.3:9978"}}
	})
	d.node = &proxy.Status{UptimeS: 5, DHT: proxy.DHTStatus{Mode: proxy.ModePrivate}}
	d.node.WAN.Router = "no router"
	dead := []bootstrapTry{{"10.4.0.2:9978", errMute}, {"10.4.0.3:9978", errSelf}}
	d.tell(dead...)
	want(t, "nobody", d.checkDHT(t.Context()), fail, "10.4.0.2:9978 does not answer: no route; 10.4.0.3:9978 is this node itself", "does apt-dht dht-node run there, on that UDP port?")
	for _, f := range d.checkDHT(t.Context()) {
		if strings.Contains(f.ToDo, "router") {
			t.Errorf("a router in a private DHT: %+v", f)
		}
	}
	d.node.DHT.Nodes = 3
	want(t, "others do", d.checkDHT(t.Context()), warn, "nodes known: 3", "10.4.0.2:9978 does not answer")
	d.tell(bootstrapTry{"10.4.0.2:9978", nil}, dead[1])
	want(t, "all there", d.checkDHT(t.Context()), good, "nodes known: 3")
}

func TestCheckDHTOff(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	d := newDoctor(t, func(s *settings) { s.DHT, s.WANListen = true, wanAddr{listenAddr{at}} })
	d.node = &proxy.Status{DHT: proxy.DHTStatus{Mode: proxy.ModeOff}}
	d.node.WAN.Reach = "no part"
	want(t, "its port is taken", d.checkDHT(t.Context()), warn, "no part; port "+portOf(l.Addr())+" is taken by", "--wan-listen")
	if got := d.checkFlags(t.Context()); got != nil {
		t.Errorf("its port is taken: %+v", got)
	}
	l.Close()
	want(t, "its port is free", d.checkDHT(t.Context()), warn, "it was started with --dht=false")
	want(t, "its port is free", d.checkFlags(t.Context()), warn, "The node was started with other flags", "(it has no part in the DHT)", "give doctor the same")
	d.cfg.DHT = false
	want(t, "as wanted", d.checkDHT(t.Context()), good, "as configured")
}

// Where doctor was not given the node's flags it says so, and nothing of a DHT that
// is not the node's.
func TestCheckFlags(t *testing.T) {
	d := newDoctor(t, func(s *settings) { s.DHT, s.MDNS = true, true })
	if got := d.checkFlags(t.Context()); got != nil {
		t.Errorf("no node: %+v", got)
	}
	d.node = &proxy.Status{LAN: proxy.LANStatus{Mode: proxy.ModeOn}, DHT: proxy.DHTStatus{Mode: proxy.ModePublic}}
	if got := d.checkFlags(t.Context()); got != nil {
		t.Errorf("the same: %+v", got)
	}
	d.node.LAN.Mode, d.node.DHT.Mode, d.node.DHT.Trouble = proxy.ModeOff, proxy.ModePrivate, noneNamed
	d.cfg.DataDir += "/none"
	want(t, "all others", d.checkFlags(t.Context()), warn, "its DHT is private, it has a --dht-bootstrap, it is not in the local network, its --data-dir is another")
	want(t, "another DHT", d.checkDHT(t.Context()), fail, "no --dht-bootstrap address answers", "give doctor the --dht-bootstrap flags")
	d = newDoctor(t, nil)
	d.node = &proxy.Status{LAN: proxy.LANStatus{Mode: proxy.ModeOn}, DHT: proxy.DHTStatus{Mode: proxy.ModePublic}}
	want(t, "neither", d.checkFlags(t.Context()), warn, "its DHT is public, it is in the local network")
	d.node = &proxy.Status{}
	if got := d.checkFlags(t.Context()); got != nil {
		t.Errorf("one that tells nothing: %+v", got)
	}
}
