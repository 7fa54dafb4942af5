// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"
)

const (
	maxHeader   = 64 << 10 // of one answer, the 1xx ones before it included
	maxInterim  = 5        // 1xx answers before the real one, as net/http
	drainWithin = time.Second
)

// readAnswers reads one answer after the other until the connection ends, and returns why.
func (c *conn) readAnswers() error {
	for {
		ca, err := c.await()
		if err != nil {
			return err
		}
		resp, err := c.readHeader(ca)
		if err != nil {
			return err
		}
		if err := c.hand(ca, resp); err != nil {
			return err
		}
		if err := c.next(); err != nil {
			return err
		}
	}
}

// await waits for the first byte of the next answer and returns the call that it belongs to.
func (c *conn) await() (*call, error) {
	for {
		err := c.peek()
		ca, err := c.claim(err)
		if ca != nil || err != nil {
			return ca, err
		}
	}
}

// claim finds the call that a byte or an error belongs to; neither: the wait was for a deadline that has moved.
func (c *conn) claim(err error) (*call, error) {
	c.pool.client.mu.Lock()
	defer c.pool.client.mu.Unlock()
	timeout := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case timeout && !c.deadline.passed():
		return nil, nil
	case timeout && len(c.queue) == 0:
		return nil, errIdle
	case timeout:
		return nil, ErrStalled
	case err != nil:
		return nil, err
	case len(c.queue) == 0 || !c.queue[0].sent:
		return nil, errUnsolicited
	}
	return c.queue[0], nil
}

// peek waits for a byte. Meanwhile an idle connection holds no buffer.
func (c *conn) peek() error {
	if c.br != nil && (c.br.Buffered() > 0 || !c.isIdle()) {
		_, err := c.br.Peek(1)
		return err
	}
	c.putBuffer()
	if _, err := io.ReadFull(c.nc, c.in.first[:]); err != nil {
		return err
	}
	c.in.ahead = true
	c.br = buffers.Get().(*bufio.Reader)
	c.br.Reset(&c.in)
	return nil
}

func (c *conn) isIdle() bool {
	c.pool.client.mu.Lock()
	defer c.pool.client.mu.Unlock()
	return len(c.queue) == 0
}

// putBuffer is called only when nobody can be reading a body.
func (c *conn) putBuffer() {
	if c.br == nil {
		return
	}
	c.br.Reset(nil)
	buffers.Put(c.br)
	c.br = nil
}

// readHeader reads an answer up to its body, within the time that its call has left.
func (c *conn) readHeader(ca *call) (*http.Response, error) {
	c.in.limit = max(1, maxHeader-c.br.Buffered())
	defer func() { c.in.limit = -1 }()
	for range maxInterim + 1 {
		resp, err := http.ReadResponse(c.br, ca.req)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, ErrStalled
		case err != nil && c.in.err != nil:
			return nil, err
		case err != nil:
			return nil, &protocolError{err}
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, &protocolError{errors.New("it switches protocols unasked")}
		case resp.StatusCode == http.StatusRequestTimeout && resp.Close && c.served > 0:
			return nil, errTimeout408
		case resp.StatusCode >= 200:
			return resp, nil
		}
	}
	return nil, &protocolError{fmt.Errorf("more than %d answers with status 1xx", maxInterim)}
}

// hand gives the answer to its caller and waits until the body has been dealt with.
func (c *conn) hand(ca *call, resp *http.Response) error {
	b := &body{conn: c, call: ca, br: c.br, src: resp.Body, size: resp.ContentLength, done: make(chan ending, 1)}
	empty := resp.Body == http.NoBody
	if !empty {
		resp.Body = b
		c.deadline.begin(b)
		c.in.body, c.in.stall = true, patienceOf(ca.req.Context(), c.pool.client.cfg.Stall)
		b.watch()
	}
	wanted := c.deliver(ca, resp)
	switch {
	case empty:
		return nil
	case !wanted:
		b.abandon(errAbandoned)
	}
	var end ending
	select {
	case end = <-b.done:
	case <-c.killed:
		c.br = nil // the body's reader may still hold it
		return errNotKept
	}
	c.in.body = false
	if end.err != nil || end.drain == 0 {
		return end.err
	}
	c.deadline.set(time.Now().Add(drainWithin))
	if _, err := io.CopyN(io.Discard, b.src, end.drain); err != nil {
		return errAbandoned
	}
	return nil
}

// deliver learns what the header tells of the connection and settles the call. It returns false if nobody
// wants the answer.
func (c *conn) deliver(ca *call, resp *http.Response) (wanted bool) {
	cl := c.pool.client
	cl.mu.Lock()
	defer cl.mu.Unlock()
	now := time.Now()
	c.moved.Store(int64(now.Sub(c.born)))
	c.pool.hear()
	c.learnLocked(resp, now)
	c.ahead -= ca.size
	left := resp.ContentLength
	if left < 0 {
		left = ca.size
	}
	c.left.Store(left)
	c.served++
	c.pool.startSampleLocked(now)
	if resp.Body == http.NoBody {
		c.sealLocked(c.br)
	}
	if !keptOpen(resp) || left >= c.pool.enoughLocked() && left > ca.size {
		c.releaseFollowersLocked(1)
	}
	wanted = !ca.settled
	ca.settleLocked(resp, nil)
	c.pool.dispatchLocked()
	return wanted
}

// learnLocked notes how the host wants to be asked, and how long this connection lasts.
func (c *conn) learnLocked(resp *http.Response, now time.Time) {
	cl, addr := c.pool.client, c.pool.key.addr
	if cl.hosts.manner(addr, now) == unknown {
		if keptOpen(resp) {
			cl.hosts.note(addr, pipelines, now)
		} else if c.served == 0 {
			cl.hosts.note(addr, alone, now)
		}
	}
	if !keptOpen(resp) {
		c.closing = true
		return
	}
	idle, requests := keepAlive(resp.Header)
	if idle >= 0 {
		c.idle = min(c.pool.client.cfg.Idle, idle)
	}
	if c.served == 0 && requests > 0 {
		cl.hosts.limit(addr, 1+requests)
	}
	if requests >= 0 {
		c.allowLocked(requests)
	}
}

// allowLocked is told how many requests the mirror still takes after the one it has just answered.
func (c *conn) allowLocked(requests int) {
	c.releaseFollowersLocked(1 + requests)
	c.allowed = max(0, 1+requests-len(c.queue))
	c.closing = c.closing || c.allowed == 0
}

// seal is called with the end of an answer, before its reader knows of it: what has come by then cannot be the
// answer to a request that follows.
func (c *conn) seal(br *bufio.Reader) {
	c.pool.client.mu.Lock()
	defer c.pool.client.mu.Unlock()
	c.sealLocked(br)
}

func (c *conn) sealLocked(br *bufio.Reader) {
	if br.Buffered() > 0 && (len(c.queue) < 2 || !c.queue[1].sent) {
		c.closing = true
		c.releaseFollowersLocked(1)
	}
}

// next takes the answered call off the queue. An error means that the connection cannot go on.
func (c *conn) next() error {
	c.pool.client.mu.Lock()
	defer c.pool.client.mu.Unlock()
	c.left.Store(0)
	c.sealLocked(c.br)
	now := time.Now()
	c.queue = slices.Delete(c.queue, 0, 1)
	switch {
	case len(c.queue) > 0:
		c.headLocked(now)
	case c.closing:
		return errNotKept
	default:
		c.restLocked(now)
	}
	c.pool.dispatchLocked()
	return nil
}
