// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	mainline "github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"
	alog "github.com/anacrolix/log"
	"golang.org/x/time/rate"
)

const (
	// resendDelay is how long a query waits before it is sent again, and after
	// the last time. Nine in ten nodes that answer at all do so sooner.
	resendDelay = 500 * time.Millisecond
	// checkInterval is how often a node looks whether it has become reachable,
	// and whether it knows its outside address.
	checkInterval = 5 * time.Second
	// idLasts is how long an id is kept in any case: whoever lies about our
	// address shall not have us change it all the time.
	idLasts = time.Hour
)

// family is the node in one address family: IPv4 and IPv6 are two DHTs (BEP 32).
type family struct {
	name      string // "udp4" or "udp6"
	want      krpc.Want
	private   bool
	bootstrap []string
	log       *slog.Logger

	all       []*family // this one and the other
	socket    *socket
	table     *table
	contacts  *contacts
	peers     *peerStore
	tokens    *tokens
	votes     *votes
	results   *results
	answers   *rate.Limiter
	strangers chan contact
	started   chan struct{} // closed once there is a server
	reachable func(is4 bool) (netip.AddrPort, bool)
	standing  standing

	portNow    atomic.Uint32 // what reachable has said
	lastAnswer atomic.Int64  // Unix time

	mu sync.Mutex // guards following

	server    *mainline.Server // nil before the first and after the last
	id        Key
	idChanged time.Time // zero: not in this run
	readOnly  bool
}

// checkReachable asks where the node can be reached: the zero AddrPort where it
// cannot.
func (f *family) checkReachable() netip.AddrPort {
	at, ok := f.reachable(f.is4())
	if !ok {
		at = netip.AddrPort{}
	}
	f.portNow.Store(uint32(at.Port()))
	return at
}

// port is the TCP port to announce, 0 while the node cannot be reached.
func (f *family) port() uint16 { return uint16(f.portNow.Load()) }

func (f *family) is4() bool { return f.want == krpc.WantNodes }

// serve keeps a server running until ctx ends. The library fixes the id and being
// read-only for a server's life: when one changes, the next server begins.
func (f *family) serve(ctx context.Context) error {
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	for first := true; ctx.Err() == nil; first = false {
		server, err := f.open()
		if err != nil {
			return err
		}
		if first {
			close(f.started)
		}
		for ctx.Err() == nil && !f.outdated() {
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
		server.Close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.server = nil
	return nil
}

// outdated reports whether the server runs with the wrong id or the wrong idea
// of being reachable.
func (f *family) outdated() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.readOnly != (f.port() == 0) || !f.fittingLocked()
}

// fittingLocked reports whether the id is one that BEP 42 allows at our outside
// address.
func (f *family) fittingLocked() bool {
	external, ok := f.votes.winner()
	return !ok || f.private || time.Since(f.idChanged) < idLasts || mainline.NodeIdSecure(f.id, external.AsSlice())
}

func (f *family) open() (*mainline.Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.fittingLocked() {
		external, _ := f.votes.winner()
		f.id, f.idChanged = secureID(external), time.Now()
		f.table.rebase(f.id)
	}
	f.readOnly = f.port() == 0
	server, err := mainline.NewServer(&mainline.ServerConfig{
		NodeId:           f.id,
		Conn:             f.socket.open(),
		Passive:          f.readOnly,
		NoSecurity:       true,
		StartingNodes:    func() ([]mainline.Addr, error) { return nil, nil },
		QueryResendDelay: func() time.Duration { return resendDelay },
		Logger:           alog.Default.WithFilterLevel(alog.Critical),
		DefaultWant:      []krpc.Want{f.want},
		SendLimiter:      rate.NewLimiter(packetRate, packetBurst),
	})
	if err != nil {
		return nil, fmt.Errorf("starting the DHT server: %w", err)
	}
	f.server = server
	return server, nil
}

func secureID(external netip.Addr) Key {
	id := krpc.ID(randomKey(Key{}, -1))
	mainline.SecureNodeId(&id, external.AsSlice())
	return id
}

// current waits for the first server.
func (f *family) current(ctx context.Context) (*mainline.Server, error) {
	select {
	case <-f.started:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.server == nil {
		return nil, errStopped
	}
	return f.server, nil
}

func (f *family) ownID() Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.id
}

func (f *family) isReadOnly() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.readOnly
}

var (
	errStopped = errors.New("the DHT node is not running")
	errEmpty   = errors.New("an answer without a node's id")
)

// ask sends a query up to tries times and returns the answer. What the answer, or
// the lack of one, says of the node is noted.
func (f *family) ask(ctx context.Context, to netip.AddrPort, method string, args krpc.MsgArgs, tries int) (*krpc.Return, error) {
	server, err := f.current(ctx)
	if err != nil {
		return nil, err
	}
	args.Want = nil
	if method == "find_node" || method == "get_peers" {
		args.Want = []krpc.Want{f.want}
	}
	result := server.Query(ctx, mainline.NewAddr(net.UDPAddrFromAddrPort(to)), method, mainline.QueryInput{
		MsgArgs:      args,
		NumTries:     tries,
		RateLimiting: mainline.QueryRateLimiting{NotAny: true},
	})
	if result.Err != nil {
		if errors.Is(result.Err, mainline.TransactionTimeout) {
			f.missed(to)
		}
		return nil, fmt.Errorf("asking %v: %w", to, result.Err)
	}
	return f.heard(to, result.Reply)
}

func (f *family) heard(from netip.AddrPort, m krpc.Msg) (*krpc.Return, error) {
	f.lastAnswer.Store(time.Now().Unix())
	if err := m.Error(); err != nil {
		return nil, fmt.Errorf("%v: %w", from, *err)
	}
	if m.R == nil || m.R.ID.IsZero() {
		return nil, fmt.Errorf("%v: %w", from, errEmpty)
	}
	if ours, ok := wireAddrPort(m.IP.IP, m.IP.Port); ok {
		f.votes.add(from, ours.Addr())
	}
	if !m.ReadOnly {
		f.table.add(contact{m.R.ID, from}, time.Now())
	}
	return m.R, nil
}

// missed counts a question without answer against a node, unless nobody answers:
// then it is our network that is away.
func (f *family) missed(from netip.AddrPort) {
	if time.Now().Unix()-f.lastAnswer.Load() < int64(silentAfter/time.Second) {
		f.table.failed(from)
	}
}
