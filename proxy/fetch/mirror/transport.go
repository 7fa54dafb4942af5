// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// transportFor returns what serves a class's requests to https origins and through upstream proxies.
func (cl *Client) transportFor(k class) *http.Transport {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	t := cl.transports[k]
	if t == nil {
		t = cl.newTransport(k)
		cl.transports[k] = t
	}
	return t
}

func (cl *Client) newTransport(k class) *http.Transport {
	return &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) { return cl.proxyFor(r.URL) },
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return cl.dial(context.WithValue(ctx, upstreamKey{}, k.upstream), network, addr)
		},
		TLSClientConfig:        cl.cfg.TLS.Clone(),
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true,
		MaxConnsPerHost:        cl.maxConns(k),
		MaxIdleConnsPerHost:    cl.maxConns(k),
		IdleConnTimeout:        cl.cfg.Idle,
		ResponseHeaderTimeout:  cl.cfg.FirstByte,
		MaxResponseHeaderBytes: maxHeader,
		ForceAttemptHTTP2:      true,
		// A connection of HTTP/2 that died unnoticed would else fail every request for a quarter of an hour.
		HTTP2: &http.HTTP2Config{SendPingTimeout: cl.cfg.Stall, PingTimeout: cl.cfg.Stall},
	}
}

// dial marks its errors, for net/http hands them on bare. It ends with the client.
func (cl *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer context.AfterFunc(cl.ctx, cancel)()
	nc, err := cl.cfg.Dial(ctx, network, addr)
	if err != nil {
		return nil, &dialError{err}
	}
	return nc, nil
}

type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

func (cl *Client) viaTransport(req *http.Request, via *url.URL) (*http.Response, error) {
	if cl.ctx.Err() != nil {
		return nil, failure("request", req.URL, ErrClosed)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	stop := context.AfterFunc(cl.ctx, func() { cancel(ErrClosed) })
	release := func() { stop(); cancel(nil) }
	class := classOf(ctx)
	class.upstream = via != nil
	resp, err := cl.transportFor(class).RoundTrip(forTransport(req.WithContext(ctx), via))
	if err != nil {
		defer release()
		return nil, transportError(ctx, req.URL, err)
	}
	resp.Request = req
	if resp.Body == http.NoBody {
		release()
		return resp, nil
	}
	resp.Body = &guarded{
		ReadCloser: resp.Body,
		ctx:        ctx,
		url:        req.URL,
		stall:      patienceOf(ctx, cl.cfg.Stall),
		timer:      stoppedTimer(func() { cancel(ErrStalled) }),
		release:    release,
	}
	return resp, nil
}

// forTransport makes net/http send what the pipelined way sends: the target verbatim, and no field more.
func forTransport(req *http.Request, via *url.URL) *http.Request {
	h := make(http.Header, len(req.Header)+1)
	for name, values := range req.Header {
		if !notSent[http.CanonicalHeaderKey(name)] {
			h[name] = values
		}
	}
	if h["User-Agent"] == nil {
		h["User-Agent"] = []string{""} // none, where net/http would name itself
	}
	req.URL, req.Header, req.Body = urlFor(req.URL, via), h, nil
	return req
}

// urlFor returns a URL that net/http turns into the target of u.
func urlFor(u, via *url.URL) *url.URL {
	path := target(u)
	verbatim := &url.URL{Scheme: u.Scheme, Host: u.Host, Opaque: path}
	switch {
	case u.Scheme == "http" && via != nil:
		verbatim.Opaque = "//" + u.Host + path // net/http puts the scheme before it
	case strings.HasPrefix(path, "//"): // here it must not
		if p, err := url.ParseRequestURI(path); err == nil {
			p.Scheme, p.Host = u.Scheme, u.Host
			return p
		}
	}
	return verbatim
}

func transportError(ctx context.Context, u *url.URL, err error) error {
	var dialled *dialError
	switch {
	case context.Cause(ctx) != nil:
		return failure("first byte", u, context.Cause(ctx))
	case errors.As(err, &dialled):
		return failure("dial", u, dialled.err)
	case isHeaderTimeout(err):
		return failure("first byte", u, ErrStalled)
	}
	return failure("first byte", u, err)
}

// isHeaderTimeout knows ResponseHeaderTimeout's errors, which are of no exported type.
func isHeaderTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// guarded is a body of net/http that fails when the mirror goes silent.
type guarded struct {
	io.ReadCloser
	ctx     context.Context
	url     *url.URL
	stall   time.Duration
	timer   *time.Timer
	release func()
	once    sync.Once
}

func stoppedTimer(f func()) *time.Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

func (g *guarded) Read(p []byte) (int, error) {
	g.timer.Reset(g.stall)
	n, err := g.ReadCloser.Read(p)
	g.timer.Stop()
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF:
		g.once.Do(g.release)
		return n, io.EOF
	case context.Cause(g.ctx) != nil:
		err = context.Cause(g.ctx)
	}
	return n, failure("body", g.url, cut(err))
}

func (g *guarded) Close() error {
	defer g.once.Do(g.release)
	return g.ReadCloser.Close()
}
