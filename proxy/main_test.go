// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"apt-dht/index"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/fetch/mirror"
	"apt-dht/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// setup says how a node differs from the ordinary one of the tests, which
// serves everybody and may fetch from anywhere on loopback.
type setup struct {
	sources []string // of apt
	allows  func(netip.Addr) bool
	egress  *Egress
	mirror  mirror.Config
	remote  string // the address from which all clients seem to come
}

// node is a running server made of the real parts.
type node struct {
	*Server
	t     testing.TB
	store *store.Store
	index *index.Index
	fetch *fetch.Fetcher
	addr  string
	stop  func() error // ends Run and returns its error; may be called again

	mu      sync.Mutex // guards following
	dialled []string   // origins, as they were asked for
}

func newNode(t testing.TB, cfg setup) *node {
	t.Helper()
	n := &node{t: t}
	log := slog.New(slog.DiscardHandler)
	apt := loadTrust(t, cfg.sources)
	var err error
	n.store, err = store.Open(store.Config{Dir: t.TempDir(), FreeFloor: 1, Log: log})
	check(t, err)
	n.index, err = index.Open(index.Config{Dir: filepath.Join(t.TempDir(), "index"), Trust: apt, Log: log})
	check(t, err)
	if cfg.egress == nil {
		cfg.egress = &Egress{Hosts: []string{"localhost"}, Nets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	}
	if cfg.egress.InSources == nil {
		cfg.egress.InSources = apt.HasHost
	}
	if cfg.allows == nil {
		cfg.allows = func(netip.Addr) bool { return true }
	}
	cfg.mirror.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.mu.Lock()
		n.dialled = append(n.dialled, addr)
		n.mu.Unlock()
		return cfg.egress.Dial(ctx, mirror.Realm(ctx), network, addr)
	}
	cfg.mirror.Proxy = cfg.egress.Proxy
	client := mirror.New(cfg.mirror)
	n.fetch = fetch.New(fetch.Config{
		Store:    n.store,
		Upstream: client,
		Stored:   func(w fetch.Want, d fetch.Digest, h fetch.Head) { n.Server.Stored(w, d, h) },
		Log:      log,
	})
	n.Server = New(Config{
		NodeID:  "fedcba9876543210",
		Store:   n.store,
		Index:   n.index,
		Fetch:   n.fetch,
		Egress:  cfg.egress,
		Allows:  cfg.allows,
		Version: "1.2.3",
		Log:     log,
	})
	n.run(cfg.remote)
	t.Cleanup(func() {
		check(t, n.stop())
		n.fetch.Close()
		client.Close()
		check(t, n.store.Close())
	})
	return n
}

// run starts the server on a port of its own.
func (n *node) run(remote string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(n.t, err)
	n.addr = l.Addr().String()
	if remote != "" {
		l = &remoteListener{l, remote}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx, []net.Listener{l}) }()
	n.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
}

// dials are the origins that were dialled so far.
func (n *node) dials() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dialled)
}

// remoteListener makes its clients seem to come from elsewhere.
type remoteListener struct {
	net.Listener
	from string
}

func (l *remoteListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &remoteConn{c, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(l.from), 40000))}, nil
}

type remoteConn struct {
	net.Conn
	from net.Addr
}

func (c *remoteConn) RemoteAddr() net.Addr { return c.from }

// client is a connection to a node on which a test writes what apt would.
type client struct {
	*net.TCPConn
	t testing.TB
	r *bufio.Reader
}

func (n *node) dial() *client { return n.dialFrom("127.0.0.1") }

// dialFrom connects from another of loopback's addresses.
func (n *node) dialFrom(ip string) *client {
	n.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.Dial("tcp", n.addr)
	check(n.t, err)
	check(n.t, c.SetDeadline(time.Now().Add(2*patience)))
	n.t.Cleanup(func() { c.Close() })
	return &client{c.(*net.TCPConn), n.t, bufio.NewReader(c)}
}

// aptRequest is what apt 2.6 writes for a target. A field is "Name: value";
// one that begins with a method, as in "HEAD", replaces GET.
func aptRequest(target string, fields ...string) string {
	method, host := http.MethodGet, "proxy.example"
	if _, rest, ok := strings.Cut(target, "://"); ok {
		host, _, _ = strings.Cut(rest, "/")
		host = host[strings.LastIndexByte(host, '@')+1:]
	}
	var more strings.Builder
	for _, f := range fields {
		if !strings.Contains(f, ":") {
			method = f
			continue
		}
		more.WriteString(f + "\r\n")
	}
	return method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: Debian APT-HTTP/1.3 (2.6.1)\r\n" + more.String() + "\r\n"
}

func (c *client) send(raw string) {
	c.t.Helper()
	_, err := io.WriteString(c, raw)
	check(c.t, err)
}

// answer is a response with all that came of its body.
type answer struct {
	*http.Response
	body string
	cut  error // why the body ended before its time
}

func (c *client) answer(method string) *answer {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	return &answer{resp, string(body), err}
}

// get asks for one target on a connection of its own.
func (n *node) get(target string, fields ...string) *answer {
	n.t.Helper()
	return n.getFrom("127.0.0.1", target, fields...)
}

func (n *node) getFrom(ip, target string, fields ...string) *answer {
	n.t.Helper()
	c := n.dialFrom(ip)
	defer c.Close()
	raw := aptRequest(target, fields...)
	c.send(raw)
	method, _, _ := strings.Cut(raw, " ")
	return c.answer(method)
}

// want checks a complete answer.
func (a *answer) want(t testing.TB, code int, body string) {
	t.Helper()
	switch {
	case a.StatusCode != code:
		t.Errorf("answered %s: %.200q; want %d", a.Status, a.body, code)
	case a.cut != nil:
		t.Errorf("the body broke after %d bytes: %v", len(a.body), a.cut)
	case a.body != body:
		t.Errorf("the body has %d bytes, %.60q; want %d, %.60q", len(a.body), a.body, len(body), body)
	}
}

// wantField checks a header field.
func (a *answer) wantField(t testing.TB, name, value string) {
	t.Helper()
	if got := a.Header.Get(name); got != value {
		t.Errorf("%s: %q, want %q", name, got, value)
	}
}

// wantRefusal checks an answer of the proxy's own: it has a body, which makes
// apt try again where that may help, and the reason in its status line.
func (a *answer) wantRefusal(t testing.TB, code int, reason string) {
	t.Helper()
	if a.StatusCode != code || !strings.Contains(a.Status, reason) {
		t.Errorf("answered %q, want %d and a reason with %q", a.Status, code, reason)
	}
	if a.cut != nil || a.body == "" || int64(len(a.body)) != a.ContentLength {
		t.Errorf("the body is %q of %d bytes (%v): a refusal needs a whole one", a.body, a.ContentLength, a.cut)
	}
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not true: %s", what)
		}
	}
}

// transfers waits until n transfers go on.
func (n *node) transfers(count int) {
	n.t.Helper()
	eventually(n.t, fmt.Sprintf("%d transfers", count), func() bool { return len(n.fetch.Transfers()) == count })
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
