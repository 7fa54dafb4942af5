// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"net"
	"sync"
	"time"
)

// deadline is a connection's read deadline. Somebody who wants no more of a body can cut its reading short,
// which never hits whatever is read after that body.
type deadline struct {
	nc net.Conn

	mu    sync.Mutex // guards following
	at    time.Time
	body  *body // being read; nil between bodies
	cause error // why its reading was cut short
}

// set has no effect while the reading of a body is cut short.
func (d *deadline) set(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause != nil {
		return
	}
	d.at = at
	// An error means that the connection is closed, which the next read tells.
	_ = d.nc.SetReadDeadline(at)
}

// passed tells whether the deadline that is in force now has passed: it may have been moved since a read
// returned for it.
func (d *deadline) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !time.Now().Before(d.at)
}

func (d *deadline) begin(b *body) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.body = b
}

// cutShort ends a read of b that goes on, and keeps others from beginning. The first cause counts.
func (d *deadline) cutShort(b *body, cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.body != b || d.cause != nil {
		return
	}
	d.cause = cause
	_ = d.nc.SetReadDeadline(time.Unix(1, 0))
}

// cutCause returns why b was cut short; nil: it was not.
func (d *deadline) cutCause(b *body) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.body != b {
		return nil
	}
	return d.cause
}

// end makes the deadline the connection's own again.
func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.body, d.cause = nil, nil
}
