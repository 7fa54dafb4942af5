// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"cmp"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
)

// multitude is a DHT too large to run: its nodes are made up as they are asked,
// each with the routing table that BEP 5 gives it, always the same. Real nodes
// meet it in virtual time.
type multitude struct {
	ids  []Key // in order
	deaf int   // of 100 nodes, that never answer, and that the others still name

	mu     sync.Mutex // guards following
	conns  map[netip.AddrPort]*newcomer
	stored map[Key]map[int]krpc.NodeAddr // by the number of the node
	tally  map[string]int                // questions to the multitude
	bytes  int                           // both ways, with 28 of headers each
}

func newMultitude(size, deaf int) *multitude {
	r := rand.New(rand.NewPCG(uint64(size), 11))
	ids := make([]Key, size)
	for i := range ids {
		for at := range ids[i] {
			ids[i][at] = byte(r.Uint32())
		}
	}
	slices.SortFunc(ids, func(a, b Key) int { return slices.Compare(a[:], b[:]) })
	return &multitude{
		ids: ids, deaf: deaf, conns: make(map[netip.AddrPort]*newcomer),
		stored: make(map[Key]map[int]krpc.NodeAddr), tally: make(map[string]int),
	}
}

// scatter is odd: to multiply with it, modulo 2^24, permutes the numbers, so that
// nodes with ids near each other have addresses far from each other.
const scatter, space = 0x9e3779, 1 << 24

// addr is that of the i-th node: sixteen share a network.
func (m *multitude) addr(i int) netip.AddrPort {
	at := uint32(i) * scatter % space
	ip := 11<<24 + at>>4<<8 + at&15 + 7
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(ip >> 24), byte(ip >> 16), byte(ip >> 8), byte(ip)}), 6881)
}

// number is whose address that is.
func (m *multitude) number(addr netip.AddrPort) (int, bool) {
	b := addr.Addr().As4()
	at := uint32(b[0]-11)<<20 + uint32(b[1])<<12 + uint32(b[2])<<4 + uint32(b[3]-7)
	inverse := uint32(scatter)
	for range 4 { // Newton: each step doubles the bits that are right
		inverse *= 2 - scatter*inverse
	}
	i := int(at * inverse % space)
	return i, i < len(m.ids) && m.addr(i) == addr
}

func (m *multitude) isDeaf(i int) bool { return int(m.ids[i][19])%100 < m.deaf }

// known are the nodes in the table of the i-th: up to eight of those that share
// each number of bits with it.
func (m *multitude) known(i int) (list []int) {
	r := rand.New(rand.NewPCG(uint64(i), 13))
	low, high := 0, len(m.ids)
	for depth := 0; high-low > 1; depth++ {
		mask := byte(0x80) >> (depth % 8)
		ones := low + sortedFrom(m.ids[low:high], depth/8, mask)
		from, to := low, ones
		if i < ones {
			from, to, high = ones, high, ones
		} else {
			low = ones
		}
		if to-from <= bucketSize {
			for j := from; j < to; j++ {
				list = append(list, j)
			}
			continue
		}
		for range bucketSize {
			list = append(list, from+r.IntN(to-from))
		}
	}
	return list
}

// sortedFrom is where the ids that have a bit set begin.
func sortedFrom(ids []Key, at int, mask byte) int {
	i, _ := slices.BinarySearchFunc(ids, true, func(id Key, _ bool) int {
		return cmp.Compare(id[at]&mask, mask)
	})
	return i
}

func (m *multitude) nearest(i int, target Key) []krpc.NodeInfo {
	list := m.known(i)
	slices.SortFunc(list, func(a, b int) int { return compareDistance(target, m.ids[a], m.ids[b]) })
	list = slices.Compact(list)
	var nodes []krpc.NodeInfo
	for _, j := range list[:min(bucketSize, len(list))] {
		nodes = append(nodes, krpc.NodeInfo{ID: m.ids[j], Addr: wireAddr(m.addr(j))})
	}
	return nodes
}

// take answers a question to the i-th node.
func (m *multitude) take(from netip.AddrPort, i int, q krpc.Msg) []byte {
	r := &krpc.Return{ID: m.ids[i]}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tally[q.Q]++
	switch q.Q {
	case "find_node":
		r.Nodes = m.nearest(i, q.A.Target)
	case "get_peers":
		token := "token"
		r.Token, r.Nodes = &token, m.nearest(i, q.A.InfoHash)
		if peer, ok := m.stored[q.A.InfoHash][i]; ok {
			r.Values = []krpc.NodeAddr{peer}
		}
	case "announce_peer":
		if m.stored[q.A.InfoHash] == nil {
			m.stored[q.A.InfoHash] = make(map[int]krpc.NodeAddr)
		}
		m.stored[q.A.InfoHash][i] = wireAddr(netip.AddrPortFrom(from.Addr(), uint16(*q.A.Port)))
	}
	b, err := encode(krpc.Msg{T: q.T, Y: krpc.YResponse, R: r, IP: wireAddr(from)})
	if err != nil {
		panic(err)
	}
	m.bytes += len(b) + 28
	return b
}

func (m *multitude) reset() { m.counts("") }

// counts returns how many questions of a kind there were, and how many bytes went
// both ways, since it was last asked.
func (m *multitude) counts(kind string) (questions, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	questions, bytes = m.tally[kind], m.bytes
	clear(m.tally)
	m.bytes = 0
	return questions, bytes
}

// newcomer is the socket of a real node. A round trip takes 40 to 200 ms.
type newcomer struct {
	*wire
	among *multitude
}

func (m *multitude) listen(addr netip.AddrPort) *newcomer {
	c := &newcomer{newInternet().listen(addr), m}
	m.conns[addr] = c
	return c
}

func (c *newcomer) WriteTo(b []byte, to net.Addr) (int, error) {
	addr, _ := udpAddrPort(to)
	i, ok := c.among.number(addr)
	q, err := decode(b)
	if err != nil || !ok || q.Y != krpc.YQuery {
		panic(fmt.Sprintf("%v: %v to nobody: %v", c.addr, q, to))
	}
	c.among.mu.Lock()
	c.among.bytes += len(b) + 28
	if c.among.isDeaf(i) {
		c.among.tally[q.Q]++
	}
	c.among.mu.Unlock()
	if !c.among.isDeaf(i) {
		answer := packet{c.among.take(c.addr, i, q), addr}
		time.AfterFunc(40*time.Millisecond+rand.N(160*time.Millisecond), func() { c.deliver(answer) })
	}
	return len(b), nil
}

// join starts a node among the multitude, and lets it look around for an hour.
func (m *multitude) join(t *testing.T, number byte) *running {
	door := 0
	for m.isDeaf(door) {
		door++
	}
	conn := m.listen(netip.AddrPortFrom(netip.AddrFrom4([4]byte{5, 1, number, 7}), 6881))
	n := start(t, Config{IPv4: conn, Reachable: at(7000), Bootstrap: []string{m.addr(door).String()}})
	time.Sleep(time.Hour)
	return n
}

// TestMultitude measures two real nodes among many that are made up: what one
// announces, the other has to find.
func TestMultitude(t *testing.T) {
	sizes := []int{1e3, 1e4, 1e5, 1e6}[:scaled(4, 2)]
	if n, ok := chosenNodes(); ok {
		sizes = []int{n}
	}
	t.Logf("%9s %5s %6s %9s %6s %9s %9s %6s %9s %9s %9s",
		"nodes", "deaf", "table", "announce", "told", "lookup", "to first", "kB", "first p50", "p95", "whole p50")
	for _, size := range sizes {
		for _, deaf := range []int{0, 33, 60} {
			synctest.Test(t, func(t *testing.T) { newMultitude(size, deaf).meet(t) })
		}
	}
}

func (m *multitude) meet(t *testing.T) {
	const keys = 60
	announcer, asker := m.join(t, 1), m.join(t, 2)
	m.reset()
	for i := range keys {
		announcer.Offer(keyOf(i), time.Now())
	}
	time.Sleep(5 * time.Minute)
	m.mu.Lock()
	told := m.tally["announce_peer"]
	m.mu.Unlock()
	announced, _ := m.counts("get_peers")
	if got := announcer.Stats().Announced; got != keys {
		t.Errorf("%d of %d keys are announced", got, keys)
	}
	m.reset()
	var firsts []time.Duration
	missing := 0
	for i := range keys {
		time.Sleep(time.Minute / 20)
		peer, took := firstOf(asker.Node, keyOf(i))
		if !peer.IsValid() {
			t.Logf("among %d nodes, %d%% deaf, key %d is not found", len(m.ids), m.deaf, i)
			missing++
		}
		firsts = append(firsts, took)
		asker.families[0].results.forget()
	}
	// Where more than half are deaf, one key in several hundred is missed.
	if missing > 0 && m.deaf <= 50 || missing > keys/20 {
		t.Errorf("among %d nodes %d of %d keys are not found", len(m.ids), missing, keys)
	}
	early, _ := m.counts("get_peers")
	var wholes []time.Duration
	for i := range keys {
		wholes = append(wholes, find(asker, keyOf(i), netip.AddrPort{}).whole)
		time.Sleep(time.Minute / 20)
	}
	asked, octets := m.counts("get_peers")
	if most := lookupLimit * lookupTries * keys; asked > most {
		t.Errorf("%d questions for %d lookups", asked, keys)
	}
	most := time.Second
	if m.deaf > 50 { // three of the sixty keys decide, and a question to the deaf takes a second
		most = 2 * time.Second
	}
	if quantile(firsts, 95) > most {
		t.Errorf("among %d nodes the first peer comes after %v at the 95th percentile", len(m.ids), quantile(firsts, 95))
	}
	t.Logf("%9d %4d%% %6d %9.1f %6.1f %9.1f %9.1f %6.1f %8.2fs %8.2fs %8.2fs", len(m.ids), m.deaf, asker.Stats().GoodNodes,
		float64(announced)/keys, float64(told)/keys, float64(asked)/keys, float64(early)/keys, float64(octets)/keys/1000,
		quantile(firsts, 50).Seconds(), quantile(firsts, 95).Seconds(), quantile(wholes, 50).Seconds())
}

// TestMillionBudget offers more than a node can keep announced among a million
// nodes, a third of them deaf.
func TestMillionBudget(t *testing.T) {
	const offered, kept, most = 5000, 1000, 60
	size := scaled(1e6, 1e4)
	synctest.Test(t, func(t *testing.T) {
		m := newMultitude(size, 33)
		n := m.join(t, 1)
		for i := range offered {
			n.Offer(keyOf(i), time.Now())
		}
		time.Sleep(time.Hour)
		before := n.Stats()
		m.reset()
		const measured = 30 * time.Minute
		time.Sleep(measured)
		after := n.Stats()
		_, octets := m.counts("")
		packets := float64(after.PacketsIn+after.PacketsOut-before.PacketsIn-before.PacketsOut) / measured.Seconds()
		t.Logf("%d keys announced, %.1f packets/s, %.1f kB/s", after.Announced, packets, float64(octets)/measured.Seconds()/1000)
		if packets > most || after.Announced < kept {
			t.Errorf("%d keys announced with %.1f packets/s", after.Announced, packets)
		}
	})
}

// TestMultitudeIsRegular checks the made-up network itself.
func TestMultitudeIsRegular(t *testing.T) {
	m := newMultitude(5000, 0)
	for i := range m.ids {
		if got, ok := m.number(m.addr(i)); !ok || got != i {
			t.Fatalf("node %d has the address of node %d", i, got)
		}
	}
	known := m.known(77)
	perBucket := make(map[int]int)
	for _, j := range known {
		perBucket[sharedBits(m.ids[77], m.ids[j])]++
	}
	for depth, count := range perBucket {
		if count > bucketSize || depth < bits.Len(5000)-8 && count < bucketSize {
			t.Errorf("%d nodes share %d bits", count, depth)
		}
	}
}
