// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxStatic bounds the static peers, and the addresses of each.
	maxStatic = 64

	resolveTimeout = 5 * time.Second

	// tellAfter is how many visits in vain are told to the operator.
	tellAfter = 3
)

// staticPeer is a peer, or a DNS name for several, that the configuration
// names.
type staticPeer struct {
	host  string
	port  uint16
	addrs atomic.Pointer[[]netip.AddrPort] // as last resolved
}

// CheckPeer reports whether name has the form of Config.Static's entries.
func CheckPeer(name string) error {
	_, err := newStaticPeer(name, 1)
	return err
}

// newStaticPeer reads HOST, HOST:PORT, an IPv4 or IPv6 address, or [IPv6]:PORT.
func newStaticPeer(name string, port uint16) (*staticPeer, error) {
	peer := &staticPeer{host: name, port: port}
	peer.addrs.Store(new([]netip.AddrPort))
	if _, err := netip.ParseAddr(name); err == nil {
		return peer, nil
	}
	host, text, err := net.SplitHostPort(name)
	if err == nil {
		number, err := strconv.ParseUint(text, 10, 16)
		if err != nil || number == 0 {
			return nil, fmt.Errorf("discovery: static peer %q: %q is not a port", name, text)
		}
		peer.host, peer.port = host, uint16(number)
	}
	if strings.ContainsAny(peer.host, "/@ \t") || strings.Contains(peer.host, "://") {
		return nil, fmt.Errorf("discovery: static peer %q is not HOST or HOST:PORT", name)
	}
	if peer.host == "" || len(peer.host) > 253 {
		return nil, fmt.Errorf("discovery: static peer %q names no host", name)
	}
	return peer, nil
}

// has reports whether addr is one of the peer's.
func (p *staticPeer) has(addr netip.Addr) bool {
	return slices.ContainsFunc(*p.addrs.Load(), func(a netip.AddrPort) bool { return a.Addr() == addr })
}

// run resolves and probes the peer: often at first, more and more rarely while
// it does not answer, and again and again once it does, since its addresses
// may change. Between these, its membership is like any other's.
func (p *staticPeer) run(ctx context.Context, m *membership) error {
	delay := firstDelay
	for silent := 1; ; silent++ {
		pause := delay
		if p.visit(ctx, m) {
			pause, delay, silent = recheckAfter, firstDelay, 0
		}
		if silent == tellAfter {
			m.log.Warn("a peer that the configuration names does not answer: it must run, and name this node too", "peer", p.host, "port", p.port)
		}
		delay = min(2*delay, maxDelay)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(vary(pause)):
		}
	}
}

// visit reports whether the peer answered at any of its addresses.
func (p *staticPeer) visit(ctx context.Context, m *membership) bool {
	p.resolve(ctx, m)
	answered := false
	for _, a := range m.askAll(ctx, "", *p.addrs.Load()) {
		if a.err == nil {
			answered = true
			m.learn(a.id, a.addr)
		}
	}
	return answered
}

// resolve keeps the addresses of last time if it fails.
func (p *staticPeer) resolve(ctx context.Context, m *membership) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", p.host)
	if err != nil {
		m.log.Debug("a static peer has no address", "host", p.host, "error", err)
		return
	}
	addrs := make([]netip.AddrPort, 0, len(found))
	for _, addr := range found[:min(len(found), maxStatic)] {
		addrs = append(addrs, netip.AddrPortFrom(addr.Unmap(), p.port))
	}
	p.addrs.Store(&addrs)
}
