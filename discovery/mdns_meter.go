// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"net/netip"
	"time"
)

const (
	// sourceRate and linkRate bound the packets per second that are looked at,
	// of one source and of a whole link. A node that starts sends about eight;
	// a few hundred at once are heard.
	sourceRate = 20
	linkRate   = 500
)

// meter counts packets by source, within the current second.
type meter struct {
	second time.Time
	counts map[netip.Addr]int
	total  int
}

func (m *meter) admits(source netip.Addr, now time.Time) bool {
	if now.Sub(m.second) >= time.Second {
		m.second, m.total = now, 0
		m.counts = make(map[netip.Addr]int)
	}
	if m.total >= linkRate || m.counts[source] >= sourceRate {
		return false
	}
	m.total++
	m.counts[source]++
	return true
}
