// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// internet carries packets in memory, so that a network of many nodes can run in
// the virtual time of testing/synctest.
type internet struct {
	packets, bytes atomic.Int64 // carried, with 28 bytes of IPv4 and UDP header each

	mu sync.Mutex // guards following

	conns map[netip.AddrPort]*wire
	away  map[netip.AddrPort]bool // cut off
}

func newInternet() *internet {
	return &internet{conns: make(map[netip.AddrPort]*wire), away: make(map[netip.AddrPort]bool)}
}

// cut takes a node off the internet, or puts it back.
func (i *internet) cut(addr netip.AddrPort, off bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.away[addr] = off
}

// route is the way from one address to another; nil: there is none.
func (i *internet) route(from, to netip.AddrPort) *wire {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.away[from] || i.away[to] {
		return nil
	}
	return i.conns[to]
}

// wire is a socket of an internet.
type wire struct {
	net    *internet
	addr   netip.AddrPort
	in     chan packet
	once   sync.Once
	closed chan struct{}
}

func (i *internet) listen(addr netip.AddrPort) *wire {
	w := &wire{net: i, addr: addr, in: make(chan packet, 1024), closed: make(chan struct{})}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.conns[addr] = w
	return w
}

// publicAddr is the n-th of addresses in networks of their own.
func publicAddr(n int) netip.AddrPort {
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], 0x05010007+uint32(n)<<8)
	return netip.AddrPortFrom(netip.AddrFrom4(ip), 6881)
}

func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-w.in:
		return copy(b, p.bytes), net.UDPAddrFromAddrPort(p.from), nil
	case <-w.closed:
		return 0, nil, net.ErrClosed
	}
}

func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-w.closed:
		return 0, net.ErrClosed
	default:
	}
	w.net.packets.Add(1)
	w.net.bytes.Add(int64(len(b)) + 28)
	addr, _ := udpAddrPort(to)
	if peer := w.net.route(w.addr, addr); peer != nil {
		p := packet{append([]byte(nil), b...), w.addr}
		time.AfterFunc(10*time.Millisecond+rand.N(60*time.Millisecond), func() { peer.deliver(p) })
	}
	return len(b), nil
}

func (w *wire) deliver(p packet) {
	select {
	case w.in <- p:
	default:
	}
}

func (w *wire) Close() error {
	w.once.Do(func() {
		w.net.mu.Lock()
		defer w.net.mu.Unlock()
		if w.net.conns[w.addr] == w {
			delete(w.net.conns, w.addr)
		}
		close(w.closed)
	})
	return nil
}

func (w *wire) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(w.addr) }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// running is a node that runs.
type running struct {
	*Node
	addr netip.AddrPort
	stop func() // and wait until nothing of it runs
}

// scaled is a size that the race detector, which makes a network of many nodes ten
// times slower, can bear.
func scaled(full, underRace int) int {
	if raceEnabled {
		return underRace
	}
	return full
}

func at(port uint16) func(bool) (netip.AddrPort, bool) {
	return func(bool) (netip.AddrPort, bool) { return netip.AddrPortFrom(netip.Addr{}, port), true }
}

func quiet() *slog.Logger {
	if os.Getenv("DHT_DEBUG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// start runs a node until the test ends, or stop is called.
func start(t testing.TB, cfg Config) *running {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = quiet()
	}
	if cfg.Bootstrap == nil {
		cfg.Bootstrap = []string{}
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn := cfg.IPv4
	if conn == nil {
		conn = cfg.IPv6
	}
	addr, _ := udpAddrPort(conn.LocalAddr())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return &running{n, addr, stop}
}

// loopback is a UDP socket on 127.0.0.1.
func loopback(t testing.TB) net.PacketConn {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func keyOf(n int) (k Key) {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	for i := range k {
		k[i] = byte(r.Uint32())
	}
	return k
}

// forget makes the next lookup ask.
func (r *results) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byKey = newRecent[Key, result](maxResults / 2)
}

// firstOf returns the first peer a lookup finds, and how long that took.
func firstOf(n *Node, key Key) (netip.AddrPort, time.Duration) {
	began := time.Now()
	for peer := range n.Lookup(context.Background(), key) {
		return peer, time.Since(began)
	}
	return netip.AddrPort{}, time.Since(began)
}

// patience is how long a test waits for what must happen outside of virtual time.
const patience = 60 * time.Second

// loopbackPort is the one that the first node of a loopbackNetwork announces; the
// others announce those above.
const loopbackPort = 21000

// loopbackNetwork is a DHT of our own nodes on loopback that know each other.
func loopbackNetwork(t testing.TB, size int) []*running {
	var nodes []*running
	for i := range size {
		cfg := Config{IPv4: loopback(t), Private: true, Reachable: at(uint16(loopbackPort + i))}
		if i > 0 {
			cfg.Bootstrap = []string{nodes[0].addr.String()}
		}
		nodes = append(nodes, start(t, cfg))
	}
	for _, n := range nodes {
		eventually(t, "the nodes know each other", func() bool { return n.Stats().GoodNodes >= min(size/2, 2*bucketSize) })
	}
	return nodes
}

// eventually polls processes that run on their own.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for began := time.Now(); !done(); {
		if time.Since(began) > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
