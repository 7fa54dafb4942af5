// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"net/netip"
	"slices"
)

// shared is for providers' NAT (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// special holds the IPv4 blocks that are not globally reachable, beside those
// that netip.Addr knows (IANA special-purpose address registry, RFC 6890).
var special = []netip.Prefix{
	shared,
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("192.0.0.0/24"),    // DS-Lite's (RFC 6333) among others
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, broadcast
}

// isPublic reports whether the whole internet can reach the IPv4 address.
func isPublic(addr netip.Addr) bool {
	contains := func(p netip.Prefix) bool { return p.Contains(addr) }
	return addr.Is4() && addr.IsGlobalUnicast() && !addr.IsPrivate() && !slices.ContainsFunc(special, contains)
}
