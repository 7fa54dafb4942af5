// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"sync"
	"time"
)

// measuredFor is how long a rate is believed without any bytes.
const measuredFor = time.Minute

// A meter measures how fast bodies come, while any do: from their first bytes on,
// so that neither the way to a node counts nor a pause.
type meter struct {
	mu    sync.Mutex // guards following
	asked int        // bodies that have been asked for
	since time.Time  // since when nothing has come though bodies were asked for; zero: it has
	moved time.Time  // when bytes came last
	tried bool       // somebody has failed to give any since then
	open  int        // bodies that are coming
	at    time.Time  // up to when spent counts
	spent time.Duration
	bytes int64    // that came meanwhile
	rates [2]int64 // of the last two samples, in bytes per second; 0: none
}

// asks says that a body is asked for.
func (m *meter) asks() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.since.IsZero() {
		m.since = time.Now()
	}
}

// opens says that its first bytes have come.
func (m *meter) opens() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.countLocked()
	m.open++
}

// add counts bytes.
func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes += n
	m.moved = time.Now()
	m.since, m.tried = m.moved, false
	m.countLocked()
}

// closes says that one whose first bytes have come has ended.
func (m *meter) closes() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.countLocked()
	m.open--
}

// fails says that somebody who was asked gives nothing.
func (m *meter) fails() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tried = true
}

// ends says that one that was asked for has ended, or never came.
func (m *meter) ends() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked--; m.asked == 0 && !m.tried && (m.since.Equal(m.moved) || time.Since(m.since) < grace) {
		m.since = time.Time{} // it came, or was not wanted any more
	}
}

func (m *meter) countLocked() {
	now := time.Now()
	if m.open > 0 {
		m.spent += now.Sub(m.at)
	}
	m.at = now
	if m.spent < sample {
		return
	}
	rate := max(1, int64(float64(m.bytes)/m.spent.Seconds()))
	m.rates = [2]int64{m.rates[1], rate}
	m.spent, m.bytes = 0, 0
}

// rate returns what was measured last, or before that if it was more: a single
// slow sample tells little. It is 0 where nothing has come for grace, until something
// does. False: nothing
// has been measured.
func (m *meter) rate() (perSecond int64, measured bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.countLocked()
	if !m.since.IsZero() && time.Since(m.since) >= grace {
		return 0, true
	}
	return max(m.rates[0], m.rates[1]), m.rates[1] > 0
}

// isOld tells whether nothing has come for so long that it may be otherwise by now.
func (m *meter) isOld() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.moved) >= measuredFor
}
