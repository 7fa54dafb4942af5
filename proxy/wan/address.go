// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import "net/netip"

// minPort is the lowest port that connections are made to. Below it live other
// protocols, against which a stranger could turn us.
const minPort = 1024

// special are addresses that netip calls global and that no node on the internet
// has (IANA special-purpose registries; Teredo and 6to4 wrap others).
var special = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)

var globalIPv6 = netip.MustParsePrefix("2000::/3")

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// allowed reports whether to connect to addr. Private allows any unicast address
// that needs no zone.
func allowed(addr netip.AddrPort, private bool) bool {
	ip := addr.Addr()
	if addr.Port() < minPort || ip.Is4In6() || ip.Zone() != "" {
		return false
	}
	if private {
		return ip.IsGlobalUnicast() || ip.IsLoopback()
	}
	return isPublic(ip)
}

func isPublic(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.Is6() && !globalIPv6.Contains(ip) {
		return false
	}
	for _, p := range special {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// siteOf is what one household has at least: an IPv4 address, an IPv6 /64.
func siteOf(ip netip.Addr) netip.Addr {
	ip = ip.WithZone("")
	if ip.Is6() {
		p, _ := ip.Prefix(64)
		return p.Addr()
	}
	return ip
}

// networkOf is what one owner is taken to hold: an IPv4 /24, an IPv6 /48.
func networkOf(ip netip.Addr) netip.Addr {
	length := 24
	if ip.Is6() {
		length = 48
	}
	p, _ := ip.WithZone("").Prefix(length)
	return p.Addr()
}
