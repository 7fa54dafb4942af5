// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"bufio"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// slowReader is how long a body may lie unread while others wait behind it: longer than any hiccup of a
	// disk or of the scheduler, and short beside what a new connection to a far mirror takes.
	slowReader = 500 * time.Millisecond

	// slowMirror is the same for a mirror that sends nothing: it leaves a retransmission (RFC 6298: 1 s at
	// first) its time.
	slowMirror = 1500 * time.Millisecond

	watchEvery = slowReader / 2

	bufferSize = 64 << 10
)

var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, bufferSize) }}

// conn is one connection and the calls on it. One goroutine reads the headers of answers, another writes
// requests; bodies are read by whoever asked for them while the first goroutine waits.
type conn struct {
	pool     *pool
	deadline deadline
	wake     chan struct{} // calls wait to be sent
	killed   chan struct{} // closed when the connection must end

	// Of the reading side, which is in one place at a time.
	in     wire
	br     *bufio.Reader
	served int       // answers so far
	sample time.Time // when its reader last looked after the pool's rate

	left    atomic.Int64 // bytes to come of the body being read
	moved   atomic.Int64 // when something last moved, in time since born
	reading atomic.Bool  // the caller waits for the mirror
	born    time.Time

	nc net.Conn // set before opened

	// guarded by client.mu
	opened  bool
	closing bool // takes no more calls
	queue   []*call
	ahead   int64 // bytes expected for the unanswered calls of the queue
	allowed int   // calls that it may still take; negative: any number
	idle    time.Duration
	since   time.Time // idle since
	cause   error     // why it was killed
	watch   *time.Timer
}

func newConn(p *pool) *conn {
	return &conn{
		pool:   p,
		wake:   make(chan struct{}, 1),
		killed: make(chan struct{}),
		born:   time.Now(),
		idle:   p.client.cfg.Idle,
	}
}

// run dials and serves the connection until it ends. The context gives Dial its values.
func (c *conn) run(ctx context.Context) {
	cl := c.pool.client
	nc, err := cl.dial(ctx, "tcp", c.pool.key.addr)
	if err != nil {
		cl.mu.Lock()
		defer cl.mu.Unlock()
		c.pool.dialFailedLocked(c, err)
		return
	}
	if !c.open(nc) {
		nc.Close()
		return
	}
	cl.wg.Go(c.writeRequests)
	c.end(c.readAnswers())
}

func (c *conn) open(nc net.Conn) bool {
	cl := c.pool.client
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.closed {
		return false
	}
	now := time.Now()
	c.nc, c.opened, c.since = nc, true, now
	c.allowed = cl.hosts.allowance(c.pool.key.addr)
	c.deadline.nc = nc
	c.in = wire{conn: c, limit: -1}
	c.deadline.set(now.Add(c.idle))
	c.pool.dispatchLocked()
	return true
}

func (c *conn) hasRoomLocked() bool {
	return !c.stuckLocked() && c.aheadLocked() < c.pool.enoughLocked() && len(c.queue) < c.pool.client.cfg.MaxDepth
}

func (c *conn) aheadLocked() int64 { return c.ahead + max(0, c.left.Load()) }

func (c *conn) enqueueLocked(ca *call, now time.Time) {
	ca.conn = c
	c.queue = append(c.queue, ca)
	c.ahead += ca.size
	if c.allowed > 0 {
		c.allowed--
		c.closing = c.allowed == 0
	}
	switch len(c.queue) {
	case 1:
		c.headLocked(now)
	case 2:
		c.watchLocked()
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// headLocked starts the first call's time.
func (c *conn) headLocked(now time.Time) {
	c.moved.Store(int64(now.Sub(c.born)))
	c.deadline.set(now.Add(patienceOf(c.queue[0].req.Context(), c.pool.client.cfg.FirstByte)))
}

// removeLocked takes out a call that was not sent.
func (c *conn) removeLocked(ca *call) {
	c.queue = slices.DeleteFunc(c.queue, func(o *call) bool { return o == ca })
	c.ahead -= ca.size
	if len(c.queue) == 0 {
		c.restLocked(time.Now())
	}
}

// restLocked begins the time of idleness, or ends a connection that takes no more.
func (c *conn) restLocked(now time.Time) {
	c.since = now
	c.pool.restLocked()
	if c.closing {
		c.killLocked(errNotKept)
		return
	}
	c.deadline.set(now.Add(c.idle))
}

// progress notes that n bytes of a body have come.
func (c *conn) progress(n int) {
	if n == 0 {
		return
	}
	c.left.Add(-int64(n))
	c.moved.Store(int64(time.Since(c.born)))
	c.pool.hear()
	c.pool.sampled.Add(int64(n))
	now := time.Now()
	if now.Sub(c.sample) < sampleTime && c.pool.backlog.Load() == 0 {
		return
	}
	c.sample = now
	c.pool.client.mu.Lock()
	defer c.pool.client.mu.Unlock()
	c.pool.sampleLocked(now)
	c.pool.dispatchLocked()
}

// watchLocked looks after the calls that wait behind another, for as long as there are any.
func (c *conn) watchLocked() {
	if c.watch != nil {
		return
	}
	c.watch = time.AfterFunc(watchEvery, func() {
		c.pool.client.mu.Lock()
		defer c.pool.client.mu.Unlock()
		c.watch = nil
		c.checkLocked()
	})
}

// checkLocked takes the calls that wait behind one that does not move to other connections.
func (c *conn) checkLocked() {
	if len(c.queue) < 2 {
		return
	}
	if !c.stuckLocked() {
		c.watchLocked()
		return
	}
	c.releaseFollowersLocked(1)
	c.pool.dispatchLocked()
}

// stuckLocked tells whether the first call has not moved for too long to let others wait behind it.
func (c *conn) stuckLocked() bool {
	limit := slowMirror
	if c.queue[0].settled && !c.reading.Load() {
		limit = slowReader
	}
	return time.Since(c.born)-time.Duration(c.moved.Load()) >= limit
}

// releaseFollowersLocked gives the calls behind the first n back to the pool. Their answers would come on this
// connection all the same, so it ends after those that it keeps.
func (c *conn) releaseFollowersLocked(n int) {
	if len(c.queue) <= n {
		return
	}
	c.closing = true
	for _, ca := range c.queue[n:] {
		c.ahead -= ca.size
		c.pool.waitLocked(ca)
	}
	c.queue = slices.Delete(c.queue, n, len(c.queue))
}

// killLocked ends the connection from outside.
func (c *conn) killLocked(cause error) {
	if c.cause != nil {
		return
	}
	c.cause, c.closing = cause, true
	close(c.killed)
	if c.nc != nil {
		c.nc.Close()
	}
}

func (c *conn) killedFor() error {
	c.pool.client.mu.Lock()
	defer c.pool.client.mu.Unlock()
	return c.cause
}

// end buries the connection, for the reason given, and asks again elsewhere what it left unanswered.
func (c *conn) end(err error) {
	cl := c.pool.client
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if c.cause != nil {
		err = c.cause
	}
	c.killLocked(err)
	c.pool.removeLocked(c)
	for i, ca := range c.queue {
		switch {
		case ca.settled:
		case cl.closed:
			ca.failLocked("first byte", ErrClosed)
		case i > 0 || !ca.sent || c.mayRetryLocked(ca, err):
			c.pool.waitLocked(ca)
		}
	}
	c.queue = nil
	c.pool.restLocked()
	if errors.Is(err, ErrStalled) && c.pool.silentFor() >= cl.cfg.FirstByte {
		c.pool.failAgedLocked()
	}
	c.pool.dispatchLocked()
}

// mayRetryLocked tells whether the first unanswered call is asked again; if not, it has failed. Only this one
// counts the try: those behind it would else be spent by a mirror that closes after every few answers.
func (c *conn) mayRetryLocked(ca *call, err error) bool {
	var malformed *protocolError
	garbled := errors.As(err, &malformed)
	if garbled {
		c.pool.client.hosts.note(c.pool.key.addr, alone, time.Now())
	}
	ca.tries++
	if ca.tries >= maxTries || errors.Is(err, ErrStalled) || garbled && c.served == 0 {
		ca.failLocked("first byte", err)
		return false
	}
	// What ended this connection while idle has most likely ended the others like it.
	c.pool.dropIdleLocked()
	return true
}
