// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/mdns"
	"github.com/miekg/dns"
)

const (
	// maxQuestions bounds the questions of a packet that are looked at, and
	// maxRecords its records.
	maxQuestions = 16
	maxRecords   = 128

	// maxSightings bounds the nodes that one packet may name. An announcement
	// names one; Avahi may gather a few.
	maxSightings = 8

	// maxTXT bounds the strings of a TXT record, and the bytes of each.
	maxTXT       = 16
	maxTXTString = 64
)

// sighting is what mDNS says of one node.
type sighting struct {
	id      string
	port    uint16 // 0: not told
	addrs   []netip.Addr
	txt     []string // nil: not told
	goodbye bool
}

// ours are the labels without which a packet cannot be about a node. They let a
// busy network's packets pass for the price of a search.
var ours = [][]byte{[]byte("\x08_apt-dht"), []byte("\x0a_apt_proxy"), []byte(peerHost), []byte(proxyHost), []byte("\x07_dns-sd")}

func mayConcern(packet []byte) bool {
	return slices.ContainsFunc(ours, func(label []byte) bool { return bytes.Contains(packet, label) })
}

// unpack returns the message in packet, or nil if it is none that RFC 6762
// §18 has us look at.
func unpack(packet []byte) *dns.Msg {
	if !mayConcern(packet) {
		return nil
	}
	msg := new(dns.Msg)
	if msg.Unpack(packet) != nil || msg.Opcode != dns.OpcodeQuery || msg.Rcode != dns.RcodeSuccess {
		return nil
	}
	return msg
}

// sightings reads which nodes a response names. Records of other services, and
// names that are no node's, are passed over.
func sightings(msg *dns.Msg) []sighting {
	var found []sighting
	hosts := make(map[string]int) // host name → index in found
	records := slices.Concat(msg.Answer, msg.Extra)
	records = records[:min(len(records), maxRecords)]
	for _, rr := range records {
		id, ok := instanceOf(rr)
		if !ok {
			continue
		}
		i := slices.IndexFunc(found, func(s sighting) bool { return s.id == id })
		if i < 0 && len(found) == maxSightings {
			continue
		}
		if i < 0 {
			i = len(found)
			found = append(found, sighting{id: id})
		}
		found[i].read(rr)
		if srv, ok := rr.(*dns.SRV); ok {
			hosts[strings.ToLower(srv.Target)] = i
		}
	}
	for _, rr := range records {
		i, ok := hosts[strings.ToLower(rr.Header().Name)]
		if addr := addrOf(rr); ok && addr.IsValid() && len(found[i].addrs) < maxAddrs {
			found[i].addrs = append(found[i].addrs, addr)
		}
	}
	return found
}

// read takes over what a PTR, SRV or TXT record of the node says.
func (s *sighting) read(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.PTR:
		s.goodbye = s.goodbye || rr.Hdr.Ttl == 0
	case *dns.SRV:
		s.goodbye = s.goodbye || rr.Hdr.Ttl == 0
		s.port = rr.Port
	case *dns.TXT:
		s.txt = rr.Txt
	}
}

// instanceOf returns the id of the node that a PTR, SRV or TXT record is about.
func instanceOf(rr dns.RR) (id string, ok bool) {
	switch rr := rr.(type) {
	case *dns.PTR:
		if !strings.EqualFold(rr.Hdr.Name, peerService+"."+domain) {
			return "", false
		}
		return idOf(rr.Ptr)
	case *dns.SRV, *dns.TXT:
		return idOf(rr.Header().Name)
	}
	return "", false
}

// idOf returns the id in the name of a node's service instance.
func idOf(name string) (id string, ok bool) {
	id, ok = strings.CutSuffix(name, "."+peerService+"."+domain)
	return id, ok && idPattern.MatchString(id)
}

func addrOf(rr dns.RR) netip.Addr {
	var addr netip.Addr
	switch rr := rr.(type) {
	case *dns.A:
		addr, _ = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		addr, _ = netip.AddrFromSlice(rr.AAAA)
	}
	return addr.Unmap()
}

// ofEntry makes a sighting of what a browse found.
func ofEntry(e *mdns.ServiceEntry) (s sighting, ok bool) {
	id, ok := idOf(e.Name)
	if !ok || e.Port < 1 || e.Port > 65535 {
		return sighting{}, false
	}
	s = sighting{id: id, port: uint16(e.Port), txt: e.InfoFields}
	if addr, ok := netip.AddrFromSlice(e.AddrV4); ok {
		s.addrs = append(s.addrs, addr.Unmap())
	}
	if e.AddrV6IPAddr != nil {
		if addr, ok := netip.AddrFromSlice(e.AddrV6IPAddr.IP); ok {
			s.addrs = append(s.addrs, addr.Unmap())
		}
	}
	return s, true
}

// version returns the protocol version that a TXT record tells, "" if it is
// not a node's.
func (s sighting) version() string {
	if len(s.txt) > maxTXT || !slices.Contains(s.txt, "id="+s.id) {
		return ""
	}
	for _, text := range s.txt {
		if v, ok := strings.CutPrefix(text, "v="); ok && len(text) <= maxTXTString {
			return v
		}
	}
	return ""
}
