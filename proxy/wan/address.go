// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import "net/netip"

// siteOf is what one household has at least: an IPv4 address, an IPv6 /64.
func siteOf(ip netip.Addr) netip.Addr {
	ip = ip.WithZone("")
	if ip.Is6() {
		p, _ := ip.Prefix(64)
		return p.Addr()
	}
	return ip
}
