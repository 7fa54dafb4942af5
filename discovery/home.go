// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// sweepEvery is how often a home writes its rows and drops what is over.
const sweepEvery = 10 * time.Second

// suspectEvery is how often the same member is probed because askers complain.
const suspectEvery = time.Second

// HomeConfig configures a Home.
type HomeConfig struct {
	// Self is this node, as it asks its own home. The address is a mark that
	// stands for the one under which each asker reaches this node: whoever
	// speaks for the home on the wire puts that in its place, both ways.
	Self Member
	// Ring returns the present ring; it must be cheap and never block. Nil:
	// this node is the first home of every blob and takes no copies.
	Ring func() *Ring
	// Alive reports whether a member of the ring answers; it must be cheap and
	// never block. Nil: all do.
	Alive func(id string) bool
	// Has reports whether this node holds a blob itself and gives it to others,
	// so that it need not announce to its own home; it must be cheap and never
	// block. Nil: it announces to its own home as to others.
	Has func(Digest) bool
	// Suspect is told of a member from which an asker hears nothing, at most
	// once a second for each, so that it is probed now; it must not block, and
	// may call the Home. Nil: nobody is told.
	Suspect func(Member)
	// Rows keeps what holders told, over restarts. Nil: nothing is kept.
	Rows Rows
	// Log takes what an operator may want to know. Nil: nothing is logged.
	Log *slog.Logger
}

// Want is what an asker wants to know of one blob.
type Want struct {
	Hash Digest
	// Size is the blob's size in bytes, 0 or less if unknown.
	Size int64
	// Lease: the asker would fetch the blob from outside now.
	Lease bool
	// Have is how many bytes from the start the asker has.
	Have int64
	// Silent are the places that gave the asker nothing, of those it was told.
	// Zones are ignored, and all but the first 16.
	Silent []netip.AddrPort
	// FirstSilent: the first home did not answer for 250 ms, so this one
	// shall act for it.
	FirstSilent bool
}

// State says how a blob is to be had.
type State int

const (
	// None: nobody has it, and the asker got no lease.
	None State = iota
	// Held: those in Found.From have it whole.
	Held
	// Coming: somebody fetches it; the asker reads from Found.From[0], or from
	// the next. Where From is empty nobody is left to read from just now: the
	// asker asks again within 100 ms.
	Coming
	// Lease: the asker fetches it from outside and reports its progress to
	// both homes every second, and at once when it ends.
	Lease
)

// String returns the state's word in the protocol.
func (s State) String() string {
	return [...]string{"none", "held", "coming", "lease"}[s]
}

// Found answers one Want.
type Found struct {
	Hash  Digest
	State State
	// From is where to read: up to 4 holders, or a place in the tree and up to
	// one alternative.
	From []Member
	// Number is the asker's place in the order of asking, 0 for the first
	// lease holder; -1 where it has none, and nobody will be sent to it.
	Number int
	// Until is how long a lease lasts without a report.
	Until time.Duration
	// Offset is how far the lease holder came before this one.
	Offset int64
}

// LeaseProgress is what a lease holder reports of one blob. From an asker
// without a lease, GiveUp says that it wants the blob no more.
type LeaseProgress struct {
	Hash Digest
	// Offset is how many bytes from the start it has.
	Offset int64
	// Done: it has the blob whole.
	Done bool
	// GiveUp: it returns the lease.
	GiveUp bool
}

// Grant is what a first home tells the second of one asker, so that the second
// can take over.
type Grant struct {
	Hash   Digest
	Asker  Member
	Number int
	Lease  bool
	Offset int64
}

// Grants returns what of an answer the second home has to be told. A batch may
// hold blobs of several second homes: the caller sorts them.
func Grants(asker Member, found []Found) []Grant {
	var grants []Grant
	for _, f := range found {
		if f.Number >= 0 && (f.State == Coming || f.State == Lease) {
			grants = append(grants, Grant{Hash: f.Hash, Asker: asker, Number: f.Number, Lease: f.State == Lease, Offset: f.Offset})
		}
	}
	return grants
}

// A Home is what a node keeps as the home of blobs: who holds them, who fetches
// them from outside, and who waits for whom. A member is who asks, by id and
// address together, and speaks for itself alone. All it keeps is bounded; where
// a bound is met, askers get leases that are not recorded, which costs at worst
// a second download. It is safe for concurrent use.
type Home struct {
	cfg HomeConfig

	mu       sync.Mutex // guards following
	roster   roster
	holders  holders
	herds    map[Digest]*herd
	places   int      // of all askers
	suspects []Member // to be told once the lock is released
}

// NewHome returns a home that knows what its rows still tell; holders of whom
// they tell count from when they join or speak. Rows that cannot be read are
// logged and done without.
func NewHome(cfg HomeConfig) *Home {
	if cfg.Alive == nil {
		cfg.Alive = func(string) bool { return true }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h := &Home{cfg: cfg, roster: newRoster(), holders: newHolders(cfg.Rows != nil), herds: make(map[Digest]*herd)}
	h.roster.join(cfg.Self, time.Now())
	h.load()
	return h
}

// Run writes rows and drops what is over, until ctx ends, and then writes once
// more. It returns nil.
func (h *Home) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			h.flush()
			return nil
		case <-tick.C:
			h.sweep()
			h.flush()
		}
	}
}

// Lookup answers an asker, one Found for each Want and in their order.
func (h *Home) Lookup(asker Member, wants []Want) []Found {
	found := make([]Found, len(wants))
	h.mu.Lock()
	now := time.Now()
	p := h.roster.heard(asker, now)
	for i, w := range wants {
		w.Silent = w.Silent[:min(len(w.Silent), maxSilent)]
		h.suspectLocked(now, &w)
		found[i] = h.lookupLocked(now, p, &w)
	}
	suspects := h.suspects
	h.suspects = nil
	h.mu.Unlock()
	if h.cfg.Suspect != nil {
		for _, m := range suspects {
			h.cfg.Suspect(m)
		}
	}
	return found
}

func (h *Home) lookupLocked(now time.Time, p *peer, w *Want) Found {
	if from := h.pickLocked(now, p, w); len(from) > 0 {
		return Found{Hash: w.Hash, State: Held, From: from, Number: -1}
	}
	acting := w.FirstSilent || h.isFirst(w.Hash)
	if g := h.herds[w.Hash]; g != nil {
		return h.askLocked(now, g, p, w, acting)
	}
	if !acting || !w.Lease {
		return Found{Hash: w.Hash, State: None, Number: -1}
	}
	return h.startLocked(now, p, w)
}

// suspectLocked notes which places are to be probed, for an asker complains.
func (h *Home) suspectLocked(now time.Time, w *Want) {
	if len(w.Silent) == 0 {
		return
	}
	check := func(p *peer) {
		if p != nil && !p.gone && p.Member != h.cfg.Self && w.silent(p) && now.Sub(p.suspected) >= suspectEvery {
			p.suspected = now
			h.suspects = append(h.suspects, p.Member)
		}
	}
	for _, e := range h.holders.blobs[w.Hash] {
		check(h.roster.slots[e.slot])
	}
	if g := h.herds[w.Hash]; g != nil {
		for i := range g.askers {
			check(g.askers[i].peer)
		}
	}
}

// isFirst reports whether this node is the first home of a blob among those
// that answer.
func (h *Home) isFirst(blob Digest) bool {
	return h.cfg.Ring == nil || h.firstHome(blob) == h.cfg.Self.ID
}

func (h *Home) firstHome(blob Digest) string {
	homes, _ := h.cfg.Ring().Homes(blob, func(id string) bool { return id != h.cfg.Self.ID && !h.cfg.Alive(id) })
	return homes[0].ID
}

// Announce records what a holder has, and what it has no more.
func (h *Home) Announce(holder Member, have, gone []Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	p := h.roster.heard(holder, now)
	for _, blob := range have {
		h.holdLocked(now, p, blob)
		h.leaveLocked(now, p, blob)
	}
	for _, blob := range gone {
		h.holders.remove(blob, p)
	}
}

// Progress takes the reports of a lease holder. It returns the blobs whose
// lease is not, or no longer, the reporter's: it shall stop fetching them from
// outside and look them up again, if this home granted the lease or the one
// that did answers no more (homes that do not hear each other may disagree). A
// lease that this home does not know is taken over as it is.
func (h *Home) Progress(holder Member, leases []LeaseProgress) (lost []Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	p := h.roster.heard(holder, now)
	for _, l := range leases {
		switch {
		case l.Done:
			h.holdLocked(now, p, l.Hash)
			h.leaveLocked(now, p, l.Hash)
		case l.GiveUp:
			h.giveUpLocked(now, p, l)
		case !h.reportLocked(now, p, l):
			lost = append(lost, l.Hash)
		}
	}
	return lost
}

// Copy takes what a first home granted. Only the first home of a blob is
// listened to.
func (h *Home) Copy(first Member, grants []Grant) {
	if h.cfg.Ring == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for _, g := range grants {
		if h.firstHome(g.Hash) == first.ID {
			h.copyLocked(now, g)
		}
	}
}

// Joined tells that a member answered this node's own probe. What was kept of
// it counts again; another member at the same address is gone.
func (h *Home) Joined(m Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.roster.join(m, time.Now())
}

// Forget tells that the member of that id left: what it holds counts no more,
// its leases are free and nobody is sent to it.
func (h *Home) Forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.roster.forget(func(p *peer) bool { return p.ID == id })
}

// presentLocked reports whether a peer is to be counted on: a member while it
// answers, a stranger while it speaks.
func (h *Home) presentLocked(now time.Time, p *peer) bool {
	switch {
	case p.gone:
		return false
	case p.joined:
		return p.Member == h.cfg.Self || h.cfg.Alive(p.ID)
	default:
		return now.Sub(p.heard) < strangerTerm
	}
}

// HomeStats counts what a home keeps.
type HomeStats struct {
	Blobs   int // that somebody holds
	Holders int // rows, one for each holder of each blob
	Coming  int // blobs that somebody fetches
	Askers  int // places given, over all of these
}

// Stats counts what the home keeps.
func (h *Home) Stats() HomeStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return HomeStats{Blobs: len(h.holders.blobs), Holders: h.holders.rows, Coming: len(h.herds), Askers: h.places}
}
