// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// MaxProxies bounds the addresses that [Links.FindProxies] finds: a LAN has one
// office proxy or two, which may have a few addresses each.
const MaxProxies = 32

// maxProxiesPerSource bounds those that one machine names.
const maxProxiesPerSource = 8

// Links are the local networks of this machine at one moment: those on which
// mDNS runs. They find the proxies for apt that others announce there, without
// a node: for a command that is to answer at once.
type Links struct {
	nics []nic
	log  *slog.Logger
}

// LocalLinks reads this machine's links. interfaces is [Config.Interfaces]. log
// may be nil: nothing is logged.
func LocalLinks(interfaces []string, log *slog.Logger) (*Links, error) {
	nics, err := scanNICs(interfaces)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Links{nics, log}, nil
}

// Near reports whether addr is a private or link-local unicast address on one
// of the links. A link-local IPv6 address must have its zone.
func (l *Links) Near(addr netip.Addr) bool {
	return slices.ContainsFunc(l.nics, func(n nic) bool { return n.near(addr) })
}

// near reports whether a proxy may be at addr of n's link. A proxy at a public
// address, though it were on the link, is not for a stranger to name.
func (n nic) near(addr netip.Addr) bool {
	zoned := addr.Zone() != "" || addr.Is4() || !addr.IsLinkLocalUnicast()
	return zoned && (addr.IsPrivate() || addr.IsLinkLocalUnicast()) && n.reaches(addr)
}

// String tells the links apart from those of another network, or of another
// time at which this machine had other addresses.
func (l *Links) String() string {
	var text strings.Builder
	for _, n := range l.nics {
		fmt.Fprintf(&text, "%s%v", n.Name, n.prefixes)
	}
	return text.String()
}

// FindProxies asks every link who has a proxy for apt (_apt_proxy._tcp), until
// ctx ends: a moment later at the latest it returns. It asks the avahi-daemon,
// which may know already, and by one query of its own, which proxies answer
// directly (RFC 6762 §6.7).
//
// It calls found with each address, once, and never two at a time. What it
// finds is hearsay: there may be no proxy there. But each address is [Links.Near],
// no port is 0 or another service's, and there are at most [MaxProxies].
func (l *Links) FindProxies(ctx context.Context, found func(netip.AddrPort)) {
	s := &search{links: l, found: found, perSource: make(map[netip.Addr]int)}
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, q := range l.queries() {
		asking.Go(func() { q.run(ctx, s) })
	}
	asking.Go(func() {
		if err := l.askAvahi(ctx, s); err != nil {
			l.log.Debug("Avahi was not asked for proxies", "error", err)
		}
	})
}

// search collects what a [Links.FindProxies] finds.
type search struct {
	links *Links
	found func(netip.AddrPort)

	mu sync.Mutex // guards following
	// told are the addresses that were passed on.
	told []netip.AddrPort
	// perSource counts those that one source named.
	perSource map[netip.Addr]int
}

// add takes note that source names a proxy at addr of the link n.
func (s *search) add(n nic, source, addr netip.Addr, port uint16) {
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		addr = addr.WithZone(n.Name)
	}
	at := netip.AddrPortFrom(addr, port)
	if !n.near(addr) || !proxyPort(port) {
		s.links.log.Debug("an announced proxy is ignored: it is not on the link, or at another service's port", "addr", at, "source", source)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.told) == MaxProxies || s.perSource[source] == maxProxiesPerSource || slices.Contains(s.told, at) {
		return
	}
	s.told = append(s.told, at)
	s.perSource[source]++
	s.found(at)
}

// proxyPort reports whether a proxy may be at port. Whoever names one has every
// machine on the link speak HTTP to it: that must not reach mail servers.
func proxyPort(port uint16) bool { return port == 80 || port >= 1024 }
