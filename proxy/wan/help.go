// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"apt-dht/proxy/peer"
)

const (
	// helpEach is how often one site is helped, maxHelping how many at a time,
	// maxHelped how many are remembered for it; others are refused.
	helpEach   = time.Minute
	maxHelping = 4
	maxHelped  = 4096

	// helpTimeout is how long the connection back may take, with its answer.
	helpTimeout = 3 * time.Second
)

// helping bounds what strangers can make this node do.
type helping struct {
	mu    sync.Mutex // guards following
	now   int
	since map[netip.Addr]time.Time // when a site was helped last
}

// take reports whether a site may be helped now; then it is to be ended by put.
func (h *helping) take(site netip.Addr, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since == nil {
		h.since = make(map[netip.Addr]time.Time)
	}
	if len(h.since) >= maxHelped {
		for other, at := range h.since {
			if now.Sub(at) >= helpEach {
				delete(h.since, other)
			}
		}
	}
	last, known := h.since[site]
	if known && now.Sub(last) < helpEach || h.now >= maxHelping || len(h.since) >= maxHelped {
		return false
	}
	h.since[site] = now
	h.now++
	return true
}

func (h *helping) put() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now--
}

// serveReach connects back to who asks, at the port that it tells, and says
// whether it is there.
func (n *Node) serveReach(w http.ResponseWriter, r *http.Request) {
	var q reachQuestion
	if !read(w, r, maxSmall, &q) {
		return
	}
	source := peer.SourceOf(r)
	addr := netip.AddrPortFrom(source, q.Port)
	if !n.mayDial(addr) {
		http.Error(w, "nodes at this address are not connected to", http.StatusForbidden)
		return
	}
	if !n.helping.take(siteOf(source), time.Now()) {
		peer.TooMany(w, helpEach)
		return
	}
	defer n.helping.put()
	err := n.tryReach(r.Context(), addr, q.Nonce)
	n.cfg.Log.Debug("tried to reach a node that asked for it", "addr", addr, "err", err)
	peer.Answer(w, reachAnswer{spoken, err == nil})
}

// tryReach returns nil if the node that asks with nonce answers at addr.
func (n *Node) tryReach(ctx context.Context, addr netip.AddrPort, nonce string) error {
	ctx, cancel := context.WithTimeout(ctx, helpTimeout)
	defer cancel()
	r := peer.NewRequest(ctx, http.MethodGet, addr, Prefix+"ping")
	r.URL.RawQuery = "nonce=" + nonce
	var answer pong
	if err := roundTrip(n.probing, r, maxSmall, &answer); err != nil {
		return err
	}
	if answer.Nonce != nonce {
		return errOther
	}
	return nil
}

// servePing says that a node is here; to who comes to check it, that it is the
// one that has asked.
func (n *Node) servePing(w http.ResponseWriter, r *http.Request) {
	answer := pong{head: spoken, Version: n.cfg.Version}
	if nonce := r.URL.Query().Get("nonce"); n.reach.came(nonce, !n.fromNeighbour(r)) {
		answer.Nonce = nonce
	}
	peer.Answer(w, answer)
}
