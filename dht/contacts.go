// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net/netip"
	"slices"
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
	// maxOwed bounds the questions to one address of which an answer is awaited:
	// there are rarely two.
	maxOwed = 16
)

// contacts remembers whom we asked and who answered.
type contacts struct {
	mu sync.Mutex // guards following

	dealings *recent[netip.AddrPort, dealing]
}

type dealing struct {
	asked      time.Time // last
	unanswered time.Time // first question since its last answer, zero: none
	owed       []string  // transactions of the questions that are not answered
}

func newContacts() *contacts {
	return &contacts{dealings: newRecent[netip.AddrPort, dealing](maxContacts / 2)}
}

// asking notes a question, which may be one that is sent again.
func (c *contacts) asking(addr netip.AddrPort, transaction string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	d, _ := c.dealings.get(addr)
	if now.Sub(d.asked) >= answerWindow {
		d.owed = nil
	}
	d.asked = now
	if !slices.Contains(d.owed, transaction) {
		d.owed = append(d.owed[max(0, len(d.owed)+1-maxOwed):], transaction)
	}
	if d.unanswered.IsZero() {
		d.unanswered = now
	}
	c.dealings.put(addr, d)
}

// expected reports whether a packet from addr can be an answer.
func (c *contacts) expected(addr netip.AddrPort) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.dealings.get(addr)
	return ok && len(d.owed) > 0 && time.Since(d.asked) < answerWindow
}

// answered notes an answer and reports whether it is the first to a question that
// is open: whoever forges one has to know its transaction, and who was asked cannot
// flood us with answers.
func (c *contacts) answered(addr netip.AddrPort, transaction string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.dealings.get(addr)
	at := slices.Index(d.owed, transaction)
	if !ok || at < 0 {
		return false
	}
	d.unanswered = time.Time{}
	d.owed = slices.Delete(d.owed, at, at+1)
	c.dealings.put(addr, d)
	return true
}

// silent reports whether addr was asked lately and did not answer.
func (c *contacts) silent(addr netip.AddrPort) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.dealings.get(addr)
	return ok && !d.unanswered.IsZero() &&
		time.Since(d.unanswered) > silentAfter && time.Since(d.asked) < silentFor
}
