// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/mdns"
	"github.com/miekg/dns"
)

const (
	peerService  = "_apt-dht._tcp"
	proxyService = "_apt_proxy._tcp"
	domain       = "local."

	// enumeration asks for all types of service (RFC 6763 §9).
	enumeration = "_services._dns-sd._udp." + domain

	// peerHost and proxyHost begin the host names that a node's records point
	// to. They are the node's own, because the machine's name belongs to Avahi or
	// systemd-resolved and may be the same on cloned disks, and two, because the
	// proxy may serve on fewer addresses.
	peerHost  = "apt-dht-"
	proxyHost = "apt-proxy-"

	// mdnsVersion is the protocol version in the TXT record.
	mdnsVersion = "1"

	// topBit of a record's class is the cache-flush bit, of a question's class
	// the wish for a unicast answer (RFC 6762 §18.12, §18.13).
	topBit = 1 << 15

	// legacyTTL bounds, in seconds, what a one-shot querier may keep (RFC 6762 §6.7).
	legacyTTL = 10
)

// zone holds what one link is told of this node. It is an mdns.Zone.
type zone []*mdns.MDNSService

// newZone describes the node that is reached at addrs. Without any there is
// nothing to describe.
func newZone(cfg Config, addrs []netip.Addr) (zone, error) {
	var z zone
	if err := z.add(cfg, peerService, peerHost, addrs); err != nil {
		return nil, err
	}
	if cfg.OfficeProxy == nil {
		return z, nil
	}
	serves := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !cfg.OfficeProxy(a) })
	return z, z.add(cfg, proxyService, proxyHost, serves)
}

// add describes one service at addrs, if there are any.
func (z *zone) add(cfg Config, service, host string, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	var ips []net.IP
	for _, addr := range addrs {
		ips = append(ips, addr.AsSlice())
	}
	s, err := mdns.NewMDNSService(cfg.ID, service, domain, host+cfg.ID+"."+domain,
		int(cfg.Port), ips, []string{"v=" + mdnsVersion, "id=" + cfg.ID})
	if err != nil {
		return fmt.Errorf("describe service %s: %w", service, err)
	}
	*z = append(*z, s)
	return nil
}

// Records implements mdns.Zone.
func (z zone) Records(q dns.Question) []dns.RR {
	q.Name = strings.ToLower(q.Name)
	var records []dns.RR
	for _, service := range z {
		records = append(records, service.Records(q)...)
	}
	return unique(records)
}

// all returns each record once.
func (z zone) all() []dns.RR {
	records := z.Records(dns.Question{Name: enumeration, Qtype: dns.TypePTR})
	for _, service := range z {
		records = append(records, service.Records(dns.Question{Name: service.Service + "." + domain, Qtype: dns.TypePTR})...)
	}
	return unique(records)
}

// unique leaves out repeated records: both services have the same addresses.
func unique(records []dns.RR) []dns.RR {
	kept := records[:0]
next:
	for _, rr := range records {
		for _, k := range kept {
			if dns.IsDuplicate(rr, k) {
				continue next
			}
		}
		kept = append(kept, rr)
	}
	return kept
}

// hello announces all records; goodbye, with TTL 0, takes them back (RFC 6762
// §8.3, §10.1).
func (z zone) hello() *dns.Msg { return multicast(z.all()) }

func (z zone) goodbye() *dns.Msg {
	records := z.all()
	for _, rr := range records {
		rr.Header().Ttl = 0
	}
	return multicast(records)
}

// multicast makes the message for all of a link. A record of which there is but
// one tells caches to drop what they have under its name.
func multicast(records []dns.RR) *dns.Msg {
	for _, rr := range records {
		if rr.Header().Rrtype != dns.TypePTR {
			rr.Header().Class |= topBit
		}
	}
	return &dns.Msg{
		MsgHdr:   dns.MsgHdr{Response: true, Authoritative: true},
		Compress: true,
		Answer:   records,
	}
}

// reply answers query, or is nil if nothing in it is this node's or news to the
// asker. A legacy query comes from a port other than 5353 (RFC 6762 §6.7).
func (z zone) reply(query *dns.Msg, legacy bool) (reply *dns.Msg, unicast bool) {
	unicast = true
	var records []dns.RR
	for _, q := range query.Question[:min(len(query.Question), maxQuestions)] {
		found := z.Records(q)
		if len(found) == 0 || known(found[0], query.Answer) {
			continue
		}
		records = append(records, found...)
		unicast = unicast && q.Qclass&topBit != 0
	}
	if len(records) == 0 {
		return nil, false
	}
	if !legacy {
		return multicast(unique(records)), unicast
	}
	reply = multicast(nil)
	reply.Id, reply.Question, reply.Answer = query.Id, query.Question, unique(records)
	for _, rr := range reply.Answer {
		rr.Header().Ttl = min(rr.Header().Ttl, legacyTTL)
	}
	return reply, true
}

// known reports whether the asker said that it has rr, for at least half of its
// life to come (RFC 6762 §7.1).
func known(rr dns.RR, answers []dns.RR) bool {
	for _, a := range answers {
		if a.Header().Ttl >= rr.Header().Ttl/2 && dns.IsDuplicate(a, rr) {
			return true
		}
	}
	return false
}

// question asks all of a link for the nodes on it.
func question() *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(peerService+"."+domain, dns.TypePTR)
	m.Id, m.RecursionDesired = 0, false
	return m
}
