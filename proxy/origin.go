// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"apt-dht/proxy/fetch/mirror"
)

// Egress is the node's way out: which origins may be asked, and through what.
// A proxy that fetches whatever it is told to reaches what its clients cannot,
// so the judgement is passed on the address that is dialled, whatever name led
// there. Behind an upstream proxy that address is the proxy's own; what can be
// judged then is an origin written as an address.
type Egress struct {
	// Hosts and Nets are origins that the operator named (--allow-origin).
	Hosts []string
	Nets  []netip.Prefix
	// InSources tells whether one of this machine's apt sources names the host.
	InSources func(host string) bool
	// Upstream names the proxy for a URL; nil, or a nil URL, for none.
	Upstream func(*url.URL) (*url.URL, error)
}

// originError is a refusal by the policy.
type originError struct{ reason string }

func (e *originError) Error() string { return "refused: " + e.reason }

func refuseOrigin(host string, ip netip.Addr, format string, args ...any) error {
	who := host
	if stripPort(host) != ip.String() {
		who = fmt.Sprintf("%s (%s)", host, ip)
	}
	return &originError{who + " " + fmt.Sprintf(format, args...)}
}

// carrierGrade is RFC 6598's shared address space: private in all but name.
var carrierGrade = netip.MustParsePrefix("100.64.0.0/10")

// check judges an address that host led to, for clients of a realm. host has
// its port where that is not its scheme's own, as in apt's sources.
func (e *Egress) check(host string, ip netip.Addr, realm string) error {
	ip = ip.Unmap()
	switch {
	case ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || !ip.IsValid():
		return refuseOrigin(host, ip, "is an address that no mirror has")
	case ip.IsLoopback() && realm != realmLocal:
		return refuseOrigin(host, ip, "is this machine itself, and the request came from another")
	case (ip.IsLoopback() || ip.IsPrivate() || carrierGrade.Contains(ip)) && !e.named(host, ip):
		return refuseOrigin(host, ip, "is private, and no apt source of this machine names it: allow it with --allow-origin %s", stripPort(host))
	}
	return nil
}

// checkLiteral judges a URL's host where it is written as an address: what is
// stored of this machine's own origins is not for others either.
func (e *Egress) checkLiteral(host, realm string) error {
	name := stripPort(host)
	ip, err := netip.ParseAddr(name)
	switch {
	case name == "localhost" || strings.HasSuffix(name, ".localhost"):
		ip = netip.IPv6Loopback()
	case err != nil:
		return nil
	}
	return e.check(withoutOwnPort(host), ip, realm)
}

func (e *Egress) named(host string, ip netip.Addr) bool {
	return slices.Contains(e.Hosts, stripPort(host)) ||
		slices.ContainsFunc(e.Nets, func(n netip.Prefix) bool { return n.Contains(ip) }) ||
		e.InSources != nil && e.InSources(host)
}

// dialTimeout is how long a mirror may take to accept a connection.
const dialTimeout = 10 * time.Second

// Dial connects to addr, host:port, if the policy allows the address that its
// name leads to. realm tells for whom. An upstream proxy (mirror.ToUpstream),
// which the operator has named, may be anywhere.
func (e *Egress) Dial(ctx context.Context, realm, network, addr string) (net.Conn, error) {
	if mirror.ToUpstream(ctx) {
		return e.dialUpstream(ctx, network, addr)
	}
	host := strings.ToLower(withoutOwnPort(addr))
	dialer := net.Dialer{
		Timeout: dialTimeout,
		ControlContext: func(_ context.Context, _, dialled string, _ syscall.RawConn) error {
			return e.check(host, addrOf(dialled), realm)
		},
	}
	return dialer.DialContext(ctx, network, addr)
}

func (e *Egress) dialUpstream(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	return dialer.DialContext(ctx, network, addr)
}

// withoutOwnPort leaves out the ports that http and https have anyway.
func withoutOwnPort(addr string) string {
	if host, ok := strings.CutSuffix(addr, ":80"); ok {
		return host
	}
	return strings.TrimSuffix(addr, ":443")
}

// Proxy is the upstream proxy for a URL; nil for none. It refuses origins that
// the policy would, as far as it can tell.
func (e *Egress) Proxy(u *url.URL) (*url.URL, error) {
	if e.Upstream == nil {
		return nil, nil
	}
	via, err := e.Upstream(u)
	if via == nil || err != nil {
		return nil, err
	}
	return via, e.checkLiteral(u.Host, realmRemote)
}
