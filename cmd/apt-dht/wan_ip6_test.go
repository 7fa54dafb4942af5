// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func init() {
	wanScenarios["IPv6WhereIPv4IsHidden"] = wanIPv6WhereIPv4IsHidden
	wanScenarios["FirewallForIPv6"] = wanFirewallForIPv6
}

// plug6 gives a machine an IPv6 address of the internet's, by a cable of its own.
func (in *internet) plug6(m *lanMachine) (wanAddr string) {
	in.t.Helper()
	if in.plugs6++; in.plugs6 == 1 {
		in.core.sysctl("net/ipv6/conf/all/forwarding", "1")
	}
	network := fmt.Sprintf("2a05:1:%d::", in.plugs6)
	s := newLANSegment(in.t)
	in.core.plug(s, fmt.Sprintf("x%d", in.plugs6), network+"fe/64")
	m.host.plug(s, "eth6", network+"1/64")
	ipBatch(in.t, m.host.name, "route add default via "+network+"fe")
	return net.JoinHostPort(network+"1", wanPort)
}

// node6 adds a site with one machine whose node runs, in both DHTs.
func (in *internet) node6(flags ...string) (m *lanMachine, wanAddr6 string) {
	in.t.Helper()
	m = in.site().machine()
	wanAddr6 = in.plug6(m)
	m.serve(in.wanFlags(flags...)...)
	return m, wanAddr6
}

// doors6 adds two nodes, which find each other over IPv6, and one of which others
// name.
func (in *internet) doors6() (wanAddr6 string) {
	in.t.Helper()
	_, door := in.node6()
	second, _ := in.node6("--dht-bootstrap", door)
	second.reachable6()
	return door
}

// reachable6 waits until others have reached the machine over both protocols.
func (m *lanMachine) reachable6() {
	m.t.Helper()
	within(m.t, time.Minute, m.ip+" is reached over IPv6, too", func() bool {
		return strings.Contains(m.wanStatus().WAN.Reach, "over IPv6, other nodes reach this one")
	})
}

// wanIPv6WhereIPv4IsHidden: a provider's NAT hides a machine's IPv4 address; what it
// has others get over IPv6.
func wanIPv6WhereIPv4IsHidden(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	some := w.only("net-b-05", "net-b-08")
	door := in.doors6()
	h := in.home()
	m := h.machine()
	in.plug6(m)
	m.serve(in.wanFlags("--no-mdns", "--upload-limit", "100MB", "--dht-bootstrap", door)...)
	m.reachable()
	if s := m.wanStatus(); !strings.Contains(s.WAN.Reach, "other nodes reach this one at TCP port "+wanPort) {
		t.Errorf("reach: %s", s.WAN.Reach)
	}
	m.update()
	m.downloadAndAnnounce(some)

	taker, _ := in.node6("--dht-bootstrap", door)
	taker.update()
	taker.reachable6()
	in.mirror.down()
	wan, _ := taker.fetched(func() { taker.download(namesOf(some)...) })
	taker.wantPackages(some)
	if wan < sizeOf(some) {
		t.Errorf("%d bytes of %d came over IPv6", wan, sizeOf(some))
	}
	for _, p := range some {
		for addr := range in.swarm.holders(keyOf(p.digest)) {
			if addr.Addr().String() == h.outside {
				t.Errorf("%s is announced at %v, where nobody can connect", p.name, addr)
			}
		}
	}
}

// wanFirewallForIPv6: who can be reached over IPv4 alone finds that out.
func wanFirewallForIPv6(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	door := in.doors6()
	m := in.site().machine()
	in.plug6(m)
	m.host.nft(`table inet f {
	chain in {
		type filter hook input priority 0
		iifname eth6 tcp dport 9978 ct state new drop
	}
}`)
	m.serve(in.wanFlags("--dht-bootstrap", door)...)
	within(t, time.Minute, "the node has been told that nobody reaches it over IPv6", func() bool {
		return strings.Contains(m.wanStatus().WAN.Reach, "over IPv6, other nodes have tried, and cannot reach this one")
	})
	if s := m.wanStatus(); !s.WAN.Reachable || s.DHT.ReadOnly {
		t.Errorf("over IPv4 it is not reached: %+v", s.WAN)
	}
}
