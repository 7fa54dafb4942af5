// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
)

func init() {
	lanScenarios["MDNSFlood"] = lanMDNSFlood
	lanScenarios["UnknownVersion"] = lanUnknownVersion
}

var mdnsGroup = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}

// multicaster is a socket of a host from which mDNS answers may come.
func (h *lanHost) multicaster(ip string) net.PacketConn {
	h.t.Helper()
	var conn net.PacketConn
	check(h.t, h.inside(func() (err error) {
		if conn, err = net.ListenPacket("udp4", ip+":5353"); err != nil {
			return err
		}
		nic, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return ipv4.NewPacketConn(conn).SetMulticastInterface(nic)
	}))
	h.t.Cleanup(func() { conn.Close() })
	return conn
}

// mdnsHello is what a node of that id says when it comes.
func mdnsHello(t *testing.T, id, version, ip string) []byte {
	t.Helper()
	const service = "_apt-dht._tcp.local."
	instance, host := id+"."+service, "apt-dht-"+id+".local."
	header := func(name string, kind, class uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: kind, Class: class, Ttl: 120}
	}
	const flush = dns.ClassINET | 1<<15 // RFC 6762 §10.2
	msg := new(dns.Msg)
	msg.Response, msg.Authoritative = true, true
	msg.Answer = []dns.RR{
		&dns.PTR{Hdr: header(service, dns.TypePTR, dns.ClassINET), Ptr: instance},
		&dns.SRV{Hdr: header(instance, dns.TypeSRV, flush), Port: 9977, Target: host},
		&dns.TXT{Hdr: header(instance, dns.TypeTXT, flush), Txt: []string{"v=" + version, "id=" + id}},
		&dns.A{Hdr: header(host, dns.TypeA, flush), A: net.ParseIP(ip)},
	}
	packet, err := msg.Pack()
	check(t, err)
	return packet
}

// lanMDNSFlood: a host sends nonsense without a pause. Nodes find each other
// all the same, believe none of it, and serve.
func lanMDNSFlood(t *testing.T, w *world) {
	s := newLANSite(t, w, w.standard)
	flooder := newLANHost(t)
	flooder.plug(s.segment, "eth0", siteNet+"66/24")
	conn := flooder.multicaster(siteNet + "66")
	stop, stopped := make(chan struct{}), make(chan int)
	go func() { stopped <- flood(t, conn, stop) }()
	for range 2 {
		s.machine().serve()
	}
	acquainted(t, s.machines...)
	for _, m := range s.machines {
		m.update()
		m.download("e2e-everything")
		m.wantPackages(w.everything())
		if peers := m.status().LAN.Peers; len(peers) != 1 {
			t.Errorf("%s believes in %v", m.ip, peers)
		}
	}
	if got := s.mirror.requestsPerFile(); got > 1.05 {
		t.Errorf("the mirror was asked %.2f times for each file", got)
	}
	close(stop)
	if sent := <-stopped; sent < 1000 {
		t.Errorf("%d packets are no flood", sent)
	}
}

// flood multicasts every kind of nonsense, some 2,000 packets a second, and
// returns how many there were.
func flood(t *testing.T, conn net.PacketConn, stop chan struct{}) (sent int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return sent
		case <-tick.C:
		}
		for range 10 {
			conn.WriteTo(nonsense(t, sent), mdnsGroup)
			sent++
		}
	}
}

// nonsense is the i-th packet of a flood.
func nonsense(t *testing.T, i int) []byte {
	id := fmt.Sprintf("%016x", rand.Uint64())
	switch i % 6 {
	case 0: // nobody there
		return mdnsHello(t, id, "1", siteNet+fmt.Sprint(100+i%100))
	case 1: // off the link
		return mdnsHello(t, id, "1", "203.0.113.1")
	case 2: // no id
		return mdnsHello(t, `a\.b\\c`, "1", siteNet+"66")
	case 3: // a huge TXT
		return mdnsHello(t, id, strings.Repeat("x", 200), siteNet+"66")
	case 4: // a packet that breaks off
		whole := mdnsHello(t, id, "1", siteNet+"66")
		return whole[:len(whole)-1-i%len(whole)/2]
	default:
		return randomBytes(i%1400, fmt.Sprint(i))
	}
}

// lanUnknownVersion: nodes of a later version are left alone, and the log says
// so once, whether they are met by mDNS, as a static peer, or ask.
func lanUnknownVersion(t *testing.T, w *world) {
	s := newLANSite(t, w, w.standard)
	static, found := s.newLiar("66"), s.newLiar("67")
	for _, l := range []*liar{static, found} {
		l.version = 2
		l.serve()
	}
	m, other := s.machine(), s.machine()
	m.serve("--lan-peer", static.ip)
	conn := found.host.multicaster(found.ip)
	for range 3 {
		_, err := conn.WriteTo(mdnsHello(t, found.id, "2", found.ip), mdnsGroup)
		check(t, err)
	}
	eventually(t, "the static peer is probed", func() bool { return static.times(lanPing) >= 2 })
	other.serve()
	acquainted(t, m, other)
	for _, l := range []*liar{static, found} {
		if m.knows(l.id) {
			t.Errorf("%s of version 2 is a member", l.ip)
		}
		if n := strings.Count(m.warnings(), l.id) + strings.Count(m.warnings(), l.ip); n > 2 {
			t.Errorf("the log tells of %s %d times:\n%s", l.ip, n, m.warnings())
		}
	}
	if n := found.times(lanPing); n > 0 {
		t.Errorf("a node that says it is of version 2 is probed %d times", n)
	}

	for range 3 {
		body := `{"v":2,"id":"` + found.id + `","port":9977,"want":[]}`
		resp, text, err := m.request("POST", other.url(lanLookup), http.Header{"Content-Type": {"application/json"}}, body)
		if check(t, err); resp.StatusCode != http.StatusBadRequest || !strings.Contains(text, "version") {
			t.Errorf("a question of version 2 is answered with %s: %s", resp.Status, text)
		}
	}
	if told := strings.Count(other.warnings(), "another version"); told != 1 {
		t.Errorf("the log tells %d times of questions of version 2:\n%s", told, other.warnings())
	}
}

// warnings are the lines of the node's log that people see by default.
func (m *lanMachine) warnings() string {
	var b strings.Builder
	for line := range strings.Lines(m.log.String()) {
		if !strings.Contains(line, "level=DEBUG") {
			b.WriteString(line)
		}
	}
	return b.String()
}
