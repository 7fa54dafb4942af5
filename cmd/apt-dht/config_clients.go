// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// lanRefresh is how old the knowledge of this machine's networks may be: a
// laptop that changes network is at home within the time apt takes to retry.
const lanRefresh = 5 * time.Second

// clientList decides which addresses may use the proxy.
type clientList struct {
	fixed []netip.Prefix
	lan   func() []netip.Prefix // nil: "lan" is not allowed

	mu      sync.Mutex // guards following
	current []netip.Prefix
	read    time.Time
}

// newClientList allows loopback and what the rules name; lan returns the
// networks that the rule "lan" stands for.
func newClientList(rules []clientRule, lan func() []netip.Prefix) *clientList {
	list := &clientList{fixed: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("::1/128"),
	}}
	for _, rule := range rules {
		if rule.lan {
			list.lan = lan
		} else {
			list.fixed = append(list.fixed, rule.prefix)
		}
	}
	return list
}

// Allows reports whether the client at addr may use the proxy. IPv4 addresses
// may come mapped into IPv6, link-local ones with their zone.
func (l *clientList) Allows(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return contains(l.fixed, addr) || l.lan != nil && contains(l.onLink(), addr)
}

// LogValue implements slog.LogValuer: the networks that are served now.
func (l *clientList) LogValue() slog.Value {
	prefixes := slices.Clone(l.fixed)
	if l.lan != nil {
		prefixes = append(prefixes, l.onLink()...)
	}
	return slog.StringValue(fmt.Sprint(prefixes))
}

// onLink returns the networks of this machine, read anew now and then: at boot
// the node may be up before the network is.
func (l *clientList) onLink() []netip.Prefix {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.read.IsZero() || now.Sub(l.read) >= lanRefresh {
		l.current, l.read = l.lan(), now
	}
	return l.current
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// lanPrefixes returns the private networks that this machine's NICs are on:
// RFC 1918, unique local (RFC 4193) and link-local ones. A public network is
// nobody's LAN, and neither is what lies beyond a tunnel.
func lanPrefixes() []netip.Prefix {
	nics, err := net.Interfaces()
	if err != nil {
		return nil // a machine without networks has no LAN
	}
	var prefixes []netip.Prefix
	for _, nic := range nics {
		if nic.Flags&net.FlagUp == 0 || nic.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			continue
		}
		addrs, err := nic.Addrs()
		if err != nil {
			continue // the NIC has just gone
		}
		prefixes = append(prefixes, privatePrefixes(addrs)...)
	}
	return prefixes
}

// privatePrefixes returns the networks of the private addresses among addrs.
func privatePrefixes(addrs []net.Addr) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, addr := range addrs {
		prefix, err := netip.ParsePrefix(addr.String())
		if ip := prefix.Addr(); err == nil && (ip.IsPrivate() || ip.IsLinkLocalUnicast()) {
			prefixes = append(prefixes, prefix.Masked())
		}
	}
	return prefixes
}
