// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"

	"apt-dht/index"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/lan"
	"apt-dht/proxy/lookahead"
	"apt-dht/store"
)

const (
	// headTimeout is how long a request head may take from its first byte on.
	headTimeout = 30 * time.Second

	// idleTimeout is how long a connection may wait for its next request. apt
	// keeps its own open while dpkg works.
	idleTimeout = 5 * time.Minute

	// writeStall is how long a client may take nothing before it is given up.
	writeStall = 2 * time.Minute

	// maxHeader bounds a request head: apt's have some 250 bytes.
	maxHeader = 32 << 10

	// maxConns bounds the connections that are open at a time: a hundred
	// machines with ten origins each. maxConnsEach is one address's share.
	maxConns     = 1024
	maxConnsEach = 256

	// shutdownGrace is how long answers that are under way may take at stop.
	shutdownGrace = 5 * time.Second
)

// Config says what a Server works with. All fields but LAN and Internet are required.
type Config struct {
	// NodeID is this node's: random at each start, since cloned disks must not be
	// one node.
	NodeID string
	// LAN answers the other nodes of the local network, and asks them. nil: there
	// are none.
	LAN *lan.Node
	// Internet is the node's part in the DHT. nil: it has none.
	Internet *Internet
	Store    *store.Store
	Index    *index.Index
	Fetch    *fetch.Fetcher
	Egress   *Egress
	// Allows tells whether a client is served.
	Allows func(client netip.Addr) bool
	// Version of the program, as shown in Via and status.
	Version string
	Log     *slog.Logger
}

// Server answers apt. Make it with New, give it connections with Run.
type Server struct {
	cfg      Config
	log      *slog.Logger
	via      string
	viaField []string // via as a field of answers
	started  time.Time
	router   http.Handler
	indexer  *indexer
	roots    flights[rootCopy]
	silent   silentMirrors

	largeRoots chan struct{} // a token for each large root file being read
	prefetches atomic.Int64  // holds of all connections

	fresh    freshConns
	tunnels  tunnels
	counters counters
	ahead    sync.WaitGroup // look-ahead workers
}

// New returns a server that does not listen yet.
func New(cfg Config) *Server {
	s := &Server{
		cfg:     cfg,
		log:     cfg.Log,
		started: time.Now(),

		largeRoots: make(chan struct{}, largeRoots),
	}
	s.via = fmt.Sprintf("1.1 %s (apt-dht/%s)", s.pseudonym(), cfg.Version)
	s.viaField = []string{s.via}
	s.indexer = newIndexer(cfg, s.via)
	s.router = s.routes()
	return s
}

// pseudonym is this node's received-by in Via fields (RFC 9110 §7.6.3).
func (s *Server) pseudonym() string { return "apt-dht-" + s.cfg.NodeID }

// Stored is told of each file that enters the store (fetch.Config.Stored).
func (s *Server) Stored(want fetch.Want, digest fetch.Digest, head fetch.Head) {
	if (want.Digest == fetch.Digest{}) {
		s.keepURL(want, digest, head)
	}
	name, err := index.NameOf(want.URL)
	if err != nil {
		return
	}
	if s.cfg.LAN != nil && want.Digest == digest {
		s.cfg.LAN.Have(digest)
	}
	entry := s.cfg.Index.Lookup(name, netip.Addr{})
	if s.cfg.Internet != nil {
		s.tellInternet(digest, head, entry.Base)
	}
	if entry.Parse && entry.Digest == digest {
		s.indexer.parse(name, digest)
	}
}

// Run serves the listeners, which it closes, until ctx ends; then answers under
// way have shutdownGrace to finish, and are cut off short of their length after.
func (s *Server) Run(ctx context.Context, listeners []net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withConn,
		ConnState:         s.fresh.note,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	work, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for range 2 { // one may fetch while the other parses
		wg.Go(func() { s.indexer.run(work) })
	}
	failed := make(chan error, len(listeners))
	slots := newSlots()
	for _, l := range listeners {
		wg.Go(func() { failed <- server.Serve(s.wrap(l, slots)) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.log.Info("stopping; answers under way have a little time to finish", "grace", shutdownGrace)
	stop()
	s.shutdown(server)
	wg.Wait()
	return err
}

// shutdown lets answers finish for a while, then ends everything.
func (s *Server) shutdown(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	s.fresh.close()
	if err := server.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
		s.log.Info("some answers were not finished in time and have been cut off")
		server.Close()
	}
	s.tunnels.close()
	s.ahead.Wait()
	s.roots.wait()
}

// wrap bounds a listener's connections and has them read ahead.
func (s *Server) wrap(l net.Listener, slots *slots) net.Listener {
	return &lookahead.Listener{
		Listener: &boundedListener{Listener: l, slots: slots},
		Sink: func(c net.Conn) lookahead.Sink {
			from := addrOf(c.RemoteAddr().String())
			return &pipeline{s: s, client: clientAt(c.RemoteAddr().String(), c.LocalAddr()), local: c.LocalAddr(), free: func() { slots.put(from) }}
		},
	}
}

type (
	connKey struct{} // the connection of a request
	seenKey struct{} // how a request was looked at ahead
)

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// fetchedAhead is what brought the request's file for this very request, nil
// where nothing did.
func fetchedAhead(r *http.Request) *fetch.Hold {
	seen, _ := r.Context().Value(seenKey{}).(seen)
	return seen.fetched
}

// seenAt is when the request was read, which for a pipelined one is long before
// it is handled.
func seenAt(r *http.Request) time.Time {
	if seen, ok := r.Context().Value(seenKey{}).(seen); ok {
		return seen.at
	}
	return time.Now()
}

// pipelineOf is the look-ahead of the request's connection, nil where it has none.
func pipelineOf(r *http.Request) *pipeline {
	c, ok := r.Context().Value(connKey{}).(*lookahead.Conn)
	if !ok {
		return nil
	}
	p, _ := c.Sink.(*pipeline)
	return p
}

// ServeHTTP implements http.Handler. What names another host goes to the proxy
// before the router can take its path for one of ours.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p := pipelineOf(r); p != nil {
		seen, end := p.begin(r.RequestURI)
		defer end()
		if !seen.at.IsZero() {
			r = r.WithContext(context.WithValue(r.Context(), seenKey{}, seen))
		}
	}
	client := clientOf(r)
	switch {
	case isPeers(r) && s.cfg.LAN != nil:
		s.router.ServeHTTP(w, r)
	case isPeers(r):
		refuse(w, r, http.StatusForbidden, "Forbidden (this apt-dht has no part in a LAN: it needs --mdns, or --lan-peer with the asking node's name)")
	case !s.allows(client):
		s.log.Info("refused a client: --allow does not name its network", "client", client)
		refuse(w, r, http.StatusForbidden, fmt.Sprintf("Forbidden (apt-dht does not serve %s; its operator may allow it with --allow)", client))
	case s.isLoop(r):
		refuse(w, r, http.StatusLoopDetected, "Loop Detected (apt-dht: the request came back to the node that sent it; is it its own upstream proxy?)")
	case r.Method == http.MethodConnect:
		s.serveConnect(w, r)
	case r.URL.IsAbs():
		s.serveFile(w, r)
	default:
		s.router.ServeHTTP(w, r)
	}
}

// isPeers tells whether another node asks us as a peer. Who may do that is
// for the LAN's handler to judge.
func isPeers(r *http.Request) bool {
	return !r.URL.IsAbs() && strings.HasPrefix(r.URL.Path, lan.Prefix)
}

// isLoop tells whether this node has already passed the request on.
func (s *Server) isLoop(r *http.Request) bool {
	for _, v := range r.Header["Via"] {
		if strings.Contains(v, s.pseudonym()) {
			return true
		}
	}
	return false
}

// routes are the paths that are our own; all others name a file of some host.
func (s *Server) routes() http.Handler {
	r := mux.NewRouter().SkipClean(true)
	if s.cfg.Internet != nil {
		stranger := func(r *http.Request, _ *mux.RouteMatch) bool { return isStranger(r) }
		r.MatcherFunc(stranger).Handler(s.cfg.Internet.WAN.Handler())
	}
	own := r.Methods(http.MethodGet, http.MethodHead).Subrouter()
	own.HandleFunc("/", s.servePage)
	own.HandleFunc("/~/v1/status", s.serveStatus)
	own.Handle("/metrics", s.metrics())
	own.Handle("/~/v1/find", newFinder(s))
	if s.cfg.LAN != nil {
		r.PathPrefix(lan.Prefix).Handler(s.cfg.LAN.Handler())
	}
	r.PathPrefix("/").HandlerFunc(s.serveFile)
	return r
}

// serveFile answers a request for a file of some origin.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuse(w, r, http.StatusMethodNotAllowed, fmt.Sprintf("Method Not Allowed (apt-dht passes on GET and HEAD, not %s)", r.Method))
		return
	}
	liftCredentials(r)
	url, err := targetOf(r)
	if err != nil {
		s.log.Info("a request was refused", "client", r.RemoteAddr, "err", err)
		refuse(w, r, http.StatusBadRequest, fmt.Sprintf("Bad Request (apt-dht: %v)", err))
		return
	}
	a, err := s.understand(r, url, clientOf(r))
	if err != nil {
		refuse(w, r, http.StatusBadRequest, fmt.Sprintf("Bad Request (apt-dht: %v)", err))
		return
	}
	if err := s.cfg.Egress.checkLiteral(hostOf(url), realmOf(a.client)); err != nil {
		s.fail(w, r, url, err)
		return
	}
	switch {
	case hasCredentials(r):
		s.passThrough(w, r, &a)
	case a.entry.Kind == index.KindRoot:
		s.serveRoot(w, r, &a)
	case a.known():
		s.serveBlob(w, r, &a)
	default:
		s.serveUnknown(w, r, &a)
	}
}
