// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"apt-dht/discovery"
	"apt-dht/store"
)

// A site is a local network in one process, with an uplink and a mirror behind
// it: nodes that share one home and read from each other. It is made for
// synctest: all waiting is on channels and timers.
type site struct {
	t    testing.TB
	home *discovery.Home

	rtt    time.Duration // of a question
	uplink *pipe
	mirror http.HandlerFunc // nil: serves files

	nodes map[netip.AddrPort]*node
	world *world // nil: there is no internet but the mirror

	mu    sync.Mutex // guards following
	files map[string][]byte
	asked []asked // of the mirror
}

// asked is a request to the mirror.
type asked struct {
	by    *node
	path  string
	from  string // Range
	began time.Time
}

const mirrorURL = "http://mirror.example"

func newSite(t testing.TB, nodes int) *site {
	s := &site{t: t, rtt: time.Millisecond, uplink: newPipe(25_000_000), files: map[string][]byte{}, nodes: map[netip.AddrPort]*node{}}
	s.home = discovery.NewHome(discovery.HomeConfig{Self: discovery.Member{ID: "0000000000000000", Addr: netip.MustParseAddrPort("[::]:1")}})
	for range nodes {
		s.add(store.Config{})
	}
	return s
}

// A pipe lets through so many bytes per second, of all who use it.
type pipe struct {
	mu   sync.Mutex // guards following
	rate int64
	free time.Time
}

func newPipe(rate int64) *pipe { return &pipe{rate: rate} }

func (p *pipe) set(rate int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = rate
}

func (p *pipe) pass(ctx context.Context, n int) error {
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	wait := p.free.Sub(now)
	p.mu.Unlock()
	if !sleep(ctx, wait) {
		return context.Cause(ctx)
	}
	return nil
}

// A node is one machine. It is a LAN for its own fetcher.
type node struct {
	*bench
	site  *site
	self  discovery.Member
	link  *pipe // what it sends to others
	alone bool

	excused bool // it may have to wait

	mu     sync.Mutex // guards following
	state  int        // up, deaf or dead
	spoil  spoil
	answer func(q Question) (Answer, bool) // instead of the home's
	failed map[Peer]int
	liars  map[Peer]string
	asks   []Question
	fed    int64 // bytes that others got from it
}

const (
	up   = iota
	deaf // it is there, and says nothing more
	dead
)

// A spoil makes of a right answer what a bad peer sends.
type spoil func(ctx context.Context, d Digest, from, to int64, body *PeerBody) (*PeerBody, error)

func (s *site) add(cfg store.Config) *node {
	s.t.Helper()
	n := &node{site: s, link: newPipe(100_000_000), failed: map[Peer]int{}, liars: map[Peer]string{}}
	cfg.Dir, cfg.FreeFloor, cfg.Log = s.t.TempDir(), 1, slog.New(slog.DiscardHandler)
	st, err := store.Open(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	i := len(s.nodes) + 1
	n.self = discovery.Member{ID: fmt.Sprintf("%016x", i), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 9977)}
	conf := Config{Store: st, Upstream: memUpstream{n}, LAN: n, Stored: n.stored, Log: slog.New(slog.DiscardHandler)}
	if s.world != nil {
		conf.WAN = s.world
	}
	f := New(conf)
	n.bench = &bench{f, st}
	s.home.Joined(n.self)
	s.nodes[n.self.Addr] = n
	s.t.Cleanup(func() {
		f.Close()
		if err := st.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return n
}

func (s *site) node(i int) *node {
	return s.nodes[netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 9977)]
}

// file puts a file on the mirror, and returns how to want it.
func (s *site) file(name string, data []byte) Want {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files["/"+name] = data
	return Want{URL: mirrorURL + "/" + name, Digest: sha256.Sum256(data), Size: int64(len(data)), Flow: "client", Exact: true, Unproven: true}
}

// requests are those for a file to the mirror.
func (s *site) requests(want Want) (list []asked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if mirrorURL+a.path == want.URL {
			list = append(list, a)
		}
	}
	return list
}

// has puts a file into the node's store, and tells the home.
func (n *node) has(data []byte) {
	n.site.t.Helper()
	g, err := n.store.Create(sha256.Sum256(data), int64(len(data)))
	if err == nil {
		_, err = g.Write(data)
	}
	if err == nil {
		_, err = g.Commit(store.Meta{Modified: modified, Origin: mirrorURL})
	}
	if err != nil {
		n.site.t.Fatal(err)
	}
	n.site.home.Announce(n.self, []Digest{sha256.Sum256(data)}, nil)
}

// claims tells the home that the node has a file.
func (n *node) claims(want Want) { n.site.home.Announce(n.self, []Digest{want.Digest}, nil) }

func (n *node) stored(_ Want, d Digest, _ Head) {
	if n.is(up) {
		n.site.home.Announce(n.self, []Digest{d}, nil)
	}
}

func (n *node) peer() Peer { return Peer{ID: n.self.ID, Addr: n.self.Addr} }

func (n *node) is(state int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state == state
}

// kill stops the node as kill -9 or SIGSTOP does.
func (n *node) kill(state int) {
	n.mu.Lock()
	n.state = state
	n.mu.Unlock()
	if state == dead {
		n.site.home.Forget(n.self.ID)
		n.Fetcher.Close()
	}
}

// Alone implements LAN.
func (n *node) Alone() bool { return n.alone }

// Find implements LAN.
func (n *node) Find(ctx context.Context, q Question) func() Answer {
	return func() Answer {
		if !sleep(ctx, n.site.rtt) || !n.is(up) {
			return Answer{Number: -1}
		}
		n.mu.Lock()
		n.asks = append(n.asks, q)
		answer := n.answer
		n.mu.Unlock()
		if answer != nil {
			if a, ok := answer(q); ok {
				return a
			}
		}
		return n.ask(q)
	}
}

func (n *node) ask(q Question) Answer {
	w := discovery.Want{Hash: q.Digest, Size: q.Size, Lease: q.Lease, Have: q.Have}
	for _, p := range q.Silent {
		w.Silent = append(w.Silent, p.Addr)
	}
	found := n.site.home.Lookup(n.self, []discovery.Want{w})[0]
	a := Answer{Number: found.Number}
	for _, m := range found.From {
		p := Peer{ID: m.ID, Addr: m.Addr}
		if !n.knowsLiar(p) {
			a.From = append(a.From, p)
		}
	}
	switch {
	case found.State == discovery.Held && len(a.From) > 0:
		a.State = Held
	case found.State == discovery.Coming:
		a.State = Coming
	case found.State == discovery.Lease, found.State == discovery.Held && q.Lease:
		a.State = Leased
		a.Lease = n.newLease(q.Digest, q.Have)
	}
	return a
}

// Failed implements LAN.
func (n *node) Failed(p Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failed[p]++
}

// Liar implements LAN.
func (n *node) Liar(p Peer, _ Digest, what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.liars[p] = what
}

func (n *node) knowsLiar(p Peer) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.liars[p] != ""
}

// memLease reports to the home as a node does.
type memLease struct {
	n    *node
	d    Digest
	lost chan struct{}
	once sync.Once
	stop chan struct{}

	mu   sync.Mutex // guards following
	have int64
}

func (n *node) newLease(d Digest, have int64) *memLease {
	l := &memLease{n: n, d: d, have: have, lost: make(chan struct{}), stop: make(chan struct{})}
	go l.report()
	return l
}

func (l *memLease) report() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		if !l.n.is(up) {
			continue
		}
		l.mu.Lock()
		have := l.have
		l.mu.Unlock()
		if lost := l.n.site.home.Progress(l.n.self, []discovery.LeaseProgress{{Hash: l.d, Offset: have}}); len(lost) > 0 {
			close(l.lost)
			return
		}
	}
}

func (l *memLease) Progress(have int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.have = have
}

func (l *memLease) Lost() <-chan struct{} { return l.lost }

func (l *memLease) Done() { l.end(discovery.LeaseProgress{Hash: l.d, Done: true}) }

func (l *memLease) GiveUp(have int64) {
	l.end(discovery.LeaseProgress{Hash: l.d, Offset: have, GiveUp: true})
}

func (l *memLease) end(p discovery.LeaseProgress) {
	l.once.Do(func() {
		close(l.stop)
		if l.n.is(up) {
			l.n.site.home.Progress(l.n.self, []discovery.LeaseProgress{p})
		}
	})
}

var errRefused = errors.New("connection refused")

// Fetch implements LAN.
func (n *node) Fetch(ctx context.Context, p Peer, d Digest, from, to int64) (*PeerBody, error) {
	if !sleep(ctx, n.site.rtt) {
		return nil, context.Cause(ctx)
	}
	other := n.site.nodes[p.Addr]
	switch {
	case other == nil || other.is(dead):
		return nil, errRefused
	case other.is(deaf):
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	other.mu.Lock()
	spoil := other.spoil
	other.mu.Unlock()
	body, err := other.give(ctx, d, from, to)
	if spoil != nil {
		return spoil(ctx, d, from, to, body)
	}
	return body, err
}

// give is what a node does with another's request.
func (n *node) give(ctx context.Context, d Digest, from, to int64) (*PeerBody, error) {
	shared, err := n.OpenShared(ctx, d)
	if err != nil {
		return nil, err
	}
	body := &PeerBody{ReadCloser: &lent{Shared: shared, n: n, ctx: ctx, at: from, to: to}, Size: shared.Size, Growing: shared.File == nil, Modified: shared.Modified}
	if !body.Growing && from > 0 && from%store.PieceSize == 0 {
		states, err := n.store.Pieces(d)
		if err != nil {
			shared.Close()
			return nil, err
		}
		body.State = &states[from/store.PieceSize-1]
	}
	return body, nil
}

// lent is a body on its way from one node to another.
type lent struct {
	*Shared
	n      *node
	ctx    context.Context
	at, to int64
}

func (l *lent) Close() error {
	l.Shared.Close()
	return nil
}

func (l *lent) Read(p []byte) (int, error) {
	if l.to >= 0 {
		p = p[:min(int64(len(p)), l.to-l.at)]
		if len(p) == 0 {
			return 0, io.EOF
		}
	}
	n, err := l.read(p[:min(len(p), 16<<10)])
	switch {
	case l.n.is(deaf):
		<-l.ctx.Done()
		return 0, context.Cause(l.ctx)
	case l.n.is(dead):
		return 0, io.ErrUnexpectedEOF
	case l.ctx.Err() != nil:
		return 0, context.Cause(l.ctx)
	}
	l.at += int64(n)
	l.n.mu.Lock()
	l.n.fed += int64(n)
	l.n.mu.Unlock()
	if n > 0 {
		return n, l.n.link.pass(l.ctx, n)
	}
	return 0, err
}

func (l *lent) read(p []byte) (int, error) {
	if l.File != nil {
		n, err := l.File.ReadAt(p, l.at)
		if n > 0 {
			err = nil
		}
		return n, err
	}
	to, err := l.Arriving.Wait(l.ctx, l.at)
	if err != nil {
		return 0, err
	}
	return l.Arriving.ReadAt(p[:min(int64(len(p)), to-l.at)], l.at)
}

// memUpstream is a node's way to the mirror.
type memUpstream struct{ n *node }

func (memUpstream) Distrust(*url.URL) {}

// Start implements Upstream.
func (u memUpstream) Start(req *http.Request) func() (*http.Response, error) {
	s := u.n.site
	path := req.URL.Opaque[len("//mirror.example"):]
	s.mu.Lock()
	s.asked = append(s.asked, asked{u.n, path, req.Header.Get("Range"), time.Now()})
	data, ok := s.files[path]
	handler := s.mirror
	s.mu.Unlock()
	if handler == nil {
		handler = http.NotFound
		if ok {
			handler = serving(data)
		}
	}
	return s.serve(context.WithValue(req.Context(), byKey{}, u.n), req, path, handler)
}

// byKey is for the node that asks a mirror, in the context of a request.
type byKey struct{}

// serve runs a handler as if over the uplink.
func (s *site) serve(ctx context.Context, req *http.Request, path string, handler http.HandlerFunc) func() (*http.Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	answer := &memAnswer{site: s, ctx: ctx, header: http.Header{}, begun: make(chan struct{}), body: w, length: -1}
	go func() {
		defer cancel()
		defer func() {
			answer.Flush()
			if recover() != nil || answer.length > 0 {
				w.CloseWithError(io.ErrUnexpectedEOF)
			}
			w.Close()
		}()
		in := (&http.Request{Method: "GET", URL: &url.URL{Path: path}, Header: req.Header}).WithContext(ctx)
		handler(answer, in)
	}()
	context.AfterFunc(req.Context(), func() { r.CloseWithError(context.Canceled) })
	return func() (*http.Response, error) {
		select {
		case <-answer.begun:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if answer.code == 0 {
			cancel()
			return nil, errRefused
		}
		return &http.Response{StatusCode: answer.code, Header: answer.header, Body: &memBody{r, cancel}, ContentLength: answer.size}, nil
	}
}

type memBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (b *memBody) Close() error {
	b.PipeReader.Close()
	b.cancel()
	return nil
}

// memAnswer is an http.ResponseWriter.
type memAnswer struct {
	site   *site
	ctx    context.Context
	header http.Header
	code   int // 0: the connection failed
	begun  chan struct{}
	once   sync.Once
	body   *io.PipeWriter
	size   int64
	length int64 // bytes still to be written, -1: not told
}

func (a *memAnswer) Header() http.Header { return a.header }

func (a *memAnswer) WriteHeader(code int) {
	a.once.Do(func() {
		a.code, a.length = code, -1
		if n, err := strconv.ParseInt(a.header.Get("Content-Length"), 10, 64); err == nil {
			a.length = n
		}
		a.size = a.length
		close(a.begun)
	})
}

// Flush is called at the end, too: without an answer until then there is none.
func (a *memAnswer) Flush() { a.once.Do(func() { close(a.begun) }) }

func (a *memAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	for at := 0; at < len(p); at += 16 << 10 {
		part := p[at:min(len(p), at+16<<10)]
		if err := a.site.uplink.pass(a.ctx, len(part)); err != nil {
			return at, err
		}
		if _, err := a.body.Write(part); err != nil {
			return at, err
		}
		a.length -= int64(len(part))
	}
	return len(p), nil
}

// got is what a reader was given.
type got struct {
	data  []byte
	head  Head
	err   error
	first time.Duration // until it could begin
	took  time.Duration
	from  string
}

// read reads a file as a client does.
func (n *node) read(ctx context.Context, want Want) got { return n.readFrom(ctx, want, 0) }

// readFrom reads a file from an offset on.
func (n *node) readFrom(ctx context.Context, want Want, offset int64) (g got) {
	began := time.Now()
	c, err := n.Open(ctx, want)
	g.first = time.Since(began)
	if err != nil {
		g.err = err
		return g
	}
	defer c.Close()
	g.head, g.from = c.Head, c.Source
	if offset > 0 {
		c.Seek(offset, io.SeekStart)
	}
	g.data, g.err = io.ReadAll(c)
	g.took = time.Since(began)
	return g
}

func (n *node) mustRead(want Want, data []byte) got {
	n.site.t.Helper()
	g := n.read(n.site.t.Context(), want)
	if g.err != nil || !bytes.Equal(g.data, data) {
		n.site.t.Errorf("node %s: %d bytes of %d after %v, equal %v, %v", n.self.ID[12:], len(g.data), len(data), g.took, bytes.Equal(g.data, data[:min(len(g.data), len(data))]), g.err)
	}
	return g
}

// all has every node read at the same time.
func (s *site) all(want Want, data []byte, each func(n *node, g got)) {
	var wg sync.WaitGroup
	for _, n := range s.list() {
		wg.Go(func() {
			if g := n.mustRead(want, data); each != nil {
				each(n, g)
			}
		})
	}
	wg.Wait()
}

func (s *site) list() (nodes []*node) {
	for i := range s.nodes {
		nodes = append(nodes, s.nodes[i])
	}
	slices.SortFunc(nodes, func(a, b *node) int { return a.self.Addr.Compare(b.self.Addr) })
	return nodes
}
