// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestPeersAreBounded(t *testing.T) {
	s := newPeerStore(false)
	one := publicAddr(1)
	for i := range 5000 {
		s.add(keyOf(i), one, 8000)
	}
	if got := s.len(); got != maxPeersPerOwner {
		t.Errorf("one owner has %d peers stored", got)
	}
	for port := range uint16(20) {
		s.add(keyOf(-1), publicAddr(2), 8000+port)
	}
	if got := len(s.sample(keyOf(-1), 100)); got != maxPortsPerKey {
		t.Errorf("one address has %d ports under a key", got)
	}
	for i := range 1000 {
		s.add(keyOf(-2), publicAddr(100+i), 8000)
	}
	if got := len(s.sample(keyOf(-2), 1000)); got != maxPeersPerKey {
		t.Errorf("a key has %d peers", got)
	}
	if got := len(s.sample(keyOf(-2), 10)); got != 10 {
		t.Errorf("a sample of 10 has %d", got)
	}
	if s.add(keyOf(-3), netip.MustParseAddrPort("192.168.1.1:6881"), 8000) || s.add(keyOf(-3), publicAddr(3), 22) {
		t.Error("a peer is stored whose address is not allowed")
	}
}

func TestFullPeerStoreRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPeerStore(false)
		const keys = maxPeersPerOwner
		for i := range maxPeers + 100 {
			s.add(keyOf(i%keys), publicAddr(i/keys), 8000)
		}
		if s.len() != maxPeers {
			t.Fatalf("a full store has %d peers", s.len())
		}
		time.Sleep(peerTTL - time.Minute)
		if s.add(keyOf(0), publicAddr(-1), 8000) {
			t.Error("a full store takes a new peer")
		}
		if !s.add(keyOf(0), publicAddr(0), 8000) {
			t.Error("a full store does not renew a peer")
		}
		time.Sleep(2 * time.Minute)
		s.expire()
		if s.len() != 1 || len(s.owners) != 1 || len(s.swarms) != 1 {
			t.Errorf("%d peers of %d owners under %d keys are left", s.len(), len(s.owners), len(s.swarms))
		}
	})
}

func TestPrivatePeersShareAnAddress(t *testing.T) {
	s := newPeerStore(true)
	for i := range uint16(50) {
		s.add(keyOf(1), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 20000+i), 8000+i)
	}
	if got := s.len(); got != 50 {
		t.Errorf("stored %d of 50 peers", got)
	}
}

func TestVotes(t *testing.T) {
	ours, lie := netip.MustParseAddr("5.200.1.1"), netip.MustParseAddr("5.200.9.9")
	var v votes
	for range 10 {
		v.add(publicAddr(1), lie)
	}
	if _, ok := v.winner(); ok {
		t.Error("one voter settled our address")
	}
	for i := range enoughVotes {
		v.add(publicAddr(10+i), ours)
	}
	if got, ok := v.winner(); !ok || got != ours {
		t.Errorf("winner is %v, %v", got, ok)
	}
	v.add(publicAddr(20), netip.MustParseAddr("192.168.1.1"))
	v.add(publicAddr(21), netip.MustParseAddr("2a00::1"))
	if len(v.cast) != 1+enoughVotes {
		t.Errorf("votes for impossible addresses count: %v", v.cast)
	}
	for i := range 100 {
		v.add(publicAddr(30+i), lie)
	}
	if len(v.cast) > maxVotes {
		t.Errorf("%d votes are kept", len(v.cast))
	}
}
