// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"apt-dht/dht"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
)

// Digest is a SHA-256.
type Digest = [sha256.Size]byte

// DHT is what a Node needs of [dht.Node].
type DHT interface {
	Lookup(ctx context.Context, key dht.Key) iter.Seq[netip.AddrPort]
	Offer(key dht.Key, added time.Time)
	Withdraw(key dht.Key)
}

// Config says what a Node works with.
type Config struct {
	// DHT finds other nodes, and tells them of this one. Required.
	DHT DHT
	// Private allows nodes with private and loopback addresses: for a DHT of
	// one's own. false: public addresses alone.
	Private bool
	// Open opens a stored blob that may be given to the world, never one that
	// is still arriving; fetch.ErrNotHere says that there is none. Nil: nothing
	// is given.
	Open func(d Digest) (*fetch.Shared, error)
	// Pieces returns the chaining states of a stored blob at its borders of
	// pieces (store.Store.Pieces). Nil: they are not told.
	Pieces func(Digest) ([]Digest, error)
	// EachShareable calls yield with each blob that Open opens, and when it was
	// stored, until it returns false. Nil: there are none at first.
	EachShareable func(yield func(d Digest, added time.Time) bool)
	// UploadLimit is how many bytes of blobs are given per second, to all other
	// nodes together. 0: 500,000.
	UploadLimit int64
	// IPv4 and IPv6 say which of the two DHTs the node is in. At least one is needed.
	IPv4, IPv6 bool
	// External returns the address at which this node should be reached over IPv4,
	// or else over IPv6, as far as the router or the operator tells
	// (nat.Mapper.External); false: there is none. It must not block. Nil: there
	// never is one.
	External func(is4 bool) (netip.AddrPort, bool)
	// Port is the TCP port on which the node is listening. Required.
	Port uint16
	// Version of the program, told to those who ping.
	Version string
	// Log may be nil: nothing is logged.
	Log *slog.Logger
}

const defaultUploadLimit = 500_000

func (cfg *Config) check() error {
	switch {
	case cfg.DHT == nil:
		return errors.New("wan: Config.DHT is required")
	case cfg.Port == 0:
		return errors.New("wan: the node's port is 0")
	case !cfg.IPv4 && !cfg.IPv6:
		return errors.New("wan: the node is in no DHT, of IPv4 or IPv6")
	case cfg.UploadLimit < 0:
		return fmt.Errorf("wan: the limit for uploads, %d bytes per second, is negative", cfg.UploadLimit)
	}
	if cfg.UploadLimit == 0 {
		cfg.UploadLimit = defaultUploadLimit
	}
	if cfg.Open == nil {
		cfg.Open = func(Digest) (*fetch.Shared, error) { return nil, fetch.ErrNotHere }
	}
	if cfg.External == nil {
		cfg.External = func(bool) (netip.AddrPort, bool) { return netip.AddrPort{}, false }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// A Node is this node on the internet. It implements [fetch.WAN]. Its methods are
// safe for concurrent use, also before and after Run.
type Node struct {
	cfg Config

	// What it asks.
	connect   peer.DialFunc
	transport *http.Transport
	probing   *http.Transport
	peers     peers
	liars     peer.Liars
	seeks     seeks
	questions *peer.Batcher[netip.AddrPort, *seek]
	strangers *peer.Limits // those being asked, by network
	patience  *patience

	// What it gives.
	offered  offered
	uploads  *peer.Limits // blobs being given
	asking   *peer.Limits // questions being answered
	throttle *throttle
	helping  helping
	reach    reach

	bytesFrom, bytesTo atomic.Int64

	ctx  context.Context // ends with Run
	stop context.CancelFunc

	work peer.Work
}

var _ fetch.WAN = (*Node)(nil)

// New returns a node that asks and answers. Nothing is sent before it is told to.
func New(cfg Config) (*Node, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	most := maxUploads(cfg.UploadLimit)
	n := &Node{
		cfg:       cfg,
		connect:   (&net.Dialer{Timeout: dialTimeout}).DialContext,
		strangers: peer.NewLimits(maxStrangers, maxStrangersEach),
		patience:  newPatience(),
		uploads:   peer.NewLimits(most, min(most, maxUploadsEach)),
		asking:    peer.NewLimits(maxQuestions, maxQuestionsEach),
		throttle:  newThrottle(cfg.UploadLimit),
	}
	n.transport, n.probing = peer.NewTransport(n.dial, 64, maxUploadsEach, idleConn), peer.NewProbing(n.dial)
	n.questions = &peer.Batcher[netip.AddrPort, *seek]{Start: n.work.Begin, Send: n.askHave, Fail: notThere, Most: maxBatch}
	n.ctx, n.stop = context.WithCancel(context.Background())
	return n, nil
}

// Run offers the blobs that are there, and has others check whether the node can
// be reached, until ctx ends; then nothing that the node has started is left
// running. It returns nil, and is to be called once.
func (n *Node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.offerAll(ctx) })
	for _, is4 := range n.families() {
		group.Go(func() error { return n.watchReach(ctx, is4) })
	}
	err := group.Wait()
	n.end()
	return err
}

// families tells of each DHT that the node is in whether it is IPv4's.
func (n *Node) families() []bool {
	switch {
	case !n.cfg.IPv6:
		return []bool{true}
	case !n.cfg.IPv4:
		return []bool{false}
	}
	return []bool{true, false}
}

func (n *Node) end() {
	n.work.End(n.stop)
	n.transport.CloseIdleConnections()
}
