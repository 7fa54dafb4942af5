// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func init() {
	wanScenarios["RouterMapsThePort"] = wanRouterMapsThePort
	wanScenarios["RouterMapsAnotherPort"] = wanRouterMapsAnotherPort
	wanScenarios["RouterMapsNothing"] = wanRouterMapsNothing
	wanScenarios["FirewallBeforeANode"] = wanFirewallBeforeANode
}

// natRouter is a router that lets nobody in, but for what miniupnpd adds to its
// chains, and hides the network behind it.
const natRouter = `table inet filter {
	chain forward {
		type filter hook forward priority 0; policy drop
		ct state established,related accept
		iifname lan accept
		jump miniupnpd
	}
	chain prerouting {
		type nat hook prerouting priority -100
		jump prerouting_miniupnpd
	}
	chain postrouting {
		type nat hook postrouting priority 100
		jump postrouting_miniupnpd
		oifname wan masquerade
	}
	chain miniupnpd { }
	chain prerouting_miniupnpd { }
	chain postrouting_miniupnpd { }
}
`

const miniupnpdConfig = `ext_ifname=wan
listening_ip=lan
port=5555
enable_natpmp=%[2]s
enable_upnp=yes
secure_mode=yes
system_uptime=no
min_lifetime=20
max_lifetime=86400
lease_file=%[1]s/leases
upnp_table_name=filter
upnp_nat_table_name=filter
uuid=17cefa7c-a22f-4a36-8ea2-fa7d0d712aca
allow 1024-65535 0.0.0.0/0 1024-65535
`

// home is a network of private addresses behind a router.
type home struct {
	*wanSite
	router  *lanHost
	outside string // its address on the internet
	daemon  *exec.Cmd
	dir     string
}

// home adds one to the internet.
func (in *internet) home() *home {
	in.t.Helper()
	uplink := in.site()
	h := &home{router: newLANHost(in.t), outside: uplink.network + "1", dir: in.t.TempDir()}
	h.wanSite = &wanSite{in: in, segment: newLANSegment(in.t), network: "192.168.77.", gateway: "192.168.77.254"}
	h.router.plug(h.segment, "lan", h.gateway+"/24")
	h.router.plug(uplink.segment, "wan", h.outside+"/24")
	h.router.sysctl("net/ipv4/ip_forward", "1")
	ipBatch(in.t, h.router.name, "route add default via "+uplink.gateway)
	h.router.nft(natRouter)
	return h
}

// maps has the router map ports by UPnP, and by NAT-PMP if that is wanted.
func (h *home) maps(natpmp string) {
	h.in.t.Helper()
	conf := filepath.Join(h.dir, "miniupnpd.conf")
	writeFile(h.in.t, conf, fmt.Appendf(nil, miniupnpdConfig, h.dir, natpmp))
	h.daemon, _ = h.router.run("true", nil, "miniupnpd", "-d", "-f", conf, "-P", filepath.Join(h.dir, "pid"))
	eventually(h.in.t, "miniupnpd listens", func() bool {
		sockets, err := h.router.command("true", "ss", "-Hlntu").Output()
		return err == nil && strings.Contains(string(sockets), ":1900 ") && strings.Contains(string(sockets), ":5555 ")
	})
}

var portRule = regexp.MustCompile(`(?:th|tcp|udp) dport (\d+) dnat ip to (\S+)`)

// mapped is where the router sends what comes to its ports.
func (h *home) mapped() map[string]string {
	h.in.t.Helper()
	rules := runCommand(h.in.t, h.router.command("true", "nft", "list", "ruleset"))
	ports := map[string]string{}
	for line := range strings.Lines(rules) {
		if found := portRule.FindStringSubmatch(line); found != nil {
			ports[found[1]] = found[2]
		}
	}
	return ports
}

// reachable waits until the node knows that it can be reached from outside.
func (m *lanMachine) reachable() {
	m.t.Helper()
	within(m.t, time.Minute, m.ip+" can be reached from outside", func() bool { return m.wanStatus().WAN.Reachable })
	if s := m.wanStatus(); s.DHT.ReadOnly {
		within(m.t, 15*time.Second, m.ip+" is not read-only", func() bool { return !m.wanStatus().DHT.ReadOnly })
	}
}

// wanHelpers adds peers that help others to see whether they can be reached.
func (in *internet) wanHelpers(n int) (helpers []*wanPeer) {
	var addrs []netip.AddrPort
	for range n {
		p := in.peer()
		p.have = func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, map[string]any{"v": 1, "have": []string{}}) }
		p.serve()
		helpers = append(helpers, p)
		addrs = append(addrs, netip.MustParseAddrPort(p.addr))
	}
	sum := sha256.Sum256([]byte("apt-dht wan reach 1"))
	in.swarm.tellOf(func(key dhtID) []netip.AddrPort {
		if key == keyOf(sum) {
			return addrs
		}
		return nil
	})
	return helpers
}

// wanRouterMapsThePort: a node behind a router that maps ports is one like others.
func wanRouterMapsThePort(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	in.wanHelpers(3)
	h := in.home()
	h.maps("yes")
	wantReachedThrough(t, in, h, wanPort)
}

// wanRouterMapsAnotherPort: the port is taken by another machine of the home.
func wanRouterMapsAnotherPort(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	in.wanHelpers(3)
	h := in.home()
	h.maps("no")
	other, ip := h.host("99")
	runCommand(t, other.command("true", "upnpc", "-a", ip, "9978", "9978", "TCP"))
	runCommand(t, other.command("true", "upnpc", "-a", ip, "9978", "9978", "UDP"))
	wantReachedThrough(t, in, h, "")
}

// wantReachedThrough starts a node at a home. It must announce the port that the
// router maps, and be served from there to others. port "": any but the usual.
func wantReachedThrough(t *testing.T, in *internet, h *home, port string) {
	t.Helper()
	some := in.w.only("net-b-05", "net-b-08")
	m := h.machine()
	m.serve(in.wanFlags("--no-mdns", "--upload-limit", "100MB")...)
	m.reachable()
	m.update()
	m.download(namesOf(some)...)
	var outside netip.AddrPort
	within(t, announcePatience, "the packages are announced", func() bool {
		for _, p := range some {
			holders := in.swarm.holders(keyOf(p.digest))
			if len(holders) != 1 {
				return false
			}
			for addr := range holders {
				outside = addr
			}
		}
		return true
	})
	announced := fmt.Sprint(outside.Port())
	if outside.Addr().String() != h.outside || port != "" && announced != port || port == "" && announced == wanPort {
		t.Errorf("%v is announced", outside)
	}
	if to := h.mapped()[announced]; to != m.wanAddr() {
		t.Errorf("the router sends port %s to %q: %v", announced, to, h.mapped())
	}
	t.Logf("reach: %s; router: %s", m.wanStatus().WAN.Reach, m.wanStatus().WAN.Router)

	taker := in.node()
	taker.update()
	taker.inDHT()
	in.mirror.down()
	wan, _ := taker.fetched(func() { taker.download(namesOf(some)...) })
	taker.wantPackages(some)
	if wan < sizeOf(some) {
		t.Errorf("%d bytes of %d came from the home", wan, sizeOf(some))
	}
	m.stop()
	if to := h.mapped()[announced]; to != "" {
		t.Errorf("after the node's end the router sends port %s to %s", announced, to)
	}
}

// wanRouterMapsNothing: a node behind a router that does not map ports takes and
// does not offer, and says what is wrong.
func wanRouterMapsNothing(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	h := in.home()
	m := h.machine()
	wantTakesOnly(t, in, m, h.outside)
	if s := m.wanStatus(); s.WAN.Router == "" {
		t.Error("the status says nothing about the router")
	}
}

// wanFirewallBeforeANode: a node has an address of the internet, but nobody can
// connect to it.
func wanFirewallBeforeANode(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	m := in.site().machine()
	m.host.nft(`table inet f {
	chain in {
		type filter hook input priority 0
		iifname eth0 ct state new drop
	}
}`)
	wantTakesOnly(t, in, m, m.ip)
}

// wantTakesOnly starts a node that cannot be reached from outside.
func wantTakesOnly(t *testing.T, in *internet, m *lanMachine, outside string) {
	t.Helper()
	some := in.w.only("net-b-05", "net-b-08")
	seed := in.seed(some)
	in.wanHelpers(3)
	began := time.Now()
	m.serve(in.wanFlags("--no-mdns")...)
	m.update()
	within(t, time.Minute, "the node has been told that nobody reaches it", func() bool {
		s := m.wanStatus()
		return strings.Contains(s.WAN.Reach, "cannot reach this one") && s.DHT.ReadOnly
	})
	settled(t, in.swarm, time.Second) // announces under way
	t.Logf("told after %v", time.Since(began).Round(time.Millisecond))
	wan, _ := m.fetched(func() { m.download(namesOf(some)...) })
	m.wantPackages(some)
	if wan == 0 || seed.wanStatus().BytesTo.WAN == 0 {
		t.Errorf("%d bytes came from a peer", wan)
	}
	own := in.w.only("net-b-06")
	m.download(namesOf(own)...)
	settled(t, in.swarm, 7*time.Second) // it asks itself every 5 s whether it can be reached
	s := m.wanStatus()
	t.Logf("reach: %q; router: %q", s.WAN.Reach, s.WAN.Router)
	if s.WAN.Reachable || !s.DHT.ReadOnly {
		t.Errorf("the status of a node that nobody reaches: %+v %+v", s.DHT, s.WAN)
	}
	for _, p := range append(own, some...) {
		for addr := range in.swarm.holders(keyOf(p.digest)) {
			if addr.Addr().String() == outside {
				t.Errorf("%s is announced at %v, where nobody can connect", p.name, addr)
			}
		}
	}
}
