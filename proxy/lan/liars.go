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

const (
	// asideFor is how long a node that sent wrong bytes is set aside.
	asideFor = 24 * time.Hour

	maxLiars = 1024
)

// liars are the nodes that are set aside, by id and by address.
type liars struct {
	any atomic.Bool // there was one: most nodes never meet one

	mu     sync.Mutex // guards following
	byID   map[string]lie
	byAddr map[netip.AddrPort]lie
}

// lie is what a node did.
type lie struct {
	what string
	at   time.Time
}

func (l lie) counts() bool { return !l.at.IsZero() && time.Since(l.at) < asideFor }

// add reports whether p was not set aside already.
func (l *liars) add(p peer, what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID == nil || len(l.byID) >= maxLiars {
		l.byID, l.byAddr = make(map[string]lie), make(map[netip.AddrPort]lie)
	}
	known := l.byID[p.ID].counts() && l.byAddr[p.Addr].counts()
	l.byID[p.ID] = lie{what, time.Now()}
	l.byAddr[p.Addr] = l.byID[p.ID]
	l.any.Store(true)
	return !known
}

func (l *liars) has(p peer) bool {
	if !l.any.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[p.ID].counts() || l.byAddr[p.Addr].counts()
}

// about tells what p did, nothing if it is not set aside.
func (l *liars) about(p peer) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lie := range []lie{l.byID[p.ID], l.byAddr[p.Addr]} {
		if lie.counts() {
			return lie.what
		}
	}
	return ""
}

// Liar implements fetch.LAN: for a day the node is asked nothing, and nothing that
// it says is used.
func (n *Node) Liar(p fetch.Peer, d Digest, what string) {
	if n.liars.add(p, what) {
		n.cfg.Log.Warn("a node of the LAN sent what is not the file; it is set aside for a day",
			slog.String("id", p.ID), slog.Any("addr", p.Addr), slog.String("digest", hex.EncodeToString(d[:])), slog.String("what", what))
	}
}
