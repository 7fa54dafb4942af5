// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"fmt"
	"net"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// internet is sites that have nothing in common but a router that passes no
// multicast on, a mirror, and a DHT.
type internet struct {
	t      *testing.T
	w      *world
	plan   addressPlan
	core   *lanHost
	origin *lanHost
	mirror *mirror
	swarm  *swarm
	entry  string // the node of the DHT with which others begin
	sites  []*wanSite
	plugs  int
	plugs6 int
}

// addressPlan says which addresses an internet has.
type addressPlan struct {
	site, swarm   string   // formats: the number of a site gives its network, that of a DHT node its address
	origin, dht   string   // networks
	flags         []string // of nodes that live there
	privateOrigin string   // a second address of the origin's, not one of the internet's; "": none
}

var (
	// companyPlan is a company's subnets, with a DHT of its own.
	companyPlan = addressPlan{site: "10.60.%d.", swarm: "10.61.%d.1", origin: "10.99.0.", dht: "10.98.0.", flags: []string{"--dht-private"}}
	// worldPlan has addresses of the internet. They stay in the namespaces.
	worldPlan = addressPlan{site: "5.1.%d.", swarm: "46.%d.7.1", origin: "31.13.24.", dht: "31.13.25.", privateOrigin: "10.99.0.10"}
)

const wanPort = "9978"

// swarmSize is how many nodes the scripted DHT has.
const swarmSize = 10

// newInternet makes an internet without sites, whose DHT nobody is in but nodes
// of this test.
func newInternet(t *testing.T, w *world, plan addressPlan) *internet {
	t.Helper()
	in := &internet{t: t, w: w, plan: plan, core: newLANHost(t), origin: newLANHost(t)}
	in.core.sysctl("net/ipv4/ip_forward", "1")
	ipBatch(t, in.core.name, "route add blackhole default")
	in.join(in.origin, plan.origin)
	if plan.privateOrigin != "" {
		ipBatch(t, in.origin.name, "addr add "+plan.privateOrigin+"/32 dev lo")
		ipBatch(t, in.core.name, "route add "+plan.privateOrigin+"/32 via "+plan.origin+"10")
	}
	in.mirror = in.newMirror(in.originAddr(), originPort, w.standard)
	in.swarm = newSwarm(in, swarmSize)
	in.entry = in.swarm.entry()
	return in
}

func (in *internet) originAddr() string { return in.plan.origin + "10" }

// join connects a host to the core by a network of its own, of which it has the
// address 10.
func (in *internet) join(h *lanHost, network string) {
	in.t.Helper()
	h.plug(in.segment(network), "eth0", network+"10/24")
	ipBatch(in.t, h.name, "route add default via "+network+"254")
}

// segment makes a network that the core routes to.
func (in *internet) segment(network string) *lanSegment {
	in.t.Helper()
	s := newLANSegment(in.t)
	in.plugs++
	in.core.plug(s, fmt.Sprintf("e%d", in.plugs), network+"254/24")
	return s
}

// newMirror serves an archive at an address of the origin's.
func (in *internet) newMirror(addr, port string, a *archive) *mirror {
	in.t.Helper()
	m := &mirror{t: in.t, archive: a, addr: addr + ":" + port}
	in.t.Cleanup(m.cleanup)
	in.restore(m)
	return m
}

// restore lets a mirror listen, also again.
func (in *internet) restore(m *mirror) {
	in.t.Helper()
	m.serve(in.origin.listen(m.addr))
}

// cutOrigin has the core drop what is sent to the mirrors without a word.
func (in *internet) cutOrigin() {
	in.t.Helper()
	ipBatch(in.t, in.core.name, "route add blackhole "+in.originAddr()+"/32")
}

// wanSite is a network of the internet's.
type wanSite struct {
	in       *internet
	segment  *lanSegment
	network  string // its first three numbers
	gateway  string
	machines int
}

// site adds one whose machines have addresses of the internet's.
func (in *internet) site() *wanSite {
	in.t.Helper()
	network := fmt.Sprintf(in.plan.site, len(in.sites)+1)
	s := &wanSite{in: in, segment: in.segment(network), network: network, gateway: network + "254"}
	in.sites = append(in.sites, s)
	return s
}

// host adds a host without apt or node.
func (s *wanSite) host(number string) (h *lanHost, ip string) {
	s.in.t.Helper()
	h, ip = newLANHost(s.in.t), s.network+number
	h.plug(s.segment, "eth0", ip+"/24")
	ipBatch(s.in.t, h.name, "route add default via "+s.gateway)
	return h, ip
}

// machine adds a machine whose sources name the mirror. Its node does not run yet.
func (s *wanSite) machine(sources ...string) *lanMachine {
	s.in.t.Helper()
	s.machines++
	if sources == nil {
		sources = s.in.w.source(s.in.mirror.url())
	}
	return newLANMachine(s.in.t, s.segment, fmt.Sprint(s.network, s.machines), s.gateway, sources)
}

// wanFlags are what a node of this internet must be told.
func (in *internet) wanFlags(more ...string) []string {
	return append(append([]string{"--dht", "--dht-bootstrap", in.entry}, in.plan.flags...), more...)
}

// node adds a site with one machine whose node runs.
func (in *internet) node(flags ...string) *lanMachine {
	in.t.Helper()
	m := in.site().machine()
	m.serve(in.wanFlags(flags...)...)
	return m
}

// seed adds a node that has downloaded and announced packages, and that gives
// them as fast as it is asked.
func (in *internet) seed(packages []builtPackage, flags ...string) *lanMachine {
	in.t.Helper()
	m := in.node(append([]string{"--upload-limit", "100MB"}, flags...)...)
	m.update()
	m.download(namesOf(packages)...)
	in.swarm.wantHolder(m.wanAddr(), packages)
	in.mirror.forget()
	return m
}

// wanAddr is where the machine's node gives files to the world.
func (m *lanMachine) wanAddr() string { return net.JoinHostPort(m.ip, wanPort) }

func namesOf(packages []builtPackage) (names []string) {
	for _, p := range packages {
		names = append(names, p.name)
	}
	return names
}

func sizeOf(packages []builtPackage) (size int64) {
	for _, p := range packages {
		size += p.length
	}
	return size
}

// poolURL is the URL of a package at a mirror.
func poolURL(m *mirror, p builtPackage) string {
	return m.url() + "/" + path.Dir(p.file) + "/" + p.escaped()
}

// nft loads rules into a host's firewall.
func (h *lanHost) nft(rules string) {
	h.t.Helper()
	cmd := h.command("true", "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	runCommand(h.t, cmd)
}

var packetCounter = regexp.MustCompile(`counter packets (\d+)`)

// counted is how many packets the host's firewall has counted, by the comments
// of the rules.
func (h *lanHost) counted() map[string]int {
	h.t.Helper()
	counts := map[string]int{}
	for line := range strings.Lines(runCommand(h.t, h.command("true", "nft", "list", "ruleset"))) {
		found := packetCounter.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		_, comment, _ := strings.Cut(line, `comment "`)
		comment, _, _ = strings.Cut(comment, `"`)
		n, err := strconv.Atoi(found[1])
		check(h.t, err)
		counts[comment] += n
	}
	return counts
}
