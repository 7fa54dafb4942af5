// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/mdns"
	"github.com/miekg/dns"
)

// records reads records in the notation of zone files.
func records(t testing.TB, lines ...string) (rrs []dns.RR) {
	t.Helper()
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

const (
	ptr1  = "_apt-dht._tcp.local. 120 IN PTR 0000000000000002._apt-dht._tcp.local."
	srv1  = "0000000000000002._apt-dht._tcp.local. 120 IN SRV 10 1 9977 apt-dht-0000000000000002.local."
	txt1  = `0000000000000002._apt-dht._tcp.local. 120 IN TXT "v=1" "id=0000000000000002"`
	addr1 = "apt-dht-0000000000000002.local. 120 IN A 10.0.0.2"
)

// TestWhatIsHeard sends packets to a link on 10.0.0.0/24 and looks at what the
// membership learns.
func TestWhatIsHeard(t *testing.T) {
	const from = "10.0.0.2:5353"
	for _, test := range []struct {
		why     string
		from    string
		records []string
		want    string
	}{
		{"a hello", from, []string{ptr1, srv1, txt1, addr1}, "[10.0.0.2:9977]"},
		{"without PTR", from, []string{srv1, txt1, addr1}, "[10.0.0.2:9977]"},
		{"without address", from, []string{ptr1, srv1, txt1}, "[10.0.0.2:9977]"},
		{"over IPv6", "[fe80::2%eth0]:5353", []string{ptr1, srv1, txt1, addr1}, "[10.0.0.2:9977 [fe80::2%eth0]:9977]"},
		{"in capitals", from, []string{strings.ToUpper(addr1), srv1, txt1}, "[10.0.0.2:9977]"},
		{"of a second address", from, []string{srv1, txt1, "apt-dht-0000000000000002.local. 120 IN A 10.0.0.7"}, "[10.0.0.7:9977 10.0.0.2:9977]"},
		{"without port", from, []string{ptr1, txt1, addr1}, ""},
		{"with port 0", from, []string{ptr1, strings.Replace(srv1, "9977", "0", 1), txt1, addr1}, ""},
		{"of another version", from, []string{ptr1, srv1, strings.Replace(txt1, "v=1", "v=2", 1), addr1}, ""},
		{"of another's id", from, []string{srv1, strings.Replace(txt1, "id=0000000000000002", "id=0000000000000003", 1)}, ""},
		{"with a huge TXT", from, []string{srv1, txt1 + strings.Repeat(` "x"`, 100)}, ""},
		{"from off the link", "10.0.1.2:5353", []string{ptr1, srv1, txt1, addr1}, ""},
		{"from another port", "10.0.0.2:5354", []string{ptr1, srv1, txt1, addr1}, ""},
		{"of addresses off the link", from, []string{srv1, txt1, "apt-dht-0000000000000002.local. 120 IN A 8.8.8.8", "apt-dht-0000000000000002.local. 120 IN AAAA ::1"}, "[10.0.0.2:9977]"},
		{"of another service", from, []string{"_ipp._tcp.local. 120 IN PTR 0000000000000002._ipp._tcp.local.", "0000000000000002._ipp._tcp.local. 120 IN SRV 0 0 631 apt-dht-0000000000000002.local."}, ""},
		{"of a name with a dot", from, []string{`a\.0000000000000002._apt-dht._tcp.local. 120 IN SRV 0 0 9977 x.local.`, addr1}, ""},
		{"of a name with escapes", from, []string{`000000000000000\000._apt-dht._tcp.local. 120 IN SRV 0 0 9977 x.local.`}, ""},
		{"of a long name", from, []string{"0000000000000002f._apt-dht._tcp.local. 120 IN SRV 0 0 9977 x.local."}, ""},
		{"of another domain", from, []string{"0000000000000002._apt-dht._tcp.example. 120 IN SRV 0 0 9977 x.local."}, ""},
		{"of our own", from, []string{"0000000000000001._apt-dht._tcp.local. 120 IN SRV 0 0 9977 x.local."}, ""},
	} {
		l := testLink(t)
		packet := pack(t, &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Answer: records(t, test.records...)})
		l.handle(nil, packet, ap(test.from))
		got := ""
		if n := l.members.nodes[testID(1)]; n != nil {
			got = fmt.Sprint(n.addrs)
		}
		if got != test.want || len(l.members.nodes) > 1 {
			t.Errorf("a hello %s: got %s, want %s; %d nodes", test.why, got, test.want, len(l.members.nodes))
		}
	}
}

func TestGoodbyeIsHeard(t *testing.T) {
	for _, line := range []string{ptr1, srv1} {
		l := testLink(t)
		l.handle(nil, pack(t, multicast(records(t, srv1))), ap("10.0.0.2:5353"))
		l.handle(nil, pack(t, multicast(records(t, strings.Replace(line, " 120 ", " 0 ", 1)))), ap("10.0.0.3:5353"))
		if n := l.members.nodes[testID(1)]; n == nil || n.doubtsLeft != doubts {
			t.Errorf("%s with TTL 0: %+v", line, n)
		}
	}
}

func TestEntriesOfABrowse(t *testing.T) {
	good := mdns.ServiceEntry{
		Name: testID(1) + "._apt-dht._tcp.local.", Port: 9977,
		AddrV4:       net.IPv4(10, 0, 0, 2),
		AddrV6IPAddr: &net.IPAddr{IP: net.ParseIP("fe80::2")},
		InfoFields:   []string{"v=1", "id=" + testID(1)},
	}
	s, ok := ofEntry(&good)
	if !ok || s.id != testID(1) || s.version() != mdnsVersion || fmt.Sprint(s.addrs) != "[10.0.0.2 fe80::2]" {
		t.Errorf("got %+v, %v", s, ok)
	}
	for why, spoil := range map[string]func(*mdns.ServiceEntry){
		"another service": func(e *mdns.ServiceEntry) { e.Name = "x._ipp._tcp.local." },
		"port 0":          func(e *mdns.ServiceEntry) { e.Port = 0 },
		"port 65536":      func(e *mdns.ServiceEntry) { e.Port = 65536 },
	} {
		bad := good
		spoil(&bad)
		if s, ok := ofEntry(&bad); ok {
			t.Errorf("%s is taken as %+v", why, s)
		}
	}
}

func TestMeter(t *testing.T) {
	var m meter
	now := time.Now()
	admitted := func(source string, packets int) (count int) {
		for range packets {
			if m.admits(netip.MustParseAddr(source), now) {
				count++
			}
		}
		return count
	}
	if n := admitted("10.0.0.1", 1000); n != sourceRate {
		t.Errorf("%d packets of one source", n)
	}
	if n := admitted("10.0.0.2", 5); n != 5 {
		t.Errorf("%d of 5 packets of another", n)
	}
	total := 0
	for i := range 100 {
		total += admitted(fmt.Sprintf("10.0.1.%d", i), 1000)
	}
	if total != linkRate-sourceRate-5 || len(m.counts) > linkRate {
		t.Errorf("%d more packets, %d sources", total, len(m.counts))
	}
	now = now.Add(time.Second)
	if n := admitted("10.0.0.1", 1000); n != sourceRate {
		t.Errorf("%d packets in the next second", n)
	}
}

// FuzzHandle has packets come to a link: whatever they are, what is learnt
// stays within its bounds.
func FuzzHandle(f *testing.F) {
	f.Add(pack(f, testZone(f, testID(1), "10.0.0.2", "fd00::2").hello()), true)
	f.Add(pack(f, testZone(f, testID(1), "10.0.0.2").goodbye()), true)
	f.Add(pack(f, question()), false)
	f.Add([]byte("\x00\x00\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00\x08_apt-dht\xc0\x0c"), true)
	f.Fuzz(func(t *testing.T, packet []byte, mdnsPortUsed bool) {
		l := testLink(t)
		from := ap("10.0.0.2:5353")
		if !mdnsPortUsed {
			from = ap("10.0.0.2:40000")
		}
		l.handle(nil, slices.Clone(packet), from)
		if len(l.members.nodes) > maxSightings {
			t.Errorf("one packet made %d nodes", len(l.members.nodes))
		}
		for id, n := range l.members.nodes {
			if !idPattern.MatchString(id) || id == testID(0) || n.joined || len(n.addrs) == 0 || len(n.addrs) > maxAddrs {
				t.Errorf("node %q: %+v", id, n)
			}
			for _, a := range n.addrs {
				if !l.nic.reaches(a.Addr()) || a.Port() == 0 {
					t.Errorf("node %q is said to be at %s", id, a)
				}
			}
		}
		if !mdnsPortUsed && len(l.members.nodes) > 0 {
			t.Error("a response from another port was heard")
		}
		if msg := unpack(packet); msg != nil {
			reply, _ := l.zone.reply(msg, false)
			if reply != nil && len(pack(t, reply)) > 1400 {
				t.Error("the reply does not fit a packet")
			}
		}
	})
}

// testLink is the first node's on a network; it has no sockets and is silent.
func testLink(t testing.TB) *link {
	log := slog.New(slog.DiscardHandler)
	return &link{
		nic:     testNIC("eth0", ethernet, "10.0.0.1/24", "fd00::1/64", "fe80::1/64"),
		zone:    testZone(t, testID(0), "10.0.0.1"),
		members: newMembership(testID(0), (&fakeLAN{}).probe, log),
		log:     log,
		foreign: new(sync.Once),
	}
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packet
}
