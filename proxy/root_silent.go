// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"errors"
	"maps"
	"sync"
	"time"
)

const (
	// slowFailure is how long it takes at least to learn that a mirror is down
	// before that is worth remembering, and silentFor for how long it is.
	slowFailure = 2 * time.Second
	silentFor   = time.Minute

	// maxSilent bounds the mirrors that are remembered.
	maxSilent = 256
)

var errSilentMirror = errors.New("the mirror did not answer within the last minute")

// silentMirrors are the hosts that did not answer lately: whoever asks again waits
// as long as before, and apt asks for the root files of one repository after the
// other.
type silentMirrors struct {
	mu    sync.Mutex // guards following
	until map[string]time.Time
}

func (m *silentMirrors) add(host string) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.until, func(_ string, until time.Time) bool { return now.After(until) })
	if m.until == nil || len(m.until) >= maxSilent {
		m.until = make(map[string]time.Time)
	}
	m.until[host] = now.Add(silentFor)
}

func (m *silentMirrors) has(host string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Before(m.until[host])
}
