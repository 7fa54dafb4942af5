// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"net/netip"
	"time"
)

// ProbeNow has the member id probed at once, though at most once a second:
// somebody says that it is silent, which may be a lie.
func (l *LAN) ProbeNow(id string) { l.members.suspect(id) }

// Heard tells that somebody who says to be m, and whom mDNS may not have named
// yet, spoke from that address. It has m probed, within the bounds for what mDNS
// says.
func (l *LAN) Heard(m Member) {
	if idPattern.MatchString(m.ID) {
		l.members.heard(m.ID, []netip.AddrPort{m.Addr}, m.Addr.Addr())
	}
}

func (m *membership) suspect(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nodes[id]; n != nil {
		n.hurry(time.Now())
		m.poke()
	}
}
