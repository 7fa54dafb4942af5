// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"encoding/hex"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"apt-dht/proxy/fetch"
)

// PeerStatus is what the status page tells of a member.
type PeerStatus struct {
	ID    string         `json:"id"`
	Addr  netip.AddrPort `json:"addr"`
	Since time.Time      `json:"since"` // when it joined
	Alive bool           `json:"alive"` // it answers
	// BytesFrom and BytesTo are body bytes of blobs; those to another node at the
	// same IP address count for both.
	BytesFrom int64 `json:"bytes_from"`
	BytesTo   int64 `json:"bytes_to"`
	// Liar tells why the member is set aside.
	Liar string `json:"liar,omitempty"`
}

// Peers returns the members in the order of their ids.
func (n *Node) Peers() []PeerStatus {
	v := n.view.Load()
	peers := make([]PeerStatus, 0, len(v.members))
	for _, m := range v.members {
		from, to := n.bytes.of(m.ID, m.Addr.Addr().WithZone(""))
		peers = append(peers, PeerStatus{
			ID:        m.ID,
			Addr:      m.Addr,
			Since:     v.since[m.ID],
			Alive:     n.cfg.Members.Alive(m.ID),
			BytesFrom: from,
			BytesTo:   to,
			Liar:      n.liars.About(fetch.Peer(m)),
		})
	}
	return peers
}

// BytesFrom is how many body bytes of blobs other nodes have given.
func (n *Node) BytesFrom() int64 { return n.bytes.allFrom.Load() }

// BytesTo is how many body bytes of blobs other nodes have got.
func (n *Node) BytesTo() int64 { return n.bytes.allTo.Load() }

// maxCounted bounds the nodes and addresses that are counted apart.
const maxCounted = 2048

// traffic counts bytes.
type traffic struct {
	allFrom, allTo atomic.Int64

	mu   sync.Mutex // guards following
	from map[string]*atomic.Int64
	to   map[netip.Addr]*atomic.Int64
}

// counter is one of several counters, made when it is needed. Beyond maxCounted
// it counts for nobody.
func counter[K comparable](t *traffic, counters *map[K]*atomic.Int64, key K) *atomic.Int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := (*counters)[key]; c != nil {
		return c
	}
	c := new(atomic.Int64)
	if *counters == nil {
		*counters = make(map[K]*atomic.Int64)
	}
	if len(*counters) < maxCounted {
		(*counters)[key] = c
	}
	return c
}

func (t *traffic) of(id string, addr netip.Addr) (from, to int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.from[id]; c != nil {
		from = c.Load()
	}
	if c := t.to[addr]; c != nil {
		to = c.Load()
	}
	return from, to
}

// forget drops what a member that left was counted for.
func (t *traffic) forget(id string, addr netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.from, id)
	delete(t.to, addr)
}

// Liar implements fetch.LAN: for a day the node is asked nothing, and nothing that
// it says is used.
func (n *Node) Liar(p fetch.Peer, d Digest, what string) {
	if n.liars.Add(p, what) {
		n.cfg.Log.Warn("a node of the LAN sent what is not the file; it is set aside for a day",
			slog.String("id", p.ID), slog.Any("addr", p.Addr), slog.String("digest", hex.EncodeToString(d[:])), slog.String("what", what))
	}
}
