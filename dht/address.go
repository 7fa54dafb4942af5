// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net"
	"net/netip"
)

// MinPort is the lowest port that packets go to and peers are found at. Below it
// live other protocols (DNS, SSH, SMTP), against which a stranger could turn us.
const MinPort = 1024

// special are addresses that netip calls global and that no peer on the internet
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

// Allowed reports whether to talk to addr and to believe in a peer there.
// Private allows any unicast address that needs no zone.
func Allowed(addr netip.AddrPort, private bool) bool {
	ip := addr.Addr()
	if addr.Port() < MinPort || ip.Is4In6() || ip.Zone() != "" {
		return false
	}
	if private {
		return ip.IsGlobalUnicast() || ip.IsLoopback()
	}
	return IsPublic(ip)
}

// IsPublic reports whether ip can be that of a peer on the internet.
func IsPublic(ip netip.Addr) bool {
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

// NetworkOf is the network that one owner is taken to hold: an IPv4 /24, an IPv6
// /48.
func NetworkOf(ip netip.Addr) netip.Prefix {
	length := 24
	if ip.Is6() {
		length = 48
	}
	p, _ := ip.Prefix(length)
	return p
}

// owner is whom to hold an address against: its network, and in a private DHT,
// where all may sit in one, itself.
func owner(addr netip.AddrPort, private bool) netip.AddrPort {
	if private {
		return addr
	}
	return netip.AddrPortFrom(NetworkOf(addr.Addr()).Addr(), 0)
}

// udpAddrPort is the address of a packet, without an IPv4 address's IPv6 clothes.
func udpAddrPort(addr net.Addr) (netip.AddrPort, bool) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok || udp == nil {
		return netip.AddrPort{}, false
	}
	ap := udp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), true
}

// wireAddrPort is the address that a message names.
func wireAddrPort(ip net.IP, port int) (netip.AddrPort, bool) {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok || port < 0 || port > 65535 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), true
}
