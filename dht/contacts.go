// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// answerWindow is how long after a question its answer is let in.
	answerWindow = 5 * time.Second
	// silentAfter is when a node that was asked counts as silent: longer than
	// any query waits.
	silentAfter = 2 * time.Second
	// silentFor is how long a silent node is left alone.
	silentFor = 5 * time.Minute
	// maxContacts bounds the addresses remembered: about 100 bytes each.
	maxContacts = 4096
)

// contacts remembers whom we asked and who answered.
type contacts struct {
	mu sync.Mutex // guards following

	dealings *recent[netip.AddrPort, dealing]
}

type dealing struct {
	asked      time.Time // last
	unanswered time.Time // first question since its last answer, zero: none
	owed       int       // answers that have not come yet
}

func newContacts() *contacts {
	return &contacts{dealings: newRecent[netip.AddrPort, dealing](maxContacts / 2)}
}

func (c *contacts) asking(addr netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	d, _ := c.dealings.get(addr)
	if now.Sub(d.asked) >= answerWindow {
		d.owed = 0
	}
	d.asked = now
	d.owed++
	if d.unanswered.IsZero() {
		d.unanswered = now
	}
	c.dealings.put(addr, d)
}

// expected reports whether a packet from addr can be an answer: one to each
// question, so that who was asked cannot flood us with answers.
func (c *contacts) expected(addr netip.AddrPort) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.dealings.get(addr)
	return ok && d.owed > 0 && time.Since(d.asked) < answerWindow
}

func (c *contacts) answered(addr netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.dealings.get(addr); ok {
		d.unanswered = time.Time{}
		d.owed = max(0, d.owed-1)
		c.dealings.put(addr, d)
	}
}

// silent reports whether addr was asked lately and did not answer.
func (c *contacts) silent(addr netip.AddrPort) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.dealings.get(addr)
	return ok && !d.unanswered.IsZero() &&
		time.Since(d.unanswered) > silentAfter && time.Since(d.asked) < silentFor
}
