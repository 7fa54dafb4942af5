// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/anacrolix/dht/v2/krpc"
)

func TestDecode(t *testing.T) {
	id := strings.Repeat("i", 20)
	for _, c := range []struct {
		name, packet string
		ok           bool
	}{
		{"a ping", "d1:ad2:id20:" + id + "e1:q4:ping1:t1:x1:y1:qe", true},
		{"an answer", "d1:rd2:id20:" + id + "6:valuesl6:abcdefee1:t1:x1:y1:re", true},
		{"an error", "d1:eli201e4:oopse1:t1:x1:y1:ee", true},
		{"bytes after it", "d1:t1:x1:y1:qejunk", true},
		{"a negative number", "d1:ad2:id20:" + id + "4:porti-5ee1:t1:x1:y1:qe", true},
		{"nothing", "", false},
		{"not bencode", "GET / HTTP/1.1", false},
		{"a list", "l1:te", false},
		{"an open dictionary", "d1:t1:x", false},
		{"an address of one byte", "d2:ip1:x1:t1:x1:y1:qe", false},
		{"a peer of one byte", "d1:rd2:id20:" + id + "6:valuesl1:xee1:t1:x1:y1:re", false},
		{"a short id", "d1:ad2:id3:abce1:q4:ping1:t1:x1:y1:qe", false},
		{"nodes cut off", "d1:rd2:id20:" + id + "5:nodes5:abcdee1:t1:x1:y1:re", false},
		{"a string beyond the end", "d1:t99:x1:y1:qe", false},
		{"a string of 128 MiB", "d1:t134217000:x1:y1:qe", false},
		{"a length that overflows", "d1:t99999999999999999999999:x1:y1:qe", false},
		{"a negative length", "d1:t-1:x1:y1:qe", false},
		{"an empty number", "d1:ad4:portiee1:t1:x1:y1:qe", false},
		{"a number without end", "d1:ad4:porti12", false},
		{"a number of many digits", "d1:ad4:porti" + strings.Repeat("9", 30) + "ee1:y1:qe", false},
		{"deep nesting", "d1:t" + strings.Repeat("l", 900) + strings.Repeat("e", 900) + "e", false},
		{"unsorted junk", "d1:vd1:b0:1:a0:ee", false},
	} {
		_, err := decode([]byte(c.packet))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// FuzzPacket puts packets from strangers, and as answers to what a node asked,
// into a node.
func FuzzPacket(f *testing.F) {
	id := strings.Repeat("i", 20)
	for _, seed := range []string{
		"d1:ad2:id20:" + id + "e1:q4:ping1:t1:x1:y1:qe",
		"d1:ad2:id20:" + id + "9:info_hash20:" + id + "4:wantl2:n42:n6ee1:q9:get_peers1:t1:x1:y1:qe",
		"d1:ad2:id20:" + id + "9:info_hash20:" + id + "4:porti7000e5:token8:12345678e1:q13:announce_peer1:t1:x1:y1:qe",
		"d1:q13:announce_peer1:t1:x1:y1:qe",
		"d2:ip6:abcdef1:rd2:id20:" + id + "5:nodes26:" + id + "abcdef5:token4:abcd6:valuesl6:abcdef18:" + id[:18] + "ee1:t1:x1:y1:re",
		"d1:eli201e4:oopse1:t1:x1:y1:ee",
		"d2:ip1:x1:t1:x1:y1:qe",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newDesk(t, false)
		fam := d.families[0]
		server, err := fam.open()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		from := publicAddr(9)
		for range 2 {
			for _, p := range d.put(b, from) {
				if p.from != from || len(p.bytes) > 1100+len(b) {
					t.Fatalf("%d bytes to %v for %d bytes", len(p.bytes), p.from, len(b))
				}
				if _, err := decode(p.bytes); err != nil {
					t.Fatalf("we sent %q: %v", p.bytes, err)
				}
			}
			fam.contacts.asking(from, "x")
		}
		for len(fam.socket.port.Load().in) > 0 {
			runtime.Gosched() // the library has it to read
		}
		if got := d.Stats(); got.Nodes != 0 || got.Peers != 0 || len(got.External) != 0 {
			t.Fatalf("a packet that we did not ask for left %+v", got)
		}
		if m, err := decode(b); err == nil && m.R != nil {
			checkReturn(t, d, from, m)
		}
	})
}

// checkReturn checks what is taken from an answer.
func checkReturn(t *testing.T, d *desk, from netip.AddrPort, m krpc.Msg) {
	fam := d.families[0]
	_, _ = fam.heard(from, m)
	if len(fam.table.nodes(anyNode)) > 1 {
		t.Fatal("one answer brought several nodes")
	}
	sieve := newSieve(false, nil)
	for _, peer := range peersIn(m.R) {
		if sieve.pass(from, peer) && !Allowed(peer, false) {
			t.Fatalf("%v passed", peer)
		}
	}
	walk := &traversal{family: fam, target: keyOf(1), known: map[netip.AddrPort]bool{}, networks: map[netip.AddrPort]int{}}
	walk.take(outcome{candidate: candidate{contact{m.R.ID, from}, true}, r: m.R})
	if len(walk.candidates) > maxNodesPerAnswer {
		t.Fatalf("%d candidates of one answer", len(walk.candidates))
	}
	for _, c := range walk.candidates {
		if !Allowed(c.addr, false) {
			t.Fatalf("%v is to be asked", c.addr)
		}
	}
}
