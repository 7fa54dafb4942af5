// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// askAgain is when a query that nobody answered is repeated: packets get lost,
// multicast on wireless networks above all.
const askAgain = 30 * time.Millisecond

// proxyQuery is a query for proxies by one IP version on one link, from a port
// of its own, so that they answer at once and to it alone.
type proxyQuery struct {
	nic   nic
	conn  *net.UDPConn
	group netip.AddrPort
	id    uint16 // by which answers are told from what comes unasked
}

// queries returns one for each link and IP version. Where one cannot be made,
// another will do.
func (l *Links) queries() []*proxyQuery {
	var queries []*proxyQuery
	for _, n := range l.nics {
		for _, v4 := range []bool{true, false} {
			q, err := newProxyQuery(n, v4)
			if err != nil {
				l.log.Debug("proxies cannot be looked for on an interface", "interface", n.Name, "error", err)
				continue
			}
			queries = append(queries, q)
		}
	}
	return queries
}

// newProxyQuery binds to an address of n, by which the answers come in there.
func newProxyQuery(n nic, v4 bool) (*proxyQuery, error) {
	own, err := n.queryAddr(v4)
	if err != nil {
		return nil, err
	}
	group, open := group6.WithZone(n.Name), bind6
	if v4 {
		group, open = group4, bind4
	}
	fd, err := open(n.Index, own)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "mdns query "+n.Name)
	defer file.Close() // FilePacketConn has a duplicate
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, err
	}
	return &proxyQuery{n, conn.(*net.UDPConn), netip.AddrPortFrom(group, mdnsPort), dns.Id()}, nil
}

// queryAddr returns the address of n from which queries go out: mDNS by IPv6 is
// spoken among link-local addresses.
func (n nic) queryAddr(v4 bool) (netip.Addr, error) {
	for _, p := range n.prefixes {
		if a := p.Addr(); a.Is4() == v4 && (v4 || a.IsLinkLocalUnicast()) {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no such address", n.Name)
}

func bind4(index int, own netip.Addr) (int, error) {
	return open(unix.AF_INET, nil, func(fd int) error {
		if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)}); err != nil {
			return os.NewSyscallError("choose interface", err)
		}
		return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet4{Addr: own.As4()}))
	})
}

func bind6(index int, own netip.Addr) (int, error) {
	return open(unix.AF_INET6, []option{{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index}}, func(fd int) error {
		return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet6{Addr: own.As16(), ZoneId: uint32(index)}))
	})
}

// run asks, and hears answers until ctx ends.
func (q *proxyQuery) run(ctx context.Context, s *search) {
	defer q.conn.Close()
	defer context.AfterFunc(ctx, func() { q.conn.SetReadDeadline(time.Unix(1, 0)) })()
	var answered atomic.Bool
	q.ask(s)
	again := time.AfterFunc(askAgain, func() {
		if !answered.Load() {
			q.ask(s)
		}
	})
	defer again.Stop()
	buf := make([]byte, maxPacket)
	var limit meter
	for ctx.Err() == nil {
		n, from, err := q.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		source := from.Addr().Unmap()
		if from.Port() != mdnsPort || !q.nic.reaches(source) || !limit.admits(source, time.Now()) {
			continue
		}
		msg := unpack(buf[:n])
		if msg == nil || !msg.Response || msg.Id != q.id {
			continue
		}
		answered.Store(true)
		for _, o := range offers(msg) {
			for _, addr := range append(o.addrs, source) {
				s.add(q.nic, source, addr, o.port)
			}
		}
	}
}

func (q *proxyQuery) ask(s *search) {
	m := new(dns.Msg)
	m.SetQuestion(proxyService+"."+domain, dns.TypePTR)
	m.Id, m.RecursionDesired = q.id, false
	packet, err := m.Pack()
	if err == nil {
		_, err = q.conn.WriteToUDPAddrPort(packet, q.group)
	}
	if err != nil {
		s.links.log.Debug("proxies were not asked for", "interface", q.nic.Name, "group", q.group, "error", err)
	}
}

// offer is where a response says that a proxy is: at these addresses, or if
// there are none at the sender's.
type offer struct {
	port  uint16
	addrs []netip.Addr
}

// offers reads them from a response. Their names are of no interest.
func offers(msg *dns.Msg) []offer {
	records := slices.Concat(msg.Answer, msg.Extra)
	records = records[:min(len(records), maxRecords)]
	var found []offer
	for _, rr := range records {
		srv, ok := rr.(*dns.SRV)
		if !ok || srv.Hdr.Ttl == 0 || !isProxyInstance(srv.Hdr.Name) || len(found) == maxSightings {
			continue
		}
		found = append(found, offer{srv.Port, addrsOf(srv.Target, records)})
	}
	return found
}

// isProxyInstance reports whether name is a label of any kind, dots in it
// included, before the service's name.
func isProxyInstance(name string) bool {
	const service = proxyService + "." + domain
	return dns.IsSubDomain(service, name) && dns.CountLabel(name) == dns.CountLabel(service)+1
}

func addrsOf(host string, records []dns.RR) []netip.Addr {
	var addrs []netip.Addr
	for _, rr := range records {
		addr := addrOf(rr)
		if addr.IsValid() && strings.EqualFold(rr.Header().Name, host) && len(addrs) < maxAddrs {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}
