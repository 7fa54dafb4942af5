// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// peerTTL is how long an announce is kept: announcers renew within 30 min,
	// some a little late.
	peerTTL = 35 * time.Minute
	// maxPeers bounds all stored peers: about 300 bytes each, if each has a key
	// to itself.
	maxPeers = 20000
	// maxPeersPerKey bounds a key's: twice what an answer holds.
	maxPeersPerKey = 100
	// maxPortsPerKey bounds those that one address has under a key.
	maxPortsPerKey = 4
	// maxPeersPerOwner bounds what the owner of a network can store in the public
	// DHT, where the announces of one spread over millions of nodes.
	maxPeersPerOwner = 512
	// maxPeersPerNode bounds the same in a private DHT, which may be as small as
	// to have each node hold all announces of all others.
	maxPeersPerNode = 4096
)

// peerStore holds what others announced to us. When it is full it refuses new
// peers, and still renews old ones: a flood does not wash out what is there.
type peerStore struct {
	private bool

	mu sync.Mutex // guards following

	swarms map[Key][]storedPeer
	total  int
	owners map[netip.AddrPort]int
}

type storedPeer struct {
	addr  netip.AddrPort
	owner netip.AddrPort // who announced it
	seen  time.Time
}

func newPeerStore(private bool) *peerStore {
	return &peerStore{
		private: private,
		swarms:  make(map[Key][]storedPeer),
		owners:  make(map[netip.AddrPort]int),
	}
}

// add stores that the node at from has a peer at port on the same address. It
// reports whether it did.
func (s *peerStore) add(key Key, from netip.AddrPort, port uint16) bool {
	addr := netip.AddrPortFrom(from.Addr(), port)
	return s.put(key, storedPeer{addr: addr, owner: owner(from, s.private), seen: time.Now()})
}

func (s *peerStore) put(key Key, p storedPeer) bool {
	if !Allowed(p.addr, s.private) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	swarm := s.swarms[key]
	if at := slices.IndexFunc(swarm, func(old storedPeer) bool { return old.addr == p.addr }); at >= 0 {
		swarm[at].seen = p.seen
		return true
	}
	if !s.roomLocked(swarm, p.addr, p.owner) {
		return false
	}
	if len(swarm) >= maxPeersPerKey {
		swarm = s.forgetOldestLocked(swarm)
	}
	s.swarms[key] = append(swarm, p)
	s.total++
	s.owners[p.owner]++
	return true
}

func (s *peerStore) roomLocked(swarm []storedPeer, addr, by netip.AddrPort) bool {
	most := maxPeersPerOwner
	if s.private {
		most = maxPeersPerNode
	}
	if s.total >= maxPeers || s.owners[by] >= most {
		return false
	}
	ports := 0
	for _, p := range swarm {
		if p.addr.Addr() == addr.Addr() {
			ports++
		}
	}
	return s.private || ports < maxPortsPerKey
}

func (s *peerStore) forgetOldestLocked(swarm []storedPeer) []storedPeer {
	oldest := 0
	for i, p := range swarm {
		if p.seen.Before(swarm[oldest].seen) {
			oldest = i
		}
	}
	s.forgetLocked(swarm[oldest])
	return slices.Delete(swarm, oldest, oldest+1)
}

func (s *peerStore) forgetLocked(p storedPeer) {
	s.total--
	if s.owners[p.owner]--; s.owners[p.owner] == 0 {
		delete(s.owners, p.owner)
	}
}

// sample returns up to n of a key's peers, in random order.
func (s *peerStore) sample(key Key, n int) []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addrs []netip.AddrPort
	for _, p := range s.swarms[key] {
		if time.Since(p.seen) < peerTTL {
			addrs = append(addrs, p.addr)
		}
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return addrs[:min(n, len(addrs))]
}

// all is a copy of what is stored.
func (s *peerStore) all() []savedPeer {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]savedPeer, 0, s.total)
	for key, swarm := range s.swarms {
		for _, p := range swarm {
			list = append(list, savedPeer{key, p})
		}
	}
	return list
}

// expire drops what has not been renewed.
func (s *peerStore) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, swarm := range s.swarms {
		swarm = slices.DeleteFunc(swarm, func(p storedPeer) bool {
			old := time.Since(p.seen) >= peerTTL
			if old {
				s.forgetLocked(p)
			}
			return old
		})
		if s.swarms[key] = swarm; len(swarm) == 0 {
			delete(s.swarms, key)
		}
	}
}

func (s *peerStore) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}
