// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/gorilla/mux"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
)

const (
	// maxQuestions bounds the questions that are answered at a time, and
	// maxQuestionsEach those of one address: a node has a few under way with
	// another, one of each kind.
	maxQuestions     = 256
	maxQuestionsEach = 32
)

// Handler answers everything below /~/v1/lan/. It decides by itself who may ask.
func (n *Node) Handler() http.Handler {
	r := mux.NewRouter().SkipClean(true)
	get := r.Methods(http.MethodGet, http.MethodHead).Subrouter()
	get.HandleFunc(Prefix+"ping", n.servePing)
	get.HandleFunc(Prefix+"root", n.serveRoot)
	get.HandleFunc(Prefix+"blob/{hash}", n.serveBlob)
	get.Use(peer.NoBody)
	post := r.Methods(http.MethodPost).Subrouter()
	post.HandleFunc(Prefix+"lookup", n.serveLookup)
	post.HandleFunc(Prefix+"announce", n.serveAnnounce)
	post.HandleFunc(Prefix+"lease", n.serveLease)
	post.HandleFunc(Prefix+"copy", n.serveCopy)
	r.Use(n.guard)
	post.Use(n.guardQuestion)
	return r
}

// guard admits nodes on the link. This machine may ping, to see whether the node
// is there.
func (n *Node) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		source := peer.SourceOf(r)
		switch {
		case n.ctx.Err() != nil:
			http.Error(w, "apt-dht is shutting down", http.StatusServiceUnavailable)
		case n.cfg.Members.OnLink(source), source.IsLoopback() && r.URL.Path == Prefix+"ping":
			next.ServeHTTP(w, r)
		default:
			http.Error(w, fmt.Sprintf("apt-dht answers questions of the LAN only to machines on its links; %s is on none of them, nor is it a peer that --lan-peer names", source), http.StatusForbidden)
		}
	})
}

// guardQuestion admits no browser that a web page sends here.
func (n *Node) guardQuestion(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		source := peer.SourceOf(r)
		switch {
		case peer.NoWebPages(w, r):
		case !n.asking.Take(source):
			peer.TooMany(w, time.Second)
		default:
			defer n.asking.Put(source)
			next.ServeHTTP(w, r)
		}
	})
}

// read reads a question; without one it has answered. The asker is who the
// connection comes from.
func (n *Node) read(w http.ResponseWriter, r *http.Request, question message, said *hello) (asker discovery.Member, ok bool) {
	body, ok := peer.ReadQuestion(w, r, maxQuestion)
	if !ok {
		return asker, false
	}
	err := decode(body, question)
	if err == nil && said.ID == n.self.ID {
		err = errors.New("a question in this node's own name")
	}
	if err != nil {
		n.noteVersion(err, r.RemoteAddr)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return asker, false
	}
	asker = discovery.Member{ID: said.ID, Addr: netip.AddrPortFrom(peer.SourceOf(r), said.Port)}
	n.meet(asker)
	return asker, true
}

func (n *Node) servePing(w http.ResponseWriter, r *http.Request) {
	peer.Answer(w, pong{n.hello(), n.cfg.Version})
}

func (n *Node) serveLookup(w http.ResponseWriter, r *http.Request) {
	var q lookupQuestion
	asker, ok := n.read(w, r, &q, &q.hello)
	if !ok {
		return
	}
	wants := make([]discovery.Want, len(q.Want))
	for i := range q.Want {
		wants[i] = n.wanted(asker, &q.Want[i])
	}
	answer := lookupAnswer{head: spoken, Found: make([]found, len(wants))}
	here := localAddr(r)
	for i, f := range n.lookup(asker, wants) {
		answer.Found[i] = n.wireFound(f, here)
	}
	peer.Answer(w, &answer)
}

// localAddr is the address of this node that the asker reached.
func localAddr(r *http.Request) netip.Addr {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}

// wanted reads what an asker wants.
func (n *Node) wanted(asker discovery.Member, w *want) discovery.Want {
	d := discovery.Want{Hash: Digest(w.Hash), Size: w.Size, Have: w.Have, Lease: w.Lease, FirstSilent: w.FirstSilent}
	for _, p := range w.Silent {
		d.Silent = n.appendSilent(d.Silent, p.heardFrom(asker))
	}
	return d
}

// wireFound tells an asker what was found; here is where it reaches this node.
func (n *Node) wireFound(f discovery.Found, here netip.Addr) found {
	w := found{Hash: hash(f.Hash), State: f.State.String()}
	if f.Number >= 0 {
		w.Number = &f.Number
	}
	for _, m := range f.From {
		if n.isSelf(m) {
			m.Addr = netip.AddrPortFrom(here, n.cfg.Port)
		}
		w.From = append(w.From, placeOf(m))
	}
	return w
}

func (n *Node) serveAnnounce(w http.ResponseWriter, r *http.Request) {
	var q announceQuestion
	holder, ok := n.read(w, r, &q, &q.hello)
	if !ok {
		return
	}
	if !n.liars.Has(fetch.Peer(holder)) {
		n.home.Announce(holder, digests(q.Have), digests(q.Gone))
	}
	peer.Answer(w, done{spoken})
}

func digests(hashes []hash) []Digest {
	list := make([]Digest, len(hashes))
	for i, h := range hashes {
		list[i] = Digest(h)
	}
	return list
}

func (n *Node) serveLease(w http.ResponseWriter, r *http.Request) {
	var q leaseQuestion
	holder, ok := n.read(w, r, &q, &q.hello)
	if !ok {
		return
	}
	leases := make([]discovery.LeaseProgress, len(q.Leases))
	for i, l := range q.Leases {
		leases[i] = progressOf(l)
	}
	answer := leaseAnswer{head: spoken}
	for _, d := range n.home.Progress(holder, leases) {
		answer.Lost = append(answer.Lost, hash(d))
	}
	peer.Answer(w, &answer)
}

// serveCopy takes grants from a first home that answered our probe at the address
// from which it speaks: others could lead askers astray.
func (n *Node) serveCopy(w http.ResponseWriter, r *http.Request) {
	var q copyQuestion
	first, ok := n.read(w, r, &q, &q.hello)
	if !ok {
		return
	}
	if n.met.knows(first) {
		n.home.Copy(first, n.copied(first, q.Grants))
	}
	peer.Answer(w, done{spoken})
}

// copied reads grants. Askers that are neither members nor on the link are left
// out.
func (n *Node) copied(first discovery.Member, wire []grant) []discovery.Grant {
	grants := make([]discovery.Grant, 0, len(wire))
	for _, g := range wire {
		asker := g.Asker.heardFrom(first)
		_, member := n.view.Load().byID[asker.ID]
		switch {
		case n.isSelf(asker):
			asker = n.self
		case asker.ID == first.ID:
			asker = first
		case !member && !n.mayConnect(asker.Addr):
			continue
		}
		grants = append(grants, discovery.Grant{Hash: Digest(g.Hash), Asker: asker, Number: g.Number, Lease: g.Lease, Offset: g.Offset})
	}
	return grants
}
