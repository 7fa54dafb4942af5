// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxPacket is the longest mDNS packet (RFC 6762 §17).
	maxPacket = 9000

	// multicastPause is the least time between two multicast answers (RFC 6762 §6).
	multicastPause = time.Second
)

// helloTimes are the moments at which a link hears hello, and a browse begins.
// The second makes up for a lost packet, the third for an IPv6 address that
// was not to be used before duplicates had been looked for.
var helloTimes = []time.Duration{0, time.Second, 3 * time.Second}

// link is mDNS on one network interface: it hears who comes and goes, browses,
// and where no Avahi does it announces this node and answers for it.
type link struct {
	nic      nic
	zone     zone
	members  *membership
	log      *slog.Logger
	foreign  *sync.Once // a version that is not ours has been told of
	sockets  []*socket
	speaking atomic.Bool
	cancel   context.CancelFunc
	group    sync.WaitGroup
	ctx      context.Context // ends when the link is closed

	mu sync.Mutex // guards following
	// meter bounds the packets that are looked at.
	meter meter
	// answeredAt is when the last multicast answer went out.
	answeredAt time.Time
}

// openLink joins the groups on n and starts to hear and to browse.
func openLink(ctx context.Context, cfg Config, n nic, members *membership, foreign *sync.Once) (*link, error) {
	zone, err := newZone(cfg, n.announced(cfg.Listen))
	if err != nil {
		return nil, err
	}
	l := &link{nic: n, zone: zone, members: members, log: cfg.Log, foreign: foreign}
	var failures []error
	for _, v4 := range []bool{true, false} {
		if !n.hasFamily(v4) {
			continue
		}
		s, err := listenGroup(n, v4)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		l.sockets = append(l.sockets, s)
	}
	if len(l.sockets) == 0 {
		return nil, errors.Join(failures...)
	}
	l.ctx, l.cancel = context.WithCancel(ctx)
	for _, s := range l.sockets {
		l.group.Go(func() { l.hear(s) })
	}
	l.group.Go(l.browse)
	return l, nil
}

// close ends the link; farewell says goodbye first, if the link was speaking.
func (l *link) close(farewell bool) {
	if l.speaking.Swap(false) && farewell {
		l.send(l.zone.goodbye())
	}
	l.cancel()
	for _, s := range l.sockets {
		s.Close()
	}
	l.group.Wait()
}

// speak announces this node and answers for it from now on.
func (l *link) speak() {
	if len(l.zone) == 0 || l.speaking.Swap(true) {
		return
	}
	l.group.Go(func() {
		start := time.Now()
		for _, at := range helloTimes {
			if !sleep(l.ctx, time.Until(start.Add(at))) || !l.speaking.Load() {
				return
			}
			l.send(l.zone.hello())
		}
	})
}

// hush leaves announcing and answering to Avahi, without a goodbye.
func (l *link) hush() { l.speaking.Store(false) }

// send multicasts m by all IP versions. What fails now is repeated by a later
// hello, or by the next browse of the others.
func (l *link) send(m *dns.Msg) {
	packet, err := m.Pack()
	if err != nil {
		l.log.Error("an mDNS message cannot be packed", "error", err)
		return
	}
	for _, s := range l.sockets {
		if _, err := s.WriteToUDPAddrPort(packet, s.group); err != nil {
			l.log.Debug("an mDNS message was not sent", "interface", l.nic.Name, "group", s.group, "error", err)
		}
	}
}

// hear reads packets until the socket is closed.
func (l *link) hear(s *socket) {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := s.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			l.log.Debug("mDNS cannot be read", "interface", l.nic.Name, "error", err)
			if !sleep(l.ctx, time.Second) {
				return
			}
		default:
			l.handle(s, buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		}
	}
}

// handle acts on a packet that came to the group. Packets from off the link are
// ignored (RFC 6762 §11), and responses from another port (§6).
func (l *link) handle(s *socket, packet []byte, from netip.AddrPort) {
	if !l.nic.reaches(from.Addr()) || !mayConcern(packet) || !l.admits(from.Addr()) {
		return
	}
	msg := unpack(packet)
	switch {
	case msg == nil:
	case !msg.Response:
		l.answer(s, msg, from)
	case from.Port() == mdnsPort:
		for _, seen := range sightings(msg) {
			l.saw(seen, from.Addr())
		}
	}
}

// admits counts a packet from source and reports whether it is to be looked at.
func (l *link) admits(source netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.meter.admits(source, time.Now())
}

// saw passes on what mDNS says of a node. source, if valid, is who said so,
// and as the sender of a packet surely one of its addresses.
func (l *link) saw(s sighting, source netip.Addr) {
	if s.goodbye {
		l.members.goodbye(s.id)
		return
	}
	if s.port < 1 || !l.speaksOurs(s) {
		return
	}
	var addrs []netip.AddrPort
	for _, addr := range append(s.addrs, source) {
		if addr.IsValid() && l.nic.reaches(addr) {
			addrs = append(addrs, netip.AddrPortFrom(l.zoned(addr), s.port))
		}
	}
	if len(addrs) > 0 && !source.IsValid() {
		source = addrs[0].Addr()
	}
	l.members.heard(s.id, addrs, source)
}

// speaksOurs reports whether a node speaks our version of the protocol, as far
// as its TXT record is known. One that speaks another is logged once.
func (l *link) speaksOurs(s sighting) bool {
	if s.txt == nil {
		return true
	}
	version := s.version()
	if version != "" && version != mdnsVersion {
		l.foreign.Do(func() {
			l.log.Warn("a node of the LAN is ignored, since it speaks another version", "id", s.id, "version", version)
		})
	}
	return version == mdnsVersion
}

// zoned gives a link-local IPv6 address the zone without which it cannot be
// dialled.
func (l *link) zoned(addr netip.Addr) netip.Addr {
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		return addr.WithZone(l.nic.Name)
	}
	return addr
}

// answer answers a query for this node's records, unless Avahi does. Its own
// queries come back to it: an answer would use up the second's multicast.
func (l *link) answer(s *socket, query *dns.Msg, from netip.AddrPort) {
	if !l.speaking.Load() || from.Port() == mdnsPort && l.nic.has(from.Addr()) {
		return
	}
	reply, unicast := l.zone.reply(query, from.Port() != mdnsPort)
	if reply == nil {
		return
	}
	to := from
	if !unicast {
		to = s.group
		if !l.mayMulticast() {
			return
		}
	}
	packet, err := reply.Pack()
	if err == nil {
		_, err = s.WriteToUDPAddrPort(packet, to)
	}
	if err != nil {
		l.log.Debug("an mDNS query was not answered", "from", from, "error", err)
	}
}

func (l *link) mayMulticast() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !l.answeredAt.IsZero() && now.Sub(l.answeredAt) < multicastPause {
		return false
	}
	l.answeredAt = now
	return true
}

// sleep waits for d and reports whether ctx is still going on.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
