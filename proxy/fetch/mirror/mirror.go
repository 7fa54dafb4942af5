// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Config says how a [Client] connects and how patient it is.
type Config struct {
	// Dial opens every connection, to mirrors and upstream proxies alike; it decides which addresses may be
	// dialled. [Realm] of its context names the realm, [ToUpstream] tells the two apart. Nil: a [net.Dialer]. It has 10 s in either case.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Proxy names the upstream proxy for a URL; nil, or a nil URL: none.
	Proxy func(*url.URL) (*url.URL, error)

	// TLS is for https origins. Nil: the system's roots.
	TLS *tls.Config

	// MaxConns bounds the connections to one host and port for each realm. 0: 6.
	MaxConns int

	// MaxDepth bounds the unanswered requests of one connection. 0: 100.
	MaxDepth int

	// FirstByte bounds the time from when a request is the first unanswered one of its connection until the
	// header of its answer is complete. 0: 15 s.
	FirstByte time.Duration

	// Stall bounds the time between two bytes of a body that the caller waits for. 0: 15 s.
	Stall time.Duration

	// Idle is how long a connection is kept unused. 0: 60 s. A mirror's own Keep-Alive timeout may shorten it.
	Idle time.Duration
}

const (
	dialTimeout = 10 * time.Second

	// defaultConns is what browsers settled on; two of them are what a pool uses without need (see [pool]).
	defaultConns = 6

	// defaultDepth keeps 100 Mbit/s busy over 100 ms with files of 12 kB. What is sent too far ahead costs
	// little: 300 bytes for each request that a closed connection leaves to be sent again.
	defaultDepth = 100

	// assumedSize stands in for a size that nobody knows; the median .deb has about this many bytes.
	assumedSize = 64 << 10
)

func (cfg Config) withDefaults() Config {
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	cfg.MaxConns = orDefault(cfg.MaxConns, defaultConns)
	cfg.MaxDepth = orDefault(cfg.MaxDepth, defaultDepth)
	cfg.FirstByte = orDefault(cfg.FirstByte, 15*time.Second)
	cfg.Stall = orDefault(cfg.Stall, 15*time.Second)
	cfg.Idle = orDefault(cfg.Idle, time.Minute)
	return cfg
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Client is an [http.RoundTripper] for mirrors. It is safe for concurrent use.
type Client struct {
	cfg    Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the connections' goroutines

	mu         sync.Mutex // guards following, and whatever is marked so in pool, conn and call
	closed     bool
	asked      uint64 // calls so far
	pools      map[poolKey]*pool
	hosts      hosts
	transports map[class]*http.Transport
}

// New returns a client; whoever made it calls [Client.Close].
func New(cfg Config) *Client {
	ctx, cancel := context.WithCancel(context.Background())
	return &Client{
		cfg:        cfg.withDefaults(),
		ctx:        ctx,
		cancel:     cancel,
		pools:      make(map[poolKey]*pool),
		hosts:      make(hosts),
		transports: make(map[class]*http.Transport),
	}
}

// RoundTrip sends a GET request and returns its answer, of whatever status, as soon as its header is there.
// The target on the wire is, byte for byte, what follows the host in req.URL.Opaque if that has the form
// "//host/path?query", else req.URL.RequestURI(). Header fields go out as given, except those that belong to
// the connection (RFC 9110 §7.6.1) or frame a body. Errors are of type [*Error].
//
// The caller closes the body. A body not read delays the requests behind it by half a second at most. When the
// request's context ends, so does the body.
func (cl *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	return cl.Start(req)()
}

func (cl *Client) proxyFor(u *url.URL) (*url.URL, error) {
	if cl.cfg.Proxy == nil {
		return nil, nil
	}
	return cl.cfg.Proxy(u)
}

// Distrust tells that wrong bytes came from the URL's host. Nothing is pipelined to it for an hour, and what
// waits behind other requests on its connections is asked again.
func (cl *Client) Distrust(u *url.URL) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	addr := address(u)
	cl.hosts.note(addr, alone, time.Now())
	for key, p := range cl.pools {
		if key.addr == addr {
			p.unpipelineLocked()
		}
	}
}

// CloseIdleConnections closes the connections that nobody uses at the moment.
func (cl *Client) CloseIdleConnections() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for _, p := range cl.pools {
		p.dropIdleLocked()
	}
	for _, t := range cl.transports {
		t.CloseIdleConnections()
	}
}

// Close ends all requests and bodies with [ErrClosed] and waits until the connections' goroutines have ended.
// It may be called again.
func (cl *Client) Close() {
	cl.cancel()
	cl.mu.Lock()
	cl.closed = true
	for _, p := range cl.pools {
		p.closeLocked()
	}
	for _, t := range cl.transports {
		t.CloseIdleConnections()
	}
	cl.mu.Unlock()
	cl.wg.Wait()
}
