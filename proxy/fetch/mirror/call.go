// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"net/http"
	"slices"
	"time"
)

// call is one request on its way to an answer.
type call struct {
	req    *http.Request
	pool   *pool
	wire   []byte
	size   int64 // expected of the body
	flow   string
	since  time.Time
	answer chan answer // holds one

	// guarded by client.mu
	turn    turn
	conn    *conn // nil while it waits
	sent    bool
	settled bool // answer has been filled, or nobody wants it any more
	tries   int  // ended connections that it was the first unanswered call of
}

type answer struct {
	resp *http.Response
	err  error
}

func newCall(req *http.Request) *call {
	return &call{
		req:    req,
		wire:   wireForm(req),
		size:   expectedSize(req.Context()),
		flow:   flowOf(req.Context()),
		since:  time.Now(),
		answer: make(chan answer, 1),
	}
}

// submit queues a call, and returns false if the client is closed.
func (cl *Client) submit(ca *call) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.closed {
		return false
	}
	key := poolKey{classOf(ca.req.Context()), address(ca.req.URL)}
	p := cl.pools[key]
	if p == nil {
		p = &pool{client: cl, key: key, born: time.Now(), flows: make(map[string]int64)}
		cl.pools[key] = p
	}
	ca.pool = p
	ca.turn = p.turnLocked(ca)
	p.waitLocked(ca)
	p.dispatchLocked()
	return true
}

// withdraw ends a call that nobody waits for any more. The answer to what was sent must be read all the same.
func (cl *Client) withdraw(ca *call) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if ca.settled {
		return // a body ends by itself with the context
	}
	ca.settled = true
	switch {
	case ca.conn == nil:
		ca.pool.waiting = slices.DeleteFunc(ca.pool.waiting, func(o *call) bool { return o == ca })
	case !ca.sent:
		ca.conn.removeLocked(ca)
	}
	ca.pool.dispatchLocked()
}

// settleLocked fills the call's answer, once.
func (ca *call) settleLocked(resp *http.Response, err error) {
	if ca.settled {
		return
	}
	ca.settled = true
	ca.answer <- answer{resp, err}
}

func (ca *call) failLocked(op string, err error) {
	ca.settleLocked(nil, failure(op, ca.req.URL, err))
}
