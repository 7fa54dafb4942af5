// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anacrolix/torrent/bencode"
)

// swarm is a DHT of nodes that this test plays (BEP 5). They note what they are
// asked, and lie when told to.
type swarm struct {
	t     *testing.T
	host  *lanHost
	nodes []*swarmNode

	mu     sync.Mutex // guards following
	others map[netip.AddrPort]dhtID
	asked  []dhtQuery
	values func(key dhtID) []netip.AddrPort // peers of every key, besides those announced; nil: none
	nearby []swarmContact                   // told as nodes besides the real ones
}

// dhtID is a node's id or a key.
type dhtID [20]byte

// dhtQuery is what a swarm was asked.
type dhtQuery struct {
	method string
	from   netip.AddrPort
	id     dhtID
	key    dhtID // of get_peers and announce_peer
	node   *swarmNode
	at     time.Time
}

type swarmContact struct {
	id   dhtID
	addr netip.AddrPort
}

// swarmNode is one node.
type swarmNode struct {
	swarmContact
	s     *swarm
	conn  *net.UDPConn
	peers map[dhtID]map[netip.AddrPort]bool // announced; guarded by s.mu
}

// newSwarm starts n nodes, each at an address of its own.
func newSwarm(in *internet, n int) *swarm {
	in.t.Helper()
	s := &swarm{t: in.t, host: newLANHost(in.t), others: map[netip.AddrPort]dhtID{}}
	in.join(s.host, in.plan.dht)
	for i := range n {
		ip := fmt.Sprintf(in.plan.swarm, i+1)
		ipBatch(s.t, s.host.name, "addr add "+ip+"/32 dev lo")
		ipBatch(s.t, in.core.name, "route add "+ip+"/32 via "+in.plan.dht+"10")
		s.nodes = append(s.nodes, s.newNode(netip.MustParseAddr(ip), byte(i)))
	}
	for _, node := range s.nodes {
		go node.serve()
	}
	return s
}

func (s *swarm) newNode(ip netip.Addr, random byte) *swarmNode {
	s.t.Helper()
	addr := netip.AddrPortFrom(ip, 6881)
	n := &swarmNode{swarmContact: swarmContact{secureID(ip, random), addr}, s: s, peers: map[dhtID]map[netip.AddrPort]bool{}}
	check(s.t, s.host.inside(func() (err error) {
		n.conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
		return err
	}))
	s.t.Cleanup(func() { n.conn.Close() })
	return n
}

// secureID is an id that fits an address, as BEP 42 has it.
func secureID(ip netip.Addr, random byte) (id dhtID) {
	four := ip.As4()
	masked := binary.BigEndian.Uint32(four[:])&0x030f3fff | uint32(random&7)<<29
	crc := crc32.Checksum(binary.BigEndian.AppendUint32(nil, masked), crc32.MakeTable(crc32.Castagnoli))
	sum := sha256.Sum256(append(four[:], random))
	copy(id[:], sum[:])
	id[0], id[1], id[2] = byte(crc>>24), byte(crc>>16), byte(crc>>8)&0xf8|sum[2]&7
	id[19] = random
	return id
}

// entry is one of the nodes, for --dht-bootstrap.
func (s *swarm) entry() string { return s.nodes[0].addr.String() }

// meet has every node show itself to another, which may then take it up.
func (s *swarm) meet(addr string) {
	s.t.Helper()
	to := netip.MustParseAddrPort(addr)
	for _, n := range s.nodes {
		body, err := bencode.Marshal(map[string]any{"t": "mt", "y": "q", "q": "find_node", "a": map[string]any{"id": string(n.id[:]), "target": string(n.id[:])}})
		check(s.t, err)
		_, err = n.conn.WriteToUDPAddrPort(body, to)
		check(s.t, err)
	}
}

func keyOf(digest [sha256.Size]byte) dhtID { return dhtID(digest[:20]) }

func (n *swarmNode) serve() {
	buf := make([]byte, 4096)
	for {
		size, from, err := n.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		var msg struct {
			T string         `bencode:"t"`
			Y string         `bencode:"y"`
			Q string         `bencode:"q"`
			A map[string]any `bencode:"a"`
			R int            `bencode:"ro"`
		}
		if bencode.Unmarshal(buf[:size], &msg) != nil || msg.Y != "q" {
			continue
		}
		reply := n.answer(from, msg.Q, msg.A, msg.R == 1)
		if reply == nil {
			continue
		}
		body, err := bencode.Marshal(map[string]any{"t": msg.T, "y": "r", "r": reply, "ip": compactAddr(from)})
		check(n.s.t, err)
		n.conn.WriteToUDPAddrPort(body, from)
	}
}

// answer returns what is replied to a query; nil: nothing.
func (n *swarmNode) answer(from netip.AddrPort, method string, args map[string]any, readOnly bool) map[string]any {
	s := n.s
	s.mu.Lock()
	defer s.mu.Unlock()
	q := dhtQuery{method: method, from: from, id: idArg(args, "id"), key: idArg(args, "info_hash"), node: n, at: time.Now()}
	s.asked = append(s.asked, q)
	if !readOnly {
		s.others[from] = q.id
	}
	reply := map[string]any{"id": string(n.id[:])}
	switch method {
	case "ping":
	case "find_node":
		reply["nodes"] = s.closestLocked(idArg(args, "target"))
	case "get_peers":
		reply["nodes"] = s.closestLocked(q.key)
		reply["token"] = n.token(from)
		if values := n.valuesLocked(q.key); len(values) > 0 {
			reply["values"] = values
		}
	case "announce_peer":
		if args["token"] != n.token(from) {
			return nil
		}
		port, _ := args["port"].(int64)
		if implied, _ := args["implied_port"].(int64); implied == 1 {
			port = int64(from.Port())
		}
		if n.peers[q.key] == nil {
			n.peers[q.key] = map[netip.AddrPort]bool{}
		}
		n.peers[q.key][netip.AddrPortFrom(from.Addr(), uint16(port))] = true
	default:
		return nil
	}
	return reply
}

func idArg(args map[string]any, name string) (id dhtID) {
	text, _ := args[name].(string)
	copy(id[:], text)
	return id
}

func (n *swarmNode) token(to netip.AddrPort) string {
	sum := sha256.Sum256(append(n.id[:], to.Addr().AsSlice()...))
	return string(sum[:8])
}

func (n *swarmNode) valuesLocked(key dhtID) (values []string) {
	for addr := range n.peers[key] {
		values = append(values, compactAddr(addr))
	}
	if n.s.values != nil {
		for _, addr := range n.s.values(key) {
			values = append(values, compactAddr(addr))
		}
	}
	return values
}

// closestLocked is the eight nodes nearest to a key, and what is told besides.
func (s *swarm) closestLocked(key dhtID) string {
	var all []swarmContact
	for _, n := range s.nodes {
		all = append(all, n.swarmContact)
	}
	for addr, id := range s.others {
		all = append(all, swarmContact{id, addr})
	}
	slices.SortFunc(all, func(a, b swarmContact) int {
		for i := range key {
			if c := cmp.Compare(a.id[i]^key[i], b.id[i]^key[i]); c != 0 {
				return c
			}
		}
		return 0
	})
	var b bytes.Buffer
	for _, c := range append(all[:min(8, len(all))], s.nearby...) {
		b.Write(c.id[:])
		b.WriteString(compactAddr(c.addr))
	}
	return b.String()
}

// compactAddr is an address as BEP 5 writes it.
func compactAddr(addr netip.AddrPort) string {
	return string(binary.BigEndian.AppendUint16(addr.Addr().AsSlice(), addr.Port()))
}

// tell has every node name peers for every key.
func (s *swarm) tell(peers ...string) {
	var addrs []netip.AddrPort
	for _, p := range peers {
		addrs = append(addrs, netip.MustParseAddrPort(p))
	}
	s.tellOf(func(dhtID) []netip.AddrPort { return addrs })
}

// tellOf has every node name the peers of a key, besides those announced.
func (s *swarm) tellOf(values func(key dhtID) []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values = values
}

// tellNodes has every node name others, besides the real ones.
func (s *swarm) tellNodes(addrs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, a := range addrs {
		addr := netip.MustParseAddrPort(a)
		s.nearby = append(s.nearby, swarmContact{secureID(addr.Addr(), byte(i)), addr})
	}
}

// queries returns what was asked with a method, so far.
func (s *swarm) queries(method string) (list []dhtQuery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.asked {
		if q.method == method {
			list = append(list, q)
		}
	}
	return list
}

// forget clears the list of queries.
func (s *swarm) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = nil
}

// holders are the peers that were announced for a key.
func (s *swarm) holders(key dhtID) map[netip.AddrPort]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	holders := map[netip.AddrPort]int{}
	for _, n := range s.nodes {
		for addr := range n.peers[key] {
			holders[addr]++
		}
	}
	return holders
}

// wantHolder waits until somebody is announced as holding packages.
func (s *swarm) wantHolder(addr string, packages []builtPackage) {
	s.t.Helper()
	holder := netip.MustParseAddrPort(addr)
	within(s.t, announcePatience, addr+" has announced its packages", func() bool {
		return !slices.ContainsFunc(packages, func(p builtPackage) bool { return s.holders(keyOf(p.digest))[holder] == 0 })
	})
}

// announcePatience is what thirty announces take at 55 packets per second, and more.
const announcePatience = 90 * time.Second
