// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"sync/atomic"

	"apt-dht/proxy/fetch"
)

// counters are of this run, in bytes of bodies.
type counters struct {
	aptFromStore  atomic.Int64 // sent to apt from the store
	aptFromLAN    atomic.Int64 // sent to apt as it came from a node of the LAN
	aptFromWAN    atomic.Int64 // sent to apt as it came from nodes on the internet
	aptFromMirror atomic.Int64 // sent to apt as it came from a mirror
}

// to is the counter of what goes to apt from a source.
func (c *counters) to(source string) *atomic.Int64 {
	switch source {
	case fetch.FromStore:
		return &c.aptFromStore
	case fetch.FromLAN:
		return &c.aptFromLAN
	case fetch.FromWAN:
		return &c.aptFromWAN
	}
	return &c.aptFromMirror
}
