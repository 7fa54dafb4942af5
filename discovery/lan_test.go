// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// noticed is how soon all nodes must know of one that comes or goes.
const noticed = time.Second

// testID makes the id of the test's i-th node.
func testID(i int) string { return fmt.Sprintf("%016x", i+1) }

// TestNodesComeAndGo has nodes come and go on hosts without a system bus, with
// one but without Avahi, with Avahi, and with one that refuses to publish.
func TestNodesComeAndGo(t *testing.T) {
	t.Parallel()
	lan := newNetwork(t, "a")
	var hosts []*host
	for i := range 4 {
		hosts = append(hosts, lan.host(fmt.Sprintf("10.77.0.%d/24", i+1)))
	}
	for _, h := range hosts[1:] {
		h.startBus()
	}
	hosts[2].startAvahi("")
	hosts[3].startAvahi("disable-user-service-publishing=yes")
	var nodes []*testNode
	for i, h := range hosts {
		n := h.node(nodeConfig{ID: testID(i), Port: 9977, Office: true})
		for j, other := range nodes {
			waitFor(t, fmt.Sprintf("nodes %d and %d know each other", i, j), func() bool { return other.knows(n.id) && n.knows(other.id) })
			inTime(t, fmt.Sprintf("node %d comes, node %d sees it", i, j), other.since(n.id).Sub(n.started))
			inTime(t, fmt.Sprintf("node %d comes and sees node %d", i, j), n.since(other.id).Sub(n.started))
		}
		nodes = append(nodes, n)
	}
	for service, host := range map[string]string{peerService: peerHost, proxyService: proxyHost} {
		listed := hosts[2].browse(service)
		for i := range nodes {
			if line := fmt.Sprintf(";%s;%s;local;%s%[1]s.local;10.77.0.%[4]d;9977;", testID(i), service, host, i+1); !strings.Contains(listed, line) {
				t.Errorf("avahi-browse %s misses %s in:\n%s", service, line, listed)
			}
		}
	}
	for _, i := range []int{1, 2, 3} {
		at := nodes[i].stop()
		if err := nodes[i].cmd.Wait(); err != nil {
			t.Errorf("node %d ended with %v", i, err)
		}
		for _, j := range []int{0, 3} {
			if i == j {
				continue
			}
			waitFor(t, fmt.Sprintf("node %d is gone for node %d", i, j), func() bool { return !nodes[j].knows(nodes[i].id) })
			inTime(t, fmt.Sprintf("node %d goes, node %d sees it", i, j), nodes[j].since(nodes[i].id).Sub(at))
		}
		waitFor(t, "avahi-browse lists the stopped node no more", func() bool {
			return !strings.Contains(hosts[2].browse(peerService), ";"+testID(i)+";")
		})
	}
}

func inTime(t *testing.T, what string, took time.Duration) {
	t.Helper()
	t.Logf("%s after %v", what, took)
	if took > noticed {
		t.Errorf("%s only after %v", what, took)
	}
}

// TestAvahiRestart has the node announced and answered for, whoever does it,
// and never by two.
func TestAvahiRestart(t *testing.T) {
	t.Parallel()
	lan := newNetwork(t, "b")
	watcher, h := lan.host("10.77.0.1/24"), lan.host("10.77.0.2/24")
	watcher.startBus()
	watcher.startAvahi("")
	h.startBus()
	n := h.node(nodeConfig{ID: testID(0), Port: 9977, Office: true})
	check := func(who string, answersWhilePaused int) {
		t.Helper()
		waitFor(t, who+" answers", func() bool {
			n.cmd.Process.Signal(syscall.SIGSTOP)
			paused := len(watcher.ask("eth0"))
			n.cmd.Process.Signal(syscall.SIGCONT)
			return paused == answersWhilePaused && len(watcher.ask("eth0")) == 1
		})
		if listed := watcher.browse(proxyService); !strings.Contains(listed, "=;eth0;IPv4;"+testID(0)) {
			t.Errorf("%s answers, but avahi-browse elsewhere lists:\n%s", who, listed)
		}
	}
	check("the node", 0)
	for range 2 {
		daemon := h.startAvahi("")
		check("Avahi", 1)
		daemon.Process.Kill()
		daemon.Wait()
		check("the node after Avahi's end", 0)
	}
}

// TestEachLinkIsToldItsOwn has a host with two interfaces tell each link only
// what can be reached there, also when addresses change.
func TestEachLinkIsToldItsOwn(t *testing.T) {
	t.Parallel()
	lan := newNetwork(t, "c")
	watcher, h := lan.host("10.77.0.1/24"), lan.host("10.77.0.2/24")
	other := newNetwork(t, "d")
	far := other.host("10.78.0.1/24")
	(&host{network: other, name: h.name}).plug("eth1", "10.78.0.2/24")
	h.node(nodeConfig{ID: testID(0), Port: 9977})

	told := func(who *host) (addrs []string) {
		for _, m := range who.ask("eth0") {
			for _, rr := range m.Answer {
				if a, ok := rr.(*dns.A); ok {
					addrs = append(addrs, a.A.String())
				}
			}
		}
		return addrs
	}
	waitFor(t, "each link is told its address", func() bool {
		return slices.Equal(told(watcher), []string{"10.77.0.2"}) && slices.Equal(told(far), []string{"10.78.0.2"})
	})
	h.ip(h.name, "addr del 10.77.0.2/24 dev eth0")
	h.ip(h.name, "addr add 10.77.0.9/24 dev eth0")
	h.ip(h.name, "link set eth1 down")
	waitFor(t, "the new address is told", func() bool { return slices.Equal(told(watcher), []string{"10.77.0.9"}) })
	if addrs := told(far); len(addrs) > 0 {
		t.Errorf("an interface that is down told %v", addrs)
	}
	h.ip(h.name, "link set eth1 up")
	waitFor(t, "the interface tells again", func() bool { return slices.Equal(told(far), []string{"10.78.0.2"}) })
}

// TestLateJoinerWithoutRoutes has a node find those that said hello before it
// came, over IPv4 alone and without a default route.
func TestLateJoinerWithoutRoutes(t *testing.T) {
	t.Parallel()
	lan := newNetwork(t, "e")
	var nodes []*testNode
	for i := range 2 {
		h := lan.host(fmt.Sprintf("10.77.0.%d/24", i+1))
		lan.sysctl(h.name, "net/ipv6/conf/all/disable_ipv6", "1")
		nodes = append(nodes, h.node(nodeConfig{ID: testID(i), Port: 9977}))
	}
	waitFor(t, "the late joiner knows the first", func() bool { return nodes[1].knows(testID(0)) })
	inTime(t, "the late joiner knows the first", nodes[1].since(testID(0)).Sub(nodes[1].started))
}

// TestStaticPeers has nodes in two subnets meet, one of which knows where the
// other is, and meet again after a restart under another id.
func TestStaticPeers(t *testing.T) {
	t.Parallel()
	lan := newNetwork(t, "f")
	lan.ip(lan.name, "addr add 10.77.0.254/24 dev sw")
	lan.ip(lan.name, "addr add 10.78.0.254/24 dev sw")
	lan.sysctl(lan.name, "net/ipv4/ip_forward", "1")
	a, b := lan.host("10.77.0.1/24"), lan.host("10.78.0.1/24")
	a.ip(a.name, "route add default via 10.77.0.254")
	b.ip(b.name, "route add default via 10.78.0.254")
	first := b.node(nodeConfig{ID: testID(1), Port: 9988, NoMDNS: true})
	n := a.node(nodeConfig{ID: testID(0), Port: 9977, NoMDNS: true, Static: []string{"10.78.0.1:9988"}})
	waitFor(t, "the static peer is known", func() bool { return n.members()[testID(1)] == "10.78.0.1:9988" })

	first.cmd.Process.Kill()
	first.cmd.Wait()
	b.node(nodeConfig{ID: testID(2), Port: 9988, NoMDNS: true})
	fmt.Fprintln(n.input, "failed", testID(1))
	waitFor(t, "the restarted peer replaces its former self", func() bool { return n.knows(testID(2)) && !n.knows(testID(1)) })
}

// TestHostilePackets has a stranger flood the link while a node comes.
func TestHostilePackets(t *testing.T) {
	t.Parallel()
	lan := newNetwork(t, "g")
	stranger := lan.host("10.77.0.66/24")
	victim := lan.host("10.77.0.1/24").node(nodeConfig{ID: testID(0), Port: 9977})
	flood := hostilePackets(t)
	conn := stranger.dial("eth0")
	var sent atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var flooding sync.WaitGroup
	flooding.Go(func() {
		for ; ctx.Err() == nil; sent.Add(1) {
			conn.WriteToUDPAddrPort(flood[int(sent.Load())%len(flood)], conn.group)
			if sent.Load()%3 == 0 {
				time.Sleep(time.Millisecond) // some 3,000 packets a second
			}
		}
	})
	waitFor(t, "the flood", func() bool { return sent.Load() > 1000 })
	n := lan.host("10.77.0.2/24").node(nodeConfig{ID: testID(1), Port: 9977})
	waitFor(t, "the node is known in spite of the flood", func() bool { return victim.knows(testID(1)) })
	if took := victim.since(testID(1)).Sub(n.started); took > 3*noticed { // the flood has a core of its own
		t.Errorf("the node is known in spite of the flood only after %v", took)
	}
	seen := sent.Load()
	waitFor(t, "more of the flood", func() bool { return sent.Load() > seen+3000 })
	cancel()
	flooding.Wait()
	if got := victim.rings(); len(got) != 2 || len(victim.members()) != 1 {
		t.Errorf("the flood changed the ring: %v", got)
	}
}

// hostilePackets are what a stranger sends: goodbyes of the living, nodes that
// are not there or off the link, foreign services, rubbish.
func hostilePackets(t *testing.T) [][]byte {
	var packets [][]byte
	for i := range 200 {
		z := testZone(t, fmt.Sprintf("%016x", 0xbad0000+i), fmt.Sprintf("10.77.0.%d", 100+i%100))
		packets = append(packets, pack(t, z.hello()), pack(t, z.goodbye()))
	}
	for i := range 2 {
		packets = append(packets, pack(t, testZone(t, testID(i), "8.8.8.8").goodbye()))
		packets = append(packets, pack(t, testZone(t, testID(i), "10.77.0.66").hello()))
	}
	return append(packets, []byte("\x08_apt-dht"), bytes.Repeat([]byte{0xc0}, 9000))
}
