// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func init() {
	wanScenarios["PoisonedPeers"] = func(t *testing.T, w *world) { wanPoisoned(t, w, worldPlan, forbiddenPeers) }
	wanScenarios["PoisonedPeersOfACompany"] = func(t *testing.T, w *world) { wanPoisoned(t, w, companyPlan, forbiddenAnywhere) }
}

// forbiddenAnywhere are addresses at which no peer can be; forbiddenPeers at
// which none on the internet can.
var (
	forbiddenAnywhere = []string{
		"5.1.200.1:22", "5.1.200.2:80", "5.1.200.3:443", "5.1.200.4:1023", "224.0.0.251:5353", "239.1.2.3:9978",
		"255.255.255.255:9978", "0.0.0.0:9978",
	}
	forbiddenPeers = append([]string{
		"127.0.0.1:5555", "127.9.9.9:9978", "10.99.0.10:9978", "172.16.3.4:9978", "192.168.1.1:9978", "169.254.169.254:9978",
		"100.64.1.1:9978", "192.0.2.1:9978", "198.51.100.1:9978", "203.0.113.1:9978", "198.18.0.1:9978", "192.88.99.1:9978", "192.0.0.8:9978", "240.0.0.1:9978",
	}, forbiddenAnywhere...)
)

// allowedPeer is where the DHT says that a peer is, too, to see that the node
// does connect. It is on a part of the internet that is silent.
const allowedPeer = "5.1.201.1:1024"

// watch has the host's firewall count the packets to addresses.
func (h *lanHost) watch(addrs ...string) {
	h.t.Helper()
	var rules strings.Builder
	for _, a := range addrs {
		addr := netip.MustParseAddrPort(a)
		fmt.Fprintf(&rules, "\t\tip daddr %s tcp dport %d counter comment \"tcp %s\"\n", addr.Addr(), addr.Port(), a)
		fmt.Fprintf(&rules, "\t\tip daddr %s udp dport %d counter comment \"udp %s\"\n", addr.Addr(), addr.Port(), a)
	}
	h.nft("table inet watch {\n\tchain out {\n\t\ttype filter hook output priority 0\n" + rules.String() + "\t}\n}\n")
}

// wanPoisoned: the DHT names addresses for peers and nodes to which nobody must
// be made to connect.
func wanPoisoned(t *testing.T, w *world, plan addressPlan, forbidden []string) {
	in := newInternet(t, w, plan)
	m := in.site().machine()
	itself := m.wanAddr()
	m.host.watch(append([]string{allowedPeer, itself}, forbidden...)...)
	poison := append([]string{itself, allowedPeer, "5.1.200.5:0"}, forbidden...)
	in.swarm.tell(poison...)
	in.swarm.tellNodes(forbidden)
	m.serve(in.wanFlags()...)
	m.update()
	m.inDHT()
	set := w.set("a")
	m.download(namesOf(set)...)
	m.wantPackages(set)
	in.mirror.down() // now peers are asked for with all patience
	rest := w.set("b")
	m.begin(append([]string{"install", "--download-only"}, namesOf(rest)...)...).wait()

	counts := m.host.counted()
	if counts["tcp "+allowedPeer] == 0 {
		t.Error("nobody connected to the peer that is allowed")
	}
	for _, addr := range append(forbidden, itself) {
		for _, network := range []string{"tcp ", "udp "} {
			if addr == "224.0.0.251:5353" && network == "udp " {
				continue // mDNS
			}
			if n, ok := counts[network+addr]; !ok || n > 0 {
				t.Errorf("%s%s: %d packets, counted: %v", network, addr, n, ok)
			}
		}
	}
}
