// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// saveInterval is how often the known nodes are saved.
const saveInterval = 10 * time.Minute

// Config is what a node needs.
type Config struct {
	// IPv4 and IPv6 are the UDP sockets, of the networks "udp4" and "udp6". nil:
	// the node is not in that DHT. At least one is needed. [Node.Run] closes them;
	// if New fails they stay the caller's.
	IPv4, IPv6 net.PacketConn
	// Bootstrap are the nodes asked first, each HOST:PORT. nil: with Private none,
	// else DefaultBootstrap. They are resolved and asked only while the node knows
	// fewer than eight others.
	Bootstrap []string
	// Private allows nodes and peers with private and loopback addresses, and many
	// in one network: for a DHT of one's own. false: public addresses alone.
	Private bool
	// Reachable says whether other nodes can reach this one from outside, and at
	// which TCP port, which is announced. While it says no, the node is read-only
	// (BEP 43): it looks up, and neither answers nor announces. It is called every
	// 5 seconds and must not block. nil: it never is.
	Reachable func() (port uint16, ok bool)
	// NodesFile keeps the known nodes from one run to the next. "": they are not
	// kept.
	NodesFile string
	// Rows keeps what has been announced. nil: it is not kept.
	Rows Rows
	// Uncounted are keys that are offered, but not as blobs: Stats does not count
	// them.
	Uncounted []Key
	// Log. nil: slog.Default().
	Log *slog.Logger
}

// Node is a node of the DHT. Its methods may be called by many goroutines.
type Node struct {
	path      string
	private   bool
	reachable func() (uint16, bool)
	log       *slog.Logger

	families  []*family
	budget    *budget
	results   *results
	announcer *announcer
	lookups   chan struct{}

	portNow, lastPort atomic.Uint32 // what Reachable says; what it said last but no
}

// New makes a node of cfg, with the nodes known from earlier. It sends nothing
// before Run.
func New(cfg Config) (*Node, error) {
	n := &Node{
		path: cfg.NodesFile, private: cfg.Private, reachable: cfg.Reachable, log: cfg.Log,
		budget: newBudget(), results: newResults(),
		lookups: make(chan struct{}, maxLookups),
	}
	if n.log == nil {
		n.log = slog.Default()
	}
	if n.reachable == nil {
		n.reachable = func() (uint16, bool) { return 0, false }
	}
	bootstrap := cfg.Bootstrap
	if bootstrap == nil && !cfg.Private {
		bootstrap = DefaultBootstrap()
	}
	for _, hostPort := range bootstrap {
		if err := CheckBootstrap(hostPort); err != nil {
			return nil, err
		}
	}
	n.addFamily("udp4", krpc.WantNodes, cfg.IPv4, bootstrap)
	n.addFamily("udp6", krpc.WantNodes6, cfg.IPv6, bootstrap)
	if len(n.families) == 0 {
		return nil, errors.New("the DHT needs a UDP socket, of IPv4 or IPv6")
	}
	for _, f := range n.families {
		f.all = n.families
	}
	n.checkReachable()
	n.announcer = newAnnouncer(n, cfg.Rows, cfg.Uncounted)
	if err := n.load(); err != nil {
		n.log.Warn("the DHT nodes known before the restart are lost", slog.Any("error", err))
	}
	return n, nil
}

func (n *Node) addFamily(name string, want krpc.Want, conn net.PacketConn, bootstrap []string) {
	if conn == nil {
		return
	}
	log := n.log.With(slog.String("network", name))
	id := randomKey(Key{}, -1)
	f := &family{
		name: name, want: want, private: n.private, bootstrap: bootstrap, log: log,
		table:     newTable(id, n.private),
		contacts:  newContacts(),
		peers:     newPeerStore(n.private),
		tokens:    newTokens(),
		votes:     &votes{private: n.private},
		answers:   rate.NewLimiter(answerRate, answerBurst),
		strangers: make(chan contact, strangerBurst),
		started:   make(chan struct{}),
		port:      n.port,
		id:        id,
	}
	f.socket = &socket{
		conn: conn, ipv4: want == krpc.WantNodes, private: n.private, log: log,
		contacts: f.contacts, budget: n.budget, query: f.answer,
	}
	n.families = append(n.families, f)
}

// Run keeps the node in the DHT until ctx ends, which it returns nil for; it fails
// if somebody else closes a socket. It closes the sockets, and leaves nothing
// running. It must be called once.
func (n *Node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range n.families {
		for _, part := range []func(context.Context) error{
			f.socket.read, f.serve, f.join, f.refresh, f.upkeep, f.greet,
		} {
			group.Go(func() error { return part(ctx) })
		}
	}
	for range maxAnnounces {
		group.Go(func() error { return n.announcer.work(ctx) })
	}
	group.Go(func() error { return n.watch(ctx) })
	return group.Wait()
}

// watch follows whether the node is reachable, and saves its nodes.
func (n *Node) watch(ctx context.Context) error {
	next := time.Now().Add(saveInterval)
	for ctx.Err() == nil {
		sleep(ctx, checkInterval)
		n.checkReachable()
		if ctx.Err() == nil && time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(saveInterval)
		if err := n.save(); err != nil {
			n.log.Warn("the known DHT nodes are not saved", slog.String("path", n.path), slog.Any("error", err))
		}
	}
	return nil
}

func (n *Node) checkReachable() {
	port, ok := n.reachable()
	if !ok {
		port = 0
	}
	n.portNow.Store(uint32(port))
	if port != 0 {
		n.lastPort.Store(uint32(port))
	}
}

// port is the TCP port to announce, 0 while the node cannot be reached.
func (n *Node) port() uint16 { return uint16(n.portNow.Load()) }

// connected reports whether the node knows any other.
func (n *Node) connected() bool {
	for _, f := range n.families {
		if f.goodNodes() > 0 {
			return true
		}
	}
	return false
}

// Stats is what a node is doing. Counters count since New.
type Stats struct {
	Nodes      int  // in the routing tables
	GoodNodes  int  // of them, those that answered within 15 minutes
	Offered    int  // keys to announce, but for Config.Uncounted
	Announced  int  // of them, those announced within 30 minutes
	Peers      int  // stored for others
	ReadOnly   bool // not reachable from outside: looks up only
	External   []netip.Addr
	PacketsIn  uint64
	PacketsOut uint64
	BytesIn    uint64 // of UDP payload
	BytesOut   uint64
}

// Stats returns what the node is doing now.
func (n *Node) Stats() Stats {
	s := Stats{ReadOnly: n.port() == 0}
	s.Offered, s.Announced = n.announcer.counts()
	for _, f := range n.families {
		s.Nodes += len(f.table.nodes(anyNode))
		s.GoodNodes += f.goodNodes()
		s.Peers += f.peers.len()
		if external, ok := f.votes.winner(); ok {
			s.External = append(s.External, external)
		}
		s.PacketsIn += f.socket.packetsIn.Load()
		s.PacketsOut += f.socket.packetsOut.Load()
		s.BytesIn += f.socket.bytesIn.Load()
		s.BytesOut += f.socket.bytesOut.Load()
	}
	return s
}
