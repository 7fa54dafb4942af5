// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
)

// Members is what a Node needs of [discovery.LAN].
type Members interface {
	Members() []discovery.Member
	Alive(id string) bool
	Failed(id string)
	Changed() <-chan struct{}
	OnLink(addr netip.Addr) bool
	ProbeNow(id string)
	Heard(m discovery.Member)
}

// Blobs is what a Node gives to others: a [fetch.Fetcher].
type Blobs interface {
	// OpenShared opens a blob that is stored or arriving; fetch.ErrNotHere says
	// that it is neither. It must not wait for bytes.
	OpenShared(ctx context.Context, d Digest) (*fetch.Shared, error)
}

// Config says who a Node is and what it works with.
type Config struct {
	// ID is this node's: 16 lower-case hexadecimal digits, random at each start,
	// and the same as discovery's. Required.
	ID string
	// Port is the TCP port on which the node answers HTTP. Required.
	Port uint16
	// Version of the program, told to those who ping.
	Version string
	// Members knows who is there. Required.
	Members Members
	// Rows keeps what others announce, over restarts. Nil: nothing is kept.
	Rows discovery.Rows
	// Has tells, from memory, whether a blob is stored that may be given to
	// others. Required.
	Has func(Digest) bool
	// EachBlob calls yield with each of these blobs, and when it was last
	// announced (zero: never), until it returns false. Required.
	EachBlob func(yield func(d Digest, announced time.Time) bool)
	// Announced keeps when blobs were announced. Nil: then they are announced
	// again and again.
	Announced func(blobs []Digest, at time.Time) error
	// Pieces returns the chaining states of a stored blob at its borders of
	// pieces (store.Store.Pieces). Nil: they are not told.
	Pieces func(Digest) ([]Digest, error)
	// Root returns the newest good copy of a signed root file by its name
	// (host and path). Nil: there is none.
	Root func(name string) (body []byte, ok bool)
	// Log may be nil: nothing is logged.
	Log *slog.Logger
}

func (cfg *Config) check() error {
	switch {
	case !idPattern.MatchString(cfg.ID):
		return fmt.Errorf("lan: node id %q is not 16 lower-case hexadecimal digits", cfg.ID)
	case cfg.Port == 0:
		return errors.New("lan: the node's port is 0")
	case cfg.Members == nil || cfg.Has == nil || cfg.EachBlob == nil:
		return errors.New("lan: Config.Members, Has and EachBlob are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// A Node is this node on the LAN. It implements [fetch.LAN]. Its methods are
// safe for concurrent use, also before and after Run.
type Node struct {
	cfg  Config
	self discovery.Member // its address is a mark, see discovery.HomeConfig.Self
	home *discovery.Home
	view atomic.Pointer[view]

	transport *http.Transport
	probing   *http.Transport
	blobs     Blobs
	inflight  *peer.Limits // blobs being given
	asking    *peer.Limits // questions being answered

	questions *peer.Batcher[discovery.Member, *question]
	announces *peer.Batcher[discovery.Member, news]
	reports   *peer.Batcher[discovery.Member, report]
	copies    *peer.Batcher[discovery.Member, discovery.Grant]

	stallers stallers
	leases   leases
	news     pending
	anew     anew
	met      acquaintances
	liars    peer.Liars
	bytes    traffic

	ctx      context.Context // ends with Run
	stop     context.CancelFunc
	started  time.Time
	versions sync.Once // another version of the protocol has been told of

	work peer.Work
}

var _ fetch.LAN = (*Node)(nil)

// New returns a node that answers and asks; it is kept up to date by Run.
func New(cfg Config) (*Node, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	dial := (&net.Dialer{Timeout: patience}).DialContext
	n := &Node{
		cfg:       cfg,
		started:   time.Now(),
		self:      discovery.Member{ID: cfg.ID, Addr: netip.AddrPortFrom(netip.IPv6Unspecified(), cfg.Port)},
		transport: peer.NewTransport(dial, 256, 8, idleConn),
		probing:   peer.NewProbing(dial),
		blobs:     noBlobs{},
		inflight:  peer.NewLimits(maxBlobs, maxBlobsEach),
		asking:    peer.NewLimits(maxQuestions, maxQuestionsEach),
	}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.questions = &peer.Batcher[discovery.Member, *question]{Start: n.work.Begin, Send: n.sendQuestions, Fail: n.failQuestions, Most: maxBatch,
		Weigh: (*question).weigh, Heaviest: maxWeight}
	n.announces = &peer.Batcher[discovery.Member, news]{Start: n.work.Begin, Send: n.sendNews, Fail: n.newsLost, Most: maxBatch}
	n.reports = &peer.Batcher[discovery.Member, report]{Start: n.work.Begin, Send: n.sendReports, Most: maxBatch}
	n.copies = &peer.Batcher[discovery.Member, discovery.Grant]{Start: n.work.Begin, Send: n.sendCopies, Most: maxBatch}
	n.leases.init()
	n.news.init()
	n.anew.init()
	n.met.init()
	n.view.Store(n.newView(nil, time.Now()))
	n.home = discovery.NewHome(discovery.HomeConfig{
		Self:    n.self,
		Ring:    func() *discovery.Ring { return n.view.Load().ring },
		Alive:   n.alive,
		Has:     cfg.Has,
		Suspect: func(m discovery.Member) { cfg.Members.ProbeNow(m.ID) },
		Rows:    cfg.Rows,
		Log:     cfg.Log,
	})
	return n, nil
}

// Share tells what the node gives to others, which is nothing without it. It is to
// be called once, before Run and before the handler is asked.
func (n *Node) Share(b Blobs) { n.blobs = b }

type noBlobs struct{}

func (noBlobs) OpenShared(context.Context, Digest) (*fetch.Shared, error) {
	return nil, fetch.ErrNotHere
}

// Run keeps the node up to date: who is a home, what others are told, how far
// the leases are. After ctx has ended the node answers pings no more, so that
// others drop it, and nothing of it is left running. It returns nil, and is to
// be called once.
func (n *Node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.home.Run(ctx) })
	group.Go(func() error { return n.followRing(ctx) })
	group.Go(func() error { return n.announce(ctx) })
	group.Go(func() error { return n.tellAnew(ctx) })
	group.Go(func() error { return n.reportLeases(ctx) })
	group.Go(func() error { return n.meetStrangers(ctx) })
	err := group.Wait()
	n.end()
	return err
}

func (n *Node) end() {
	n.work.End(n.stop)
	n.transport.CloseIdleConnections()
}

// hello is how this node begins a question.
func (n *Node) hello() hello { return hello{head: spoken, ID: n.cfg.ID, Port: n.cfg.Port} }

// noteVersion logs the first message of another version.
func (n *Node) noteVersion(err error, from string) {
	if other := versionError(0); errors.As(err, &other) {
		n.versions.Do(func() {
			n.cfg.Log.Warn("a node of the LAN speaks another version of the protocol; it is ignored", "from", from, "version", int(other))
		})
	}
}
