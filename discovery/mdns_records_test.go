// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// testZone describes a node.
func testZone(t testing.TB, id string, addrs ...string) zone {
	t.Helper()
	var parsed []netip.Addr
	for _, a := range addrs {
		parsed = append(parsed, netip.MustParseAddr(a))
	}
	z, err := newZone(Config{ID: id, Port: 9977}, parsed)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// lines are a message's records in the notation of zone files.
func lines(m *dns.Msg) (text []string) {
	for _, rr := range m.Answer {
		text = append(text, rr.String())
	}
	return text
}

func TestHelloAndGoodbye(t *testing.T) {
	z, err := newZone(Config{ID: testID(0), Port: 9977, OfficeProxy: netip.Addr.Is4},
		[]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"_services._dns-sd._udp.local.\t120\tIN\tPTR\t_apt-dht._tcp.local.",
		"_services._dns-sd._udp.local.\t120\tIN\tPTR\t_apt_proxy._tcp.local.",
		"_apt-dht._tcp.local.\t120\tIN\tPTR\t0000000000000001._apt-dht._tcp.local.",
		"0000000000000001._apt-dht._tcp.local.\t120\tCLASS32769\tSRV\t10 1 9977 apt-dht-0000000000000001.local.",
		"apt-dht-0000000000000001.local.\t120\tCLASS32769\tA\t10.0.0.1",
		"apt-dht-0000000000000001.local.\t120\tCLASS32769\tAAAA\tfd00::1",
		"0000000000000001._apt-dht._tcp.local.\t120\tCLASS32769\tTXT\t\"v=1\" \"id=0000000000000001\"",
		"_apt_proxy._tcp.local.\t120\tIN\tPTR\t0000000000000001._apt_proxy._tcp.local.",
		"0000000000000001._apt_proxy._tcp.local.\t120\tCLASS32769\tSRV\t10 1 9977 apt-proxy-0000000000000001.local.",
		"apt-proxy-0000000000000001.local.\t120\tCLASS32769\tA\t10.0.0.1",
		"0000000000000001._apt_proxy._tcp.local.\t120\tCLASS32769\tTXT\t\"v=1\" \"id=0000000000000001\"",
	}
	hello := z.hello()
	if diff := cmp.Diff(want, lines(hello)); diff != "" {
		t.Error(diff)
	}
	if packet, err := hello.Pack(); err != nil || len(packet) > 1400 {
		t.Errorf("a hello of %d bytes, %v", len(packet), err)
	}
	goodbye := z.goodbye()
	for _, rr := range goodbye.Answer {
		if rr.Header().Ttl != 0 {
			t.Errorf("goodbye leaves %s", rr)
		}
	}
	if len(goodbye.Answer) != len(want) {
		t.Errorf("goodbye has %d records", len(goodbye.Answer))
	}
}

func TestNoAddressesNoRecords(t *testing.T) {
	z, err := newZone(Config{ID: testID(0), Port: 9977}, nil)
	if err != nil || len(z) > 0 {
		t.Errorf("newZone: %v, %v", z, err)
	}
}

func TestReply(t *testing.T) {
	const (
		service  = peerService + "." + domain
		instance = "0000000000000001." + service
		host     = "apt-dht-0000000000000001.local."
	)
	ask := func(name string, kind, class uint16) *dns.Msg {
		return &dns.Msg{MsgHdr: dns.MsgHdr{Id: 7}, Question: []dns.Question{{Name: name, Qtype: kind, Qclass: class}}}
	}
	knows := func(m *dns.Msg, ttl uint32) *dns.Msg {
		m.Answer = []dns.RR{&dns.PTR{Hdr: dns.RR_Header{Name: service, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}, Ptr: instance}}
		return m
	}
	z := testZone(t, testID(0), "10.0.0.1")
	for _, test := range []struct {
		why     string
		query   *dns.Msg
		legacy  bool
		records int
		unicast bool
	}{
		{"a browser", ask(service, dns.TypePTR, 1), false, 4, false},
		{"in capitals", ask("_APT-DHT._TCP.Local.", dns.TypePTR, 1), false, 4, false},
		{"that wants unicast", ask(service, dns.TypePTR, 1|topBit), false, 4, true},
		{"a one-shot querier", ask(service, dns.TypePTR, 1), true, 4, true},
		{"one that knows us", knows(ask(service, dns.TypePTR, 1), 100), false, 0, false},
		{"one that will soon forget us", knows(ask(service, dns.TypePTR, 1), 59), false, 4, false},
		{"a resolver", ask(instance, dns.TypeSRV, 1), false, 2, false},
		{"of the host", ask(host, dns.TypeA, 1), false, 1, false},
		{"of an address that we lack", ask(host, dns.TypeAAAA, 1), false, 0, false},
		{"an enumeration", ask(enumeration, dns.TypePTR, 1), false, 1, false},
		{"another service", ask("_ipp._tcp.local.", dns.TypePTR, 1), false, 0, false},
		{"a service that we do not offer", ask(proxyService+"."+domain, dns.TypePTR, 1), false, 0, false},
		{"no question", &dns.Msg{}, false, 0, false},
	} {
		reply, unicast := z.reply(test.query, test.legacy)
		if reply == nil {
			if test.records > 0 {
				t.Errorf("%s: no reply", test.why)
			}
			continue
		}
		if len(reply.Answer) != test.records || unicast != test.unicast {
			t.Errorf("%s: unicast %v:\n%s", test.why, unicast, reply)
		}
		for _, rr := range reply.Answer {
			if test.legacy && (rr.Header().Ttl > legacyTTL || rr.Header().Class&topBit != 0) {
				t.Errorf("%s is told %s", test.why, rr)
			}
		}
		if echoed := reply.Id == 7 && len(reply.Question) == 1; echoed != test.legacy {
			t.Errorf("%s: id %d, %d questions", test.why, reply.Id, len(reply.Question))
		}
	}
}

func TestRdata(t *testing.T) {
	z := testZone(t, testID(0), "10.0.0.1", "fd00::1")
	want := map[uint16][]byte{
		dns.TypeA:    {10, 0, 0, 1},
		dns.TypeAAAA: net.ParseIP("fd00::1"),
		dns.TypeTXT:  []byte("\x03v=1\x13id=0000000000000001"),
		dns.TypeSRV:  []byte("\x00\x0a\x00\x01\x26\xf9\x18apt-dht-0000000000000001\x05local\x00"),
	}
	for _, rr := range z.all() {
		data, err := rdata(rr)
		if err != nil {
			t.Errorf("%s: %v", rr, err)
		}
		if w := want[rr.Header().Rrtype]; w != nil && !bytes.Equal(data, w) {
			t.Errorf("the data of %s is %q, not %q", rr, data, w)
		}
		delete(want, rr.Header().Rrtype)
	}
	if len(want) > 0 {
		t.Errorf("there were no records of types %v", want)
	}
}
