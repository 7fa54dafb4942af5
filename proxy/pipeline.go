// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"apt-dht/proxy/fetch"
)

const (
	// maxAhead bounds the transfers that one connection's look-ahead keeps
	// going: what our apt settings make apt pipeline.
	maxAhead = 200

	// maxAheadBytes bounds them by their sizes: a quarter of a second at
	// 1 Gbit/s and some, so that a slow client cannot hoard the uplink.
	maxAheadBytes = 48 << 20

	// maxPrefetches bounds the look-ahead of all connections together.
	maxPrefetches = 1000

	// assumedSize is what a file of unknown size counts for.
	assumedSize = 1 << 20

	// maxQueued bounds the request heads waiting to be looked at.
	maxQueued = 256
)

// pipeline fetches ahead what one connection has pipelined. It is the
// connection's lookahead.Sink.
type pipeline struct {
	s      *Server
	client netip.Addr
	local  net.Addr // where the connection came in
	free   func()   // gives the connection's slot back

	mu       sync.Mutex // guards following
	seen     int        // request heads read from the connection
	answered int        // requests answered
	begun    int        // requests whose handling has begun
	behind   []behind   // unanswered requests that came behind others
	queue    [][]byte   // heads not yet looked at
	holds    []hold     // started, in the order of the requests
	bytes    int64      // what holds are expected to bring
	working  bool
	closed   bool
}

// hold keeps a transfer alive for a request that has not been handled yet.
type hold struct {
	target string // as in the request line
	size   int64
	*fetch.Hold
}

// Seen implements lookahead.Sink. The only request that is not answered yet
// needs no help.
func (p *pipeline) Seen(head []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen++
	if p.closed || p.seen-p.answered < 2 || len(p.behind) >= maxQueued {
		return
	}
	p.behind = append(p.behind, behind{p.seen, time.Now()})
	p.queue = append(p.queue, bytes.Clone(head))
	p.startLocked()
}

// startLocked starts the worker if there is work that it may do.
func (p *pipeline) startLocked() {
	if !p.working && !p.closed && len(p.queue) > 0 && p.roomLocked() {
		p.working = true
		p.s.ahead.Go(p.work)
	}
}

func (p *pipeline) roomLocked() bool {
	return len(p.holds) < maxAhead && p.bytes < maxAheadBytes && p.s.prefetches.Load() < maxPrefetches
}

// work starts transfers in the order of the requests while there is room.
func (p *pipeline) work() {
	for {
		p.mu.Lock()
		if p.closed || len(p.queue) == 0 || !p.roomLocked() {
			p.working = false
			p.mu.Unlock()
			return
		}
		head := p.queue[0]
		p.queue = p.queue[1:]
		p.mu.Unlock()
		p.prefetch(head)
	}
}

// prefetch starts the transfer that a request will need, if it is one that
// can be shared.
func (p *pipeline) prefetch(head []byte) {
	r, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(head), len(head)))
	if err != nil {
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, p.local))
	want, ok := p.s.wantAhead(r, p.client)
	if !ok {
		return
	}
	started := p.s.cfg.Fetch.Prefetch(want)
	if started == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		started.Release()
		return
	}
	size := want.Size
	if size < 0 {
		size = assumedSize
	}
	p.s.prefetches.Add(1)
	p.holds = append(p.holds, hold{r.RequestURI, size, started})
	p.bytes += size
}

// behind is a pipelined request that waits for others to be answered.
type behind struct {
	number int // of the connection's requests, from 1
	at     time.Time
}

// seen tells how a request was looked at ahead.
type seen struct {
	at      time.Time   // zero: it was not
	fetched *fetch.Hold // its file was fetched for it; nil: it was not
}

// begin is told that a request for target is being handled. The returned
// function must be called when the request has been answered.
func (p *pipeline) begin(target string) (how seen, end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun++
	for len(p.behind) > 0 && p.behind[0].number <= p.begun {
		if p.behind[0].number == p.begun {
			how.at = p.behind[0].at
		}
		p.behind = p.behind[1:]
	}
	for i, h := range p.holds {
		if h.target == target {
			for _, passed := range p.holds[:i] {
				passed.Release()
			}
			how.fetched = h.Hold
			p.dropLocked(i + 1)
			p.startLocked() // there may be room now
			break
		}
	}
	return how, func() { p.end(how.fetched) }
}

func (p *pipeline) end(fetched *fetch.Hold) {
	if fetched != nil {
		fetched.Release()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered++
	p.startLocked()
}

func (p *pipeline) dropLocked(n int) {
	for _, h := range p.holds[:n] {
		p.bytes -= h.size
	}
	p.holds = p.holds[n:]
	p.s.prefetches.Add(-int64(n))
}

// Closed implements lookahead.Sink.
func (p *pipeline) Closed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, h := range p.holds {
		h.Release()
	}
	p.dropLocked(len(p.holds))
	p.queue = nil
	p.free()
}
