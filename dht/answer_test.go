// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
)

// recorder is a socket that keeps what is sent and receives nothing.
type recorder struct {
	net.PacketConn
	local netip.AddrPort
	sent  []packet
}

func (r *recorder) WriteTo(b []byte, to net.Addr) (int, error) {
	addr, _ := udpAddrPort(to)
	r.sent = append(r.sent, packet{append([]byte(nil), b...), addr})
	return len(b), nil
}

func (r *recorder) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(r.local) }

// desk is a node that does not run, at which packets are put by hand.
type desk struct {
	*Node
	t      testing.TB
	conn   *recorder
	conn6  *recorder
	floods *floods
}

func newDesk(t testing.TB, private bool) *desk {
	d := &desk{t: t, conn: &recorder{local: publicAddr(0)}, conn6: &recorder{}, floods: newFloods()}
	n, err := New(Config{
		IPv4: d.conn, IPv6: d.conn6, Private: private, Reachable: at(7000), Bootstrap: []string{}, Log: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Node = n
	return d
}

// put hands in a packet and returns what the node sent thereupon.
func (d *desk) put(b []byte, from netip.AddrPort) []packet {
	f, conn := d.families[0], d.conn
	if !from.Addr().Is4() {
		f, conn = d.families[1], d.conn6
	}
	conn.sent = nil
	f.socket.take(b, net.UDPAddrFromAddrPort(from), d.floods)
	return conn.sent
}

// query asks and returns the answer; nil: none came.
func (d *desk) query(from netip.AddrPort, method string, args *krpc.MsgArgs) *krpc.Msg {
	d.t.Helper()
	b, err := encode(krpc.Msg{T: "tx", Y: "q", Q: method, A: args})
	if err != nil {
		d.t.Fatal(err)
	}
	sent := d.put(b, from)
	if len(sent) == 0 {
		return nil
	}
	m, err := decode(sent[0].bytes)
	if err != nil || len(sent) > 1 || sent[0].from != from || m.T != "tx" {
		d.t.Fatalf("%d packets, the first to %v: %q: %v", len(sent), sent[0].from, sent[0].bytes, err)
	}
	return &m
}

func args(n int) *krpc.MsgArgs {
	return &krpc.MsgArgs{ID: keyOf(n), Target: keyOf(5), InfoHash: keyOf(5)}
}

func TestAnswers(t *testing.T) {
	d := newDesk(t, false)
	from, own := publicAddr(50), krpc.ID(d.families[0].ownID())
	for i := range 20 {
		d.families[0].table.add(contact{keyOf(100 + i), publicAddr(100 + i)}, time.Now())
	}
	d.families[0].table.add(contact{keyOf(200), publicAddr(200)}, time.Time{})
	nearest := d.families[0].table.nearest(keyOf(5), bucketSize)
	for _, method := range []string{"ping", "find_node", "get_peers", "sample_infohashes"} {
		m := d.query(from, method, args(1))
		if m == nil || m.Y != "r" || m.R.ID != own {
			t.Fatalf("%s: %+v", method, m)
		}
		if got, _ := wireAddrPort(m.IP.IP, m.IP.Port); got != from {
			t.Errorf("%s: we say that the asker is at %v", method, got)
		}
		if method == "ping" {
			continue
		}
		if len(m.R.Nodes) != bucketSize || m.R.Nodes[0].ID != nearest[0].id {
			t.Errorf("%s: nodes are %v, want %v", method, m.R.Nodes, nearest)
		}
		if (m.R.Token != nil) != (method == "get_peers") {
			t.Errorf("%s: token is %v", method, m.R.Token)
		}
	}
	for _, method := range []string{"vote", "put", ""} {
		m := d.query(from, method, &krpc.MsgArgs{ID: keyOf(1), Token: "x", Target: keyOf(5)})
		if m == nil || m.Y != "e" || m.E.Code != krpc.ErrorCodeMethodUnknown {
			t.Errorf("%q: %+v", method, m)
		}
	}
	if m := d.query(from, "announce_peer", nil); m != nil {
		t.Errorf("a query without arguments is answered: %+v", m)
	}
}

func TestAnswersOfTwoFamilies(t *testing.T) {
	d := newDesk(t, false)
	v6 := netip.MustParseAddrPort("[2a00:1::1]:6881")
	d.families[0].table.add(contact{keyOf(100), publicAddr(100)}, time.Now())
	d.families[1].table.add(contact{keyOf(101), v6}, time.Now())
	for _, c := range []struct {
		from netip.AddrPort
		want []krpc.Want
		n4   int
		n6   int
	}{
		{publicAddr(1), nil, 1, 0},
		{netip.MustParseAddrPort("[2a00:2::1]:6881"), nil, 0, 1},
		{publicAddr(1), []krpc.Want{"n6"}, 0, 1},
		{publicAddr(1), []krpc.Want{"n4", "n6"}, 1, 1},
		{publicAddr(1), []krpc.Want{"n7"}, 0, 0},
	} {
		a := args(1)
		a.Want = c.want
		m := d.query(c.from, "find_node", a)
		if len(m.R.Nodes) != c.n4 || len(m.R.Nodes6) != c.n6 {
			t.Errorf("%v wants %v: %d and %d nodes", c.from, c.want, len(m.R.Nodes), len(m.R.Nodes6))
		}
	}
}

func TestAnnouncesAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, false)
		from, thief := publicAddr(50), publicAddr(51)
		token := *d.query(from, "get_peers", args(1)).R.Token
		port := 8000
		announce := func(from netip.AddrPort, token string, port *int, implied bool) *krpc.Msg {
			a := args(1)
			a.Token, a.Port, a.ImpliedPort = token, port, implied
			return d.query(from, "announce_peer", a)
		}
		low, high := 80, 70000
		for what, m := range map[string]*krpc.Msg{
			"another's token": announce(thief, token, &port, false),
			"a forged token":  announce(from, strings.Repeat("x", tokenLength), &port, false),
			"no token":        announce(from, "", &port, false),
			"no port":         announce(from, token, nil, false),
			"a low port":      announce(from, token, &low, false),
			"a high port":     announce(from, token, &high, false),
		} {
			if m == nil || m.Y != "e" {
				t.Errorf("%s: %+v", what, m)
			}
		}
		if d.Stats().Peers != 0 {
			t.Fatal("a wrong announce was stored")
		}
		for _, implied := range []bool{false, true} {
			if m := announce(from, token, &port, implied); m.Y != "r" {
				t.Fatalf("a right announce: %+v", m)
			}
		}
		var got []string
		for _, v := range d.query(thief, "get_peers", args(1)).R.Values {
			got = append(got, v.String())
		}
		if len(got) != 2 || d.Stats().Peers != 2 {
			t.Errorf("stored are %v", got)
		}
		refused := 0
		for more := range 20 {
			more += 8001
			if announce(from, token, &more, false).Y == "e" {
				refused++
			}
		}
		if refused == 0 || 20-refused != d.Stats().Peers-2 {
			t.Errorf("of 20 more, %d are said to be refused, and %d are stored", refused, d.Stats().Peers-2)
		}
		time.Sleep(2 * tokenAge)
		if m := announce(from, token, &port, false); m.Y != "e" {
			t.Error("an old token is good")
		}
		time.Sleep(peerTTL)
		if m := d.query(thief, "get_peers", args(1)); len(m.R.Values) != 0 {
			t.Errorf("an old announce is handed out: %v", m.R.Values)
		}
	})
}

func TestReadOnlyDoesNotAnswer(t *testing.T) {
	d := newDesk(t, false)
	d.families[0].readOnly = true
	if m := d.query(publicAddr(1), "ping", args(1)); m != nil {
		t.Errorf("a read-only node answers: %+v", m)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, false)
		answered := 0
		for i := range 2000 {
			if d.query(publicAddr(i), "ping", args(1)) != nil {
				answered++
			}
		}
		if answered > answerBurst {
			t.Errorf("%d answers at once", answered)
		}
		time.Sleep(10 * time.Second)
		answered = 0
		for range 200 {
			if d.query(publicAddr(1), "ping", args(1)) != nil {
				answered++
			}
		}
		if answered > maxUnasked {
			t.Errorf("one network got %d answers in a second", answered)
		}
	})
}

// Those who ask without end leave answers for those who do not.
func TestEagerAskersLeaveSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, false)
		modest, eager := 0, 0
		for range 10 {
			for i := range 10 * maxUnasked {
				if d.query(publicAddr(i%10), "ping", args(1)) != nil {
					eager++
				}
			}
			for i := range 50 {
				if d.query(publicAddr(10+i), "ping", args(1)) != nil {
					modest++
				}
			}
			time.Sleep(time.Second)
		}
		if modest < 450 { // now and then one shares its counter with an eager one
			t.Errorf("of 500 modest questions %d are answered", modest)
		}
		if eager < 10*answerRate/4 {
			t.Errorf("eager ones get %d answers, though nobody else wants them", eager)
		}
	})
}

// TestAnswerSize has a full table and a full swarm told in one packet.
func TestAnswerSize(t *testing.T) {
	d := newDesk(t, false)
	for i := range 300 {
		d.families[0].table.add(contact{keyOf(i), publicAddr(i)}, time.Now())
		d.families[1].table.add(contact{keyOf(i), publicAddr6(i)}, time.Now())
		d.families[0].peers.add(keyOf(5), publicAddr(i), 8000)
		d.families[1].peers.add(keyOf(5), publicAddr6(i), 8000)
	}
	for _, from := range []netip.AddrPort{publicAddr(1), publicAddr6(1)} {
		a := args(1)
		a.Want = []krpc.Want{"n4", "n6"}
		b, _ := encode(krpc.Msg{T: strings.Repeat("t", 200), Y: "q", Q: "get_peers", A: a})
		sent := d.put(b, from)
		if len(sent) != 1 || len(sent[0].bytes) < 900 || len(sent[0].bytes) > 1400 {
			t.Errorf("%v gets %d packets, the first of %d bytes", from, len(sent), len(sent[0].bytes))
		}
	}
}

func publicAddr6(n int) netip.AddrPort {
	ip := netip.MustParseAddr("2a00::7").As16()
	ip[4], ip[5] = byte(n>>8), byte(n)
	return netip.AddrPortFrom(netip.AddrFrom16(ip), 6881)
}

func TestStrangersArePinged(t *testing.T) {
	d := newDesk(t, false)
	f := d.families[0]
	known := contact{keyOf(1), publicAddr(1)}
	f.table.add(known, time.Now())
	d.query(known.addr, "ping", &krpc.MsgArgs{ID: known.id})
	if len(f.strangers) != 0 {
		t.Error("a known node is to be pinged")
	}
	b, _ := encode(krpc.Msg{T: "t", Y: "q", Q: "ping", A: args(2), ReadOnly: true})
	d.put(b, publicAddr(2))
	if len(f.strangers) != 0 {
		t.Error("a read-only node is to be pinged")
	}
	d.query(publicAddr(3), "ping", args(3))
	if len(f.strangers) != 1 || len(f.table.nodes(anyNode)) != 1 {
		t.Errorf("%d strangers are to be pinged, %d nodes in the table", len(f.strangers), len(f.table.nodes(anyNode)))
	}
}
