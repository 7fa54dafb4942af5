// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net"
	"net/netip"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
)

const (
	// maxFound bounds the peers that one lookup yields.
	maxFound = 64
	// maxPerSource bounds those that nodes of one network can bring in: fewer
	// than are plenty, so that no single liar ends an announce.
	maxPerSource = 16
	// maxPeersOfNetwork bounds the peers that are in one network. Neither holds
	// in a private DHT, which may be one network, or three nodes.
	maxPeersOfNetwork = 8
)

// sieve lets through the peers that a lookup may yield.
type sieve struct {
	private bool
	own     map[netip.AddrPort]bool

	passed   map[netip.AddrPort]bool
	sources  map[netip.AddrPort]int
	networks map[netip.Prefix]int
}

func newSieve(private bool, own map[netip.AddrPort]bool) *sieve {
	return &sieve{
		private:  private,
		own:      own,
		passed:   make(map[netip.AddrPort]bool),
		sources:  make(map[netip.AddrPort]int),
		networks: make(map[netip.Prefix]int),
	}
}

// know takes peers as passed.
func (s *sieve) know(peers []netip.AddrPort) {
	for _, peer := range peers {
		s.passed[peer] = true
	}
}

// pass reports whether peer, named by the node at source, is new and to be
// believed in.
func (s *sieve) pass(source, peer netip.AddrPort) bool {
	by, network := owner(source, s.private), NetworkOf(peer.Addr())
	switch {
	case !Allowed(peer, s.private) || s.own[peer] || s.passed[peer]:
		return false
	case len(s.passed) >= maxFound:
		return false
	case !s.private && (s.sources[by] >= maxPerSource || s.networks[network] >= maxPeersOfNetwork):
		return false
	}
	s.passed[peer] = true
	s.sources[by]++
	s.networks[network]++
	return true
}

func (s *sieve) full() bool { return len(s.passed) >= maxFound }

// peersIn are the peers that an answer names.
func peersIn(r *krpc.Return) []netip.AddrPort {
	var list []netip.AddrPort
	for _, value := range r.Values {
		if peer, ok := wireAddrPort(value.IP, value.Port); ok {
			list = append(list, peer)
		}
	}
	return list
}

// ownAddrs are the addresses under which others may find this node, and those that
// it had until a while ago.
func (n *Node) ownAddrs() map[netip.AddrPort]bool {
	own := make(map[netip.AddrPort]bool)
	addrs, _ := net.InterfaceAddrs() // without them, only the outside ones are known
	for _, f := range n.families {
		external, _ := f.votes.winner()
		for _, at := range f.standing.all(time.Now()) {
			own[at] = true
			own[netip.AddrPortFrom(external, at.Port())] = true
			for _, addr := range addrs {
				if network, ok := addr.(*net.IPNet); ok {
					ip, _ := wireAddrPort(network.IP, int(at.Port()))
					own[ip] = true
				}
			}
		}
	}
	return own
}
