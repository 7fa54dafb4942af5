// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// ordinaryConns is how many connections a pool opens as soon as requests wait. The second takes over while
	// the first is at a large body or is being closed by its mirror. More of them deliver no sooner, only more
	// out of order.
	ordinaryConns = 2

	backgroundConns = 2

	// patience is how long the first waiting request waits before it is a reason for another connection.
	patience = 2 * maxWait

	// redialAfter holds back after a failed dial while other connections live.
	redialAfter = 5 * time.Second

	maxTries = 3
)

type poolKey struct {
	class
	addr string
}

// pool holds the connections to one address for one class of requests, and the requests that wait for one.
type pool struct {
	client  *Client
	key     poolKey
	backlog atomic.Int32 // len(waiting), to be looked at without the lock
	sampled atomic.Int64 // bytes that came since sampleAt
	heard   atomic.Int64 // when anything last came from the mirror, in time since born
	born    time.Time

	// guarded by client.mu
	conns    []*conn          // dialling ones included
	waiting  []*call          // by their turn
	flows    map[string]int64 // see turn
	clock    int64            // the start of the last call placed
	frontAt  time.Time        // since when the first waiting call is the first
	noDialTo time.Time
	rate     float64   // bytes per second while something is to come; 0: not known
	sampleAt time.Time // since when sampled counts; zero: nothing is to come
}

// dispatchLocked hands the waiting calls to connections, as far as these have room, and sees to it that there
// are connections enough.
func (p *pool) dispatchLocked() {
	now := time.Now()
	placed := 0
	for _, ca := range p.waiting {
		c := p.pickLocked(now)
		if c == nil {
			break
		}
		c.enqueueLocked(ca, now)
		p.clock = max(p.clock, ca.turn.start)
		placed++
	}
	if placed > 0 {
		p.waiting = slices.Delete(p.waiting, 0, placed)
		p.frontAt = now
	}
	for p.wantsConnLocked(now) {
		p.dialLocked(p.waiting[0].req.Context())
	}
	p.backlog.Store(int32(len(p.waiting)))
	if len(p.waiting) == 0 {
		clear(p.flows)
		p.forgetLocked()
	}
}

// forgetLocked drops a pool without connections. A late call of it may find that another has its place.
func (p *pool) forgetLocked() {
	if len(p.conns) == 0 && p.client.pools[p.key] == p {
		delete(p.client.pools, p.key)
	}
}

// pickLocked chooses the connection for the next call: the busy one with the least to come if that is soon done,
// else the idle one that was used last, else none. Idle ones first would deliver later files first (see
// maxWait); with ten files asked ahead that costs 5 % of the time at 50 ms and 200 Mbit/s.
func (p *pool) pickLocked(now time.Time) *conn {
	var idle, best *conn
	pipelining := p.client.hosts.manner(p.key.addr, now) == pipelines
	for _, c := range p.conns {
		switch {
		case !c.opened || c.closing:
		case len(c.queue) == 0:
			if idle == nil || c.since.After(idle.since) {
				idle = c
			}
		case pipelining && c.hasRoomLocked():
			if best == nil || c.aheadLocked() < best.aheadLocked() {
				best = c
			}
		}
	}
	if best != nil {
		return best
	}
	return idle
}

func (cl *Client) maxConns(k class) int {
	if k.background {
		return min(backgroundConns, cl.cfg.MaxConns)
	}
	return cl.cfg.MaxConns
}

// wantsConnLocked tells whether there is a reason for another connection.
func (p *pool) wantsConnLocked(now time.Time) bool {
	n, dialling := len(p.conns), 0
	for _, c := range p.conns {
		if !c.opened {
			dialling++
		}
	}
	switch {
	case dialling >= len(p.waiting) || n >= p.client.maxConns(p.key.class):
		return false
	case n == 0:
		return true
	case now.Before(p.noDialTo):
		return false
	}
	switch p.client.hosts.manner(p.key.addr, now) {
	case alone:
		return true
	case unknown:
		return n < ordinaryConns
	default:
		return dialling == 0 && (n < ordinaryConns || p.blockedLocked() || now.Sub(p.frontAt) > patience)
	}
}

// blockedLocked tells whether each connection is at a body too large to wait for, or takes no more.
func (p *pool) blockedLocked() bool {
	return !slices.ContainsFunc(p.conns, func(c *conn) bool { return !c.closing && c.left.Load() < p.enoughLocked() })
}

func (p *pool) dialLocked(ctx context.Context) {
	c := newConn(p)
	p.conns = append(p.conns, c)
	p.client.wg.Go(func() { c.run(context.WithoutCancel(ctx)) })
}

// dialFailedLocked fails all that wait if there is no other connection to wait for: they would meet the same.
func (p *pool) dialFailedLocked(c *conn, err error) {
	p.removeLocked(c)
	p.noDialTo = time.Now().Add(redialAfter)
	if len(p.conns) == 0 {
		p.failLocked("dial", err)
	}
	p.dispatchLocked()
}

// failAgedLocked fails what has waited as long for a silent mirror as the call that has just been given up. One
// after the other, each would wait as long again.
func (p *pool) failAgedLocked() {
	limit := p.client.cfg.FirstByte
	p.waiting = slices.DeleteFunc(p.waiting, func(ca *call) bool {
		old := time.Since(ca.since) >= limit
		if old {
			ca.failLocked("first byte", ErrStalled)
		}
		return old
	})
}

func (p *pool) failLocked(op string, err error) {
	for _, ca := range p.waiting {
		ca.failLocked(op, err)
	}
	p.waiting = nil
}

func (p *pool) removeLocked(c *conn) {
	p.conns = slices.DeleteFunc(p.conns, func(o *conn) bool { return o == c })
}

func (p *pool) dropIdleLocked() {
	for _, c := range p.conns {
		if c.opened && len(c.queue) == 0 {
			c.killLocked(errIdle)
		}
	}
}

// unpipelineLocked asks again elsewhere what is queued behind the first call of each connection.
func (p *pool) unpipelineLocked() {
	for _, c := range p.conns {
		c.releaseFollowersLocked(1)
	}
	p.dispatchLocked()
}

func (p *pool) closeLocked() {
	p.failLocked("request", ErrClosed)
	for _, c := range p.conns {
		c.killLocked(ErrClosed)
	}
}
