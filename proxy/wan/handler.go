// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/gorilla/mux"

	"apt-dht/dht"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
)

const (
	// leastShare is what of the upload limit each of those who are given a blob
	// gets at least, in bytes per second: others are refused, and find it
	// elsewhere sooner.
	leastShare = 50_000

	// At most mostUploads blobs are given at a time, but at least fewestUploads
	// however low the limit is, and maxUploadsEach to one site.
	mostUploads    = 32
	fewestUploads  = 4
	maxUploadsEach = 4

	// A reader must take slowestReader bytes per second, over readerStep bytes at
	// a time: whoever takes less is cut off after some 20 seconds.
	readerStep    = 80_000
	slowestReader = 4_000

	// maxQuestions bounds the questions that are answered at a time, and
	// maxQuestionsEach those of one site.
	maxQuestions     = 64
	maxQuestionsEach = 4

	// tryAgain is what those who are refused are told to wait.
	tryAgain = 2 * time.Second
)

// maxUploads is how many blobs are given at a time, so that none is given slowly.
func maxUploads(limit int64) int {
	return int(min(max(limit/leastShare, fewestUploads), mostUploads))
}

// Handler answers everything below /~/v1/wan/, and 404 to all else. It is for a
// listener of its own; [Node.Serve] has one.
func (n *Node) Handler() http.Handler {
	r := mux.NewRouter().SkipClean(true)
	get := r.Methods(http.MethodGet, http.MethodHead).Subrouter()
	get.HandleFunc(Prefix+"ping", n.servePing)
	get.HandleFunc(Prefix+"blob/{hash}", n.serveBlob)
	get.Use(peer.NoBody)
	post := r.Methods(http.MethodPost).Subrouter()
	post.HandleFunc(Prefix+"have", n.serveHave)
	post.HandleFunc(Prefix+"reach", n.serveReach)
	post.Use(n.guardQuestion)
	r.Use(n.guard)
	r.MethodNotAllowedHandler = http.NotFoundHandler()
	return r
}

// guard answers nobody when the node has ended.
func (n *Node) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.ctx.Err() != nil {
			http.Error(w, "apt-dht is shutting down", http.StatusServiceUnavailable)
			return
		}
		if !n.fromNeighbour(r) {
			n.visited(peer.SourceOf(r))
		}
		next.ServeHTTP(w, r)
	})
}

// fromNeighbour tells whether a request comes from this machine's own network: that
// does not prove that one from outside would, through the firewall before it.
func (n *Node) fromNeighbour(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if local == nil || n.cfg.Private {
		return false
	}
	return dht.NetworkOf(local.AddrPort().Addr().Unmap()).Contains(peer.SourceOf(r))
}

// guardQuestion admits no browser that a web page sends here, and few at a time.
func (n *Node) guardQuestion(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site := siteOf(peer.SourceOf(r))
		switch {
		case peer.NoWebPages(w, r):
		case !n.asking.Take(site):
			peer.TooMany(w, tryAgain)
		default:
			defer n.asking.Put(site)
			next.ServeHTTP(w, r)
		}
	})
}

// read reads a question. Where there is none it has answered.
func read(w http.ResponseWriter, r *http.Request, most int64, question message) bool {
	body, ok := peer.ReadQuestion(w, r, most)
	if !ok {
		return false
	}
	if err := decode(body, question); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

// serveHave answers from memory.
func (n *Node) serveHave(w http.ResponseWriter, r *http.Request) {
	var q haveQuestion
	if read(w, r, maxMessage, &q) {
		peer.Answer(w, haveAnswer{spoken, n.offered.among(q.Want)})
	}
}

// serveBlob gives a stored blob, or a range of it.
func (n *Node) serveBlob(w http.ResponseWriter, r *http.Request) {
	d, ok := peer.ParseHash(mux.Vars(r)["hash"])
	if !ok {
		http.Error(w, peer.ErrHash.Error(), http.StatusBadRequest)
		return
	}
	site := siteOf(peer.SourceOf(r))
	if !n.uploads.Take(site) {
		peer.TooMany(w, tryAgain)
		return
	}
	defer n.uploads.Put(site)
	blob, err := n.openWhole(d)
	if err != nil {
		n.refuseBlob(w, r, d, err)
		return
	}
	defer blob.Close()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	out := peer.NewSender(w, n.pace(ctx, site))
	defer out.End()
	if err := peer.ServeStored(out, r, d, blob, n.cfg.Pieces); err != nil {
		n.cfg.Log.Debug("the states of a blob cannot be told", slog.String("digest", hex.EncodeToString(d[:])), slog.Any("err", err))
	}
}

// openWhole opens a blob that is stored.
func (n *Node) openWhole(d Digest) (*fetch.Shared, error) {
	blob, err := n.cfg.Open(d)
	if err == nil && blob.File == nil {
		blob.Close()
		return nil, fetch.ErrNotHere
	}
	return blob, err
}

// pace is how bytes go to a site.
func (n *Node) pace(ctx context.Context, site netip.Addr) peer.Pace {
	return peer.Pace{
		Step:  readerStep,
		Stall: readerStep / slowestReader * time.Second,
		Wait:  func(bytes int64) error { return n.throttle.take(ctx, site, bytes) },
		Sent:  func(bytes int64) { n.bytesTo.Add(bytes) },
	}
}

func (n *Node) refuseBlob(w http.ResponseWriter, r *http.Request, d Digest, err error) {
	if errors.Is(err, fetch.ErrNotHere) {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	n.cfg.Log.Debug("a blob cannot be given to a node on the internet", slog.String("node", r.RemoteAddr),
		slog.String("digest", hex.EncodeToString(d[:])), slog.Any("err", err))
	http.Error(w, "the blob cannot be read", http.StatusServiceUnavailable)
}
