// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const (
	proxyPTR = "_apt_proxy._tcp.local. 10 IN PTR office._apt_proxy._tcp.local."
	proxySRV = "office._apt_proxy._tcp.local. 10 IN SRV 0 0 3142 office.local."
	proxyA   = "office.local. 10 IN A 10.0.0.2"
)

// TestOffers reads what responses name, hostile ones above all.
func TestOffers(t *testing.T) {
	for _, test := range []struct {
		why     string
		records []string
		want    string
	}{
		{"a proxy", []string{proxyPTR, proxySRV, proxyA}, "3142 [10.0.0.2]"},
		{"with two addresses", []string{proxySRV, proxyA, "office.local. 10 IN AAAA fe80::2"}, "3142 [10.0.0.2 fe80::2]"},
		{"without any", []string{proxySRV}, "3142 []"},
		{"in capitals", []string{"Office._APT_PROXY._TCP.Local. 10 IN SRV 0 0 3142 OFFICE.local.", proxyA}, "3142 [10.0.0.2]"},
		{"a name with a dot and a blank", []string{`my\.proxy\ 1._apt_proxy._tcp.local. 10 IN SRV 0 0 3142 office.local.`, proxyA}, "3142 [10.0.0.2]"},
		{"a name with control characters", []string{`\000\010\255._apt_proxy._tcp.local. 10 IN SRV 0 0 3142 office.local.`, proxyA}, "3142 [10.0.0.2]"},
		{"a PTR alone", []string{proxyPTR}, ""},
		{"a goodbye", []string{strings.Replace(proxySRV, " 10 ", " 0 ", 1), proxyA}, ""},
		{"another service", []string{"office._ipp._tcp.local. 10 IN SRV 0 0 631 office.local.", proxyA}, ""},
		{"the service in one label", []string{`office\._apt_proxy._tcp.local. 10 IN SRV 0 0 3142 office.local.`, proxyA}, ""},
		{"a name below an instance", []string{"a.office._apt_proxy._tcp.local. 10 IN SRV 0 0 3142 office.local.", proxyA}, ""},
		{"the service itself", []string{"_apt_proxy._tcp.local. 10 IN SRV 0 0 3142 office.local.", proxyA}, ""},
		{"another domain", []string{"office._apt_proxy._tcp.example. 10 IN SRV 0 0 3142 office.local.", proxyA}, ""},
		{"another host's address", []string{proxySRV, "other.local. 10 IN A 10.0.0.3"}, "3142 []"},
		{"a thousand", slices.Repeat([]string{proxySRV}, 1000), strings.Repeat(", 3142 []", maxSightings)[2:]},
	} {
		msg := &dns.Msg{Answer: records(t, test.records[:1]...), Extra: records(t, test.records[1:]...)}
		var got []string
		for _, o := range offers(msg) {
			got = append(got, fmt.Sprint(o.port, " ", fmt.Sprint(o.addrs)))
		}
		if got := strings.Join(got, ", "); got != test.want {
			t.Errorf("%s: got %s, want %s", test.why, got, test.want)
		}
	}
}

// TestSearchBounds has sources name addresses of all kinds, and too many.
func TestSearchBounds(t *testing.T) {
	links, err := LocalLinks([]string{"none"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := testNIC("eth0", ethernet, "10.0.0.1/16", "2001:db8::1/64", "fd00::1/64", "fe80::1/64")
	links.nics = []nic{n}
	var told []string
	s := &search{links: links, found: func(a netip.AddrPort) { told = append(told, a.String()) }, perSource: make(map[netip.Addr]int)}
	source := netip.MustParseAddr("10.0.0.2")
	add := func(source netip.Addr, addrs ...string) {
		for _, a := range addrs {
			at := netip.MustParseAddrPort(a)
			s.add(n, source, at.Addr(), at.Port())
		}
	}
	add(source, "8.8.8.8:3142", "10.1.0.2:3142", "127.0.0.1:3142", "[::1]:3142", "0.0.0.0:3142", "10.0.255.255:3142", "224.0.0.251:3142",
		"[2001:db8::2]:3142", "[fd01::2]:3142", "[ff02::1]:3142", "10.0.0.2:0", "10.0.0.2:25", "10.0.0.2:443")
	if len(told) > 0 {
		t.Errorf("passed on: %v", told)
	}
	add(source, "10.0.0.2:3142", "10.0.0.2:3142", "10.0.0.2:80", "[fd00::2]:1024", "[fe80::2]:65535")
	want := []string{"10.0.0.2:3142", "10.0.0.2:80", "[fd00::2]:1024", "[fe80::2%eth0]:65535"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
	for i := range 1000 {
		add(source, fmt.Sprintf("10.0.0.2:%d", 2000+i))
	}
	if len(told) != maxProxiesPerSource {
		t.Errorf("one source named %d", len(told))
	}
	for i := range 1000 {
		add(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), fmt.Sprintf("10.0.0.2:%d", 10000+i))
	}
	if len(told) != MaxProxies {
		t.Errorf("all sources named %d", len(told))
	}
}

func TestNear(t *testing.T) {
	l := &Links{nics: []nic{testNIC("eth0", ethernet, "10.0.0.1/24", "2001:db8::1/64", "fe80::1/64")}}
	for addr, want := range map[string]bool{
		"10.0.0.2": true, "10.0.0.1": true, "fe80::2%eth0": true,
		"fe80::2": false, "fe80::2%eth1": false, "10.0.1.2": false, "2001:db8::2": false, "169.254.1.1": false, "127.0.0.1": false,
	} {
		if got := l.Near(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	other := &Links{nics: []nic{testNIC("eth0", ethernet, "10.0.0.9/24")}}
	if l.String() == other.String() || l.String() != (&Links{nics: slices.Clone(l.nics)}).String() {
		t.Errorf("%s and %s", l, other)
	}
}

// findProxies searches from a host until done is satisfied, or for a while.
func (h *host) findProxies(t *testing.T, done func(found []string) bool) (found []string, took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	start := time.Now()
	h.inside(func() {
		links, err := LocalLinks(nil, nil)
		if err != nil {
			t.Error(err)
			return
		}
		links.FindProxies(ctx, func(at netip.AddrPort) {
			found = append(found, at.String())
			if done(found) {
				took = time.Since(start)
				cancel()
			}
		})
	})
	slices.Sort(found)
	return found, took
}

// publish has the host's Avahi announce a service, as apt-cacher-ng does.
func (h *host) publish(args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := h.program("true", nil, append([]string{"avahi-publish-service"}, args...)...)
	h.run(cmd)
	return cmd
}

// TestFindProxies finds proxies that Avahi announces and nodes that do so
// themselves, from hosts with Avahi and without.
func TestFindProxies(t *testing.T) {
	lan := newNetwork(t, "p")
	var hosts []*host
	for i := range 4 {
		hosts = append(hosts, lan.host(fmt.Sprintf("10.77.0.%d/24", i+1)))
	}
	hosts[1].startBus()
	hosts[1].startAvahi("")
	hosts[1].publish("An office's proxy", proxyService, "3142")
	hosts[2].node(nodeConfig{ID: testID(2), Port: 9977, Office: true})
	hosts[3].startBus()
	hosts[3].startAvahi("")
	hosts[3].publish("office, too", proxyService, "0")

	both := func(found []string) bool {
		return slices.Contains(found, "10.77.0.2:3142") && slices.Contains(found, "10.77.0.3:9977")
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", hosts[0].busAddress())
	found, took := hosts[0].findProxies(t, both)
	t.Logf("without Avahi in %v: %v", took, found)
	if !both(found) {
		t.Errorf("without Avahi: %v", found)
	}
	for _, at := range found {
		if netip.MustParseAddrPort(at).Port() == 0 {
			t.Errorf("port 0 was passed on: %s", at)
		}
	}
	// Its firewall lets in nothing but what Avahi hears.
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", hosts[3].bus)
	command(t, "ip", "netns", "exec", hosts[3].name, "nft",
		"add table inet wall; add chain inet wall in { type filter hook input priority 0; }; add rule inet wall in iif eth0 udp dport != 5353 drop")
	found, took = hosts[3].findProxies(t, both)
	t.Logf("through Avahi in %v: %v", took, found)
	if !both(found) {
		t.Errorf("through Avahi: %v", found)
	}
}

// TestFindProxiesInAFlood has a stranger answer queries with rubbish, and with
// proxies that are not there.
func TestFindProxiesInAFlood(t *testing.T) {
	lan := newNetwork(t, "q")
	client, stranger := lan.host("10.77.0.1/24"), lan.host("10.77.0.66/24")
	lan.host("10.77.0.2/24").node(nodeConfig{ID: testID(2), Port: 9977, Office: true})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", client.busAddress())
	heard, conn := stranger.dial("eth0"), stranger.dial("eth0")
	var answering sync.WaitGroup
	answering.Go(func() {
		buf := make([]byte, maxPacket)
		for {
			n, from, err := heard.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			query := new(dns.Msg)
			if query.Unpack(buf[:n]) != nil || query.Response || from.Addr().String() != "10.77.0.1" {
				continue
			}
			for _, packet := range hostileAnswers(t, query.Id) {
				conn.WriteToUDPAddrPort(packet, from)
			}
		}
	})
	found, took := client.findProxies(t, func(found []string) bool {
		return slices.Contains(found, "10.77.0.2:9977") && len(found) > maxProxiesPerSource
	})
	heard.Close()
	answering.Wait()
	t.Logf("in %v: %v", took, found)
	if !slices.Contains(found, "10.77.0.2:9977") {
		t.Errorf("the proxy is not found among %v", found)
	}
	if len(found) > maxProxiesPerSource+3 {
		t.Errorf("%d addresses were passed on: %v", len(found), found)
	}
	for _, at := range found {
		if addr := netip.MustParseAddrPort(at).Addr(); !netip.MustParsePrefix("10.77.0.0/24").Contains(addr) && !addr.IsLinkLocalUnicast() {
			t.Errorf("%s is not on the link", at)
		}
	}
}

// hostileAnswers are what a stranger sends to an asker.
func hostileAnswers(t *testing.T, id uint16) (packets [][]byte) {
	for i := range 500 {
		m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: id, Response: true}, Answer: records(t,
			fmt.Sprintf(`\000\255.%d._apt_proxy._tcp.local. 10 IN SRV 0 0 3142 h.local.`, i),
			fmt.Sprintf("p%d._apt_proxy._tcp.local. 10 IN SRV 0 0 %d h.local.", i, 3142+i),
			"h.local. 10 IN A 8.8.8.8", "h.local. 10 IN A 10.77.0.77")}
		packets = append(packets, pack(t, m), []byte("\x0a_apt_proxy"))
	}
	return packets
}

// FuzzOffers: whatever a packet holds, what it offers stays within its bounds,
// and what is passed on is on the link.
func FuzzOffers(f *testing.F) {
	for _, lines := range [][]string{{proxyPTR, proxySRV, proxyA}, {`\.._apt_proxy._tcp.local. 1 IN SRV 0 0 0 .`}, {proxyPTR}} {
		f.Add(pack(f, &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Answer: records(f, lines...)}))
	}
	n := testNIC("eth0", ethernet, "10.0.0.1/24", "fe80::1/64")
	links, err := LocalLinks([]string{"none"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		msg := unpack(slices.Clone(packet))
		if msg == nil {
			return
		}
		found := offers(msg)
		if len(found) > maxSightings {
			t.Errorf("%d offers", len(found))
		}
		s := &search{links: links, perSource: make(map[netip.Addr]int), found: func(at netip.AddrPort) {
			if !n.near(at.Addr()) || !proxyPort(at.Port()) {
				t.Errorf("%s was passed on", at)
			}
		}}
		for _, o := range found {
			if len(o.addrs) > maxAddrs {
				t.Errorf("%d addresses", len(o.addrs))
			}
			for _, a := range o.addrs {
				s.add(n, netip.MustParseAddr("10.0.0.2"), a, o.port)
			}
		}
	})
}
