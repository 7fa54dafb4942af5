// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"io"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/mdns"
)

const (
	// browseAgain is the pause between browses, ± 20 %: 50 nodes then cause
	// about 9 packets a second.
	browseAgain = 5 * time.Minute

	// browsePatience is how long a browse waits for answers; the first is brief
	// because its findings are to be had only at its end.
	browsePatience      = time.Second
	firstBrowsePatience = 250 * time.Millisecond

	// maxEntries bounds the findings of a browse.
	maxEntries = 512
)

var silentLog = log.New(io.Discard, "", 0)

// browse looks for other nodes, by both IP versions at first and later by one
// at a time, until the link is closed.
func (l *link) browse() {
	start := time.Now()
	for i, at := range helloTimes {
		if !sleep(l.ctx, time.Until(start.Add(at))) {
			return
		}
		patience := browsePatience
		if i == 0 {
			patience = firstBrowsePatience
		}
		l.query(patience, l.sockets)
	}
	for i := 0; sleep(l.ctx, vary(browseAgain)); i++ {
		l.query(browsePatience, l.sockets[i%len(l.sockets):][:1])
	}
}

// query browses by the given sockets' IP versions.
func (l *link) query(patience time.Duration, sockets []*socket) {
	v4, v6 := false, false
	for _, s := range sockets {
		switch {
		case !s.group.Addr().Is4():
			v6 = true
		case routed4():
			v4 = true
		default:
			l.queryDirectly(s)
		}
	}
	if !v4 && !v6 {
		return
	}
	entries := make(chan *mdns.ServiceEntry, maxEntries)
	err := mdns.QueryContext(l.ctx, &mdns.QueryParam{
		Service: peerService, Timeout: patience, Interface: &l.nic.Interface, Entries: entries,
		DisableIPv4: !v4, DisableIPv6: !v6, Logger: silentLog,
	})
	if err != nil {
		l.log.Debug("mDNS browsing failed", "interface", l.nic.Name, "error", err)
	}
	// Only now: until the query has returned it writes to the entries it has sent.
	close(entries)
	for e := range entries {
		if s, ok := ofEntry(e); ok {
			l.saw(s, netip.Addr{})
		}
	}
}

// queryDirectly asks from port 5353, so that the answers come by multicast and
// are heard like any hello.
func (l *link) queryDirectly(s *socket) {
	packet, err := question().Pack()
	if err == nil {
		_, err = s.WriteToUDPAddrPort(packet, s.group)
	}
	if err != nil {
		l.log.Debug("mDNS browsing failed", "interface", l.nic.Name, "error", err)
	}
}

// routed4 reports whether this machine has an IPv4 route for multicast: a LAN
// without a default route has none, and there hashicorp/mdns cannot query, as
// it joins the group without naming an interface
// (https://github.com/hashicorp/mdns/pull/149).
func routed4() bool {
	conn, err := net.ListenMulticastUDP("udp4", nil, &net.UDPAddr{IP: group4.AsSlice(), Port: mdnsPort})
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
