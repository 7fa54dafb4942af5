// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// Start is [Client.RoundTrip] in two steps: it queues the request, so that requests go out in the order of the
// calls, and returns a function that waits for the answer. That must be called exactly once. A request that
// net/http serves (https, or through an upstream proxy) is sent only then.
func (cl *Client) Start(req *http.Request) (wait func() (*http.Response, error)) {
	if err := checkRequest(req); err != nil {
		return failed(err)
	}
	via, err := cl.proxyFor(req.URL)
	if err != nil {
		return failed(failure("request", req.URL, err))
	}
	if via != nil || req.URL.Scheme == "https" {
		return func() (*http.Response, error) { return cl.viaTransport(req, via) }
	}
	ca := newCall(req)
	if !cl.submit(ca) {
		return failed(failure("request", req.URL, ErrClosed))
	}
	return func() (*http.Response, error) { return cl.await(ca) }
}

func failed(err error) func() (*http.Response, error) {
	return func() (*http.Response, error) { return nil, err }
}

func (cl *Client) await(ca *call) (*http.Response, error) {
	ctx := ca.req.Context()
	if patience := patienceOf(ctx, dialTimeout); patience < dialTimeout {
		defer time.AfterFunc(patience, func() { cl.giveUpDialling(ca) }).Stop()
	}
	select {
	case a := <-ca.answer:
		return a.resp, a.err
	case <-ctx.Done():
		cl.withdraw(ca)
		return nil, failure("first byte", ca.req.URL, context.Cause(ctx))
	}
}

// giveUpDialling fails a call that waits for its host's first connection.
func (cl *Client) giveUpDialling(ca *call) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if ca.conn != nil || slices.ContainsFunc(ca.pool.conns, func(c *conn) bool { return c.opened }) {
		return
	}
	ca.pool.waiting = slices.DeleteFunc(ca.pool.waiting, func(o *call) bool { return o == ca })
	ca.failLocked("dial", ErrStalled)
}
