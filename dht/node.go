// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
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
	// Reachable says whether other nodes can reach this one from outside over IPv4,
	// or else over IPv6, and at which TCP port, which is announced in that DHT; also at
	// which address, where that is known: else the zero Addr, and other nodes are
	// believed. While it says no, the node is read-only there (BEP 43): it looks up,
	// and neither answers nor announces. It is called every 5 seconds and must not
	// block. nil: it never is.
	Reachable func(is4 bool) (at netip.AddrPort, ok bool)
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
	path    string
	private bool
	log     *slog.Logger

	families  []*family
	budget    *budget
	announcer *announcer
	lookups   chan struct{}
}

// New makes a node of cfg, with the nodes known from earlier. It sends nothing
// before Run.
func New(cfg Config) (*Node, error) {
	n := &Node{
		path: cfg.NodesFile, private: cfg.Private, log: cfg.Log,
		budget:  newBudget(),
		lookups: make(chan struct{}, maxLookups),
	}
	if n.log == nil {
		n.log = slog.Default()
	}
	if cfg.Reachable == nil {
		cfg.Reachable = func(bool) (netip.AddrPort, bool) { return netip.AddrPort{}, false }
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
	n.addFamily("udp4", krpc.WantNodes, cfg.IPv4, bootstrap, cfg.Reachable)
	n.addFamily("udp6", krpc.WantNodes6, cfg.IPv6, bootstrap, cfg.Reachable)
	if len(n.families) == 0 {
		return nil, errors.New("the DHT needs a UDP socket, of IPv4 or IPv6")
	}
	for _, f := range n.families {
		f.all = n.families
	}
	if err := n.load(); err != nil {
		n.log.Warn("what was known of the DHT before the restart is lost, or a part of it", slog.Any("error", err))
	}
	n.announcer = newAnnouncer(n, cfg.Rows, cfg.Uncounted)
	return n, nil
}

func (n *Node) addFamily(name string, want krpc.Want, conn net.PacketConn, bootstrap []string, reachable func(bool) (netip.AddrPort, bool)) {
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
		results:   newResults(),
		answers:   rate.NewLimiter(answerRate, answerBurst),
		strangers: make(chan contact, strangerBurst),
		started:   make(chan struct{}),
		reachable: reachable,
		id:        id,
	}
	f.checkReachable()
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

// watch follows whether and where the node is reachable, and saves what it knows.
func (n *Node) watch(ctx context.Context) error {
	next := time.Now().Add(saveInterval)
	for ctx.Err() == nil {
		n.follow()
		sleep(ctx, checkInterval)
		if ctx.Err() == nil && time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(saveInterval)
		n.saveOrWarn()
	}
	return nil
}

// announcing are the families in which the node can be reached, and knows others to
// tell.
func (n *Node) announcing() []*family {
	var list []*family
	for _, f := range n.families {
		if f.port() != 0 && f.goodNodes() > 0 {
			list = append(list, f)
		}
	}
	return list
}

// familiesOf tells which they are, as Row.Families.
func familiesOf(list []*family) (bits uint8) {
	for _, f := range list {
		if f.is4() {
			bits |= 1
		} else {
			bits |= 2
		}
	}
	return bits
}

// Stats is what a node is doing. Counters count since New.
type Stats struct {
	Nodes      int  // in the routing tables
	GoodNodes  int  // of them, those that answered within 15 minutes
	Offered    int  // keys to announce, but for Config.Uncounted
	Announced  int  // of them, those announced within 30 minutes
	Peers      int  // stored for others
	ReadOnly   bool // not reachable from outside in any family: looks up only
	External   []netip.Addr
	PacketsIn  uint64
	PacketsOut uint64
	BytesIn    uint64 // of UDP payload
	BytesOut   uint64
}

// Stats returns what the node is doing now.
func (n *Node) Stats() Stats {
	s := Stats{ReadOnly: true}
	s.Offered, s.Announced = n.announcer.counts()
	for _, f := range n.families {
		s.ReadOnly = s.ReadOnly && f.port() == 0
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
