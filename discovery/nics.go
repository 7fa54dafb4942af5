// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// maxNICs bounds the network interfaces on which mDNS runs at a time, each
	// of which costs two sockets. A machine with more has containers.
	maxNICs = 32

	// maxAnnounced bounds the addresses announced for one interface.
	maxAnnounced = 8

	requiredFlags  = net.FlagUp | net.FlagRunning | net.FlagMulticast
	forbiddenFlags = net.FlagLoopback | net.FlagPointToPoint
)

// vpnNames begins the names of tunnels that look like Ethernet to the flags.
var vpnNames = []string{"tun", "tap", "wg", "ppp", "tailscale", "zt", "ipsec", "vti", "xfrm", "gre", "sit", "nebula"}

// nic is a network interface with its addresses at one moment.
type nic struct {
	net.Interface
	prefixes []netip.Prefix // the interface's own addresses with their lengths, ordered
}

func (n nic) equal(other nic) bool {
	return n.Index == other.Index && n.Name == other.Name && n.Flags == other.Flags &&
		slices.Equal(n.prefixes, other.prefixes)
}

// scanNICs returns the interfaces where mDNS shall run: those that named lists,
// or all suitable ones if it lists none.
func scanNICs(named []string) ([]nic, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	addrs, err := interfaceAddrs()
	if err != nil {
		return nil, err
	}
	var found []nic
	for _, ifi := range interfaces {
		if len(named) > 0 && !slices.Contains(named, ifi.Name) {
			continue
		}
		n := nic{Interface: ifi, prefixes: addrs[ifi.Index]}
		if n.usable() && (len(named) > 0 || n.suitable() && !isPort(ifi.Name)) {
			found = append(found, n)
		}
	}
	return found[:min(len(found), maxNICs)], nil
}

// isPort reports whether the interface belongs to a bridge or bond, which has
// the addresses in its place.
func isPort(name string) bool {
	_, err := os.Lstat(filepath.Join("/sys/class/net", name, "master"))
	return err == nil
}

// usable reports whether mDNS can run at all.
func (n nic) usable() bool {
	return n.Flags&requiredFlags == requiredFlags && len(n.prefixes) > 0
}

// suitable reports whether n is a local network to which mDNS may go unasked.
// A link-local IPv6 address proves nothing, since every interface has one: a
// public address beside it tells a hosted machine.
func (n nic) suitable() bool {
	isVPN := func(prefix string) bool { return strings.HasPrefix(n.Name, prefix) }
	if n.Flags&forbiddenFlags != 0 || slices.ContainsFunc(vpnNames, isVPN) {
		return false
	}
	private, public := false, false
	for _, p := range n.prefixes {
		switch addr := p.Addr(); {
		case addr.IsPrivate(), addr.Is4() && addr.IsLinkLocalUnicast():
			private = true
		case addr.IsLinkLocalUnicast():
		case addr.Is4():
			return false
		default:
			public = true
		}
	}
	return private || !public
}

// reaches reports whether addr is a unicast address on n's link. A link-local
// IPv6 address must name n as its zone or have none.
func (n nic) reaches(addr netip.Addr) bool {
	if addr.Zone() != "" && addr.Zone() != n.Name {
		return false
	}
	addr = addr.WithZone("")
	if addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
		return false
	}
	for _, p := range n.prefixes {
		if p.Contains(addr) && addr != lastAddr(p) {
			return true
		}
	}
	return false
}

// has reports whether addr is n's own.
func (n nic) has(addr netip.Addr) bool {
	addr = addr.WithZone("")
	return slices.ContainsFunc(n.prefixes, func(p netip.Prefix) bool { return p.Addr() == addr })
}

// hasFamily reports whether n has an IPv4 (or IPv6) address.
func (n nic) hasFamily(v4 bool) bool {
	return slices.ContainsFunc(n.prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() == v4 })
}

// announced returns the addresses to publish on n's link. Link-local ones and
// public ones only if there are no others: clients of the office proxy take the
// first that they find, and cannot use a link-local one without its zone.
func (n nic) announced(listen []netip.Addr) []netip.Addr {
	var private, linkLocal, public []netip.Addr
	for _, p := range n.prefixes {
		switch addr := p.Addr(); {
		case len(listen) > 0 && !listens(listen, addr, n.Name):
		case addr.IsPrivate():
			private = append(private, addr)
		case addr.IsLinkLocalUnicast():
			linkLocal = append(linkLocal, addr)
		default:
			public = append(public, addr)
		}
	}
	for _, addrs := range [][]netip.Addr{private, public, linkLocal} {
		if len(addrs) > 0 {
			return addrs[:min(len(addrs), maxAnnounced)]
		}
	}
	return nil
}

// listens reports whether a server bound to the addresses of listen answers on
// addr of the interface name.
func listens(listen []netip.Addr, addr netip.Addr, name string) bool {
	return slices.ContainsFunc(listen, func(l netip.Addr) bool {
		l = l.Unmap()
		switch {
		case l == netip.IPv6Unspecified():
			return true
		case l.IsUnspecified():
			return addr.Is4()
		}
		return l == addr || l == addr.WithZone(name)
	})
}

// lastAddr returns the broadcast address of an IPv4 prefix that has one
// (RFC 3021: those with 31 or 32 bits have none).
func lastAddr(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() || p.Bits() >= 31 {
		return netip.Addr{}
	}
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}
