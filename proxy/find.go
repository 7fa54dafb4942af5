// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"apt-dht/index"
	"apt-dht/proxy/fetch"
)

const (
	// findTime bounds a search: the LAN answers within half a second, the DHT
	// mostly within three.
	findTime = 8 * time.Second

	// maxFinds bounds the searches that go on: each may cost a lookup in the DHT,
	// which has few to spare.
	maxFinds = 2

	// maxPlaces bounds the places that a search tells of.
	maxPlaces = 100
)

// Found is the answer of GET /~/v1/find?sha256=… or ?url=…: who has a file.
type Found struct {
	// SHA256 of the file, 64 hexadecimal digits. Empty: it is not known, and nobody
	// was asked; Why tells why.
	SHA256 string `json:"sha256"`
	Why    string `json:"why,omitempty"`
	Size   int64  `json:"size"` // bytes, -1 where unknown
	// Places are where it is, those first that apt's next request would use.
	Places []FoundPlace `json:"places"`
	// LAN and Internet are what asking there came to, in a sentence.
	LAN      string `json:"lan"`
	Internet string `json:"internet"`
	// Private: Internet is of a DHT of one's own.
	Private bool `json:"private,omitempty"`
}

// FoundPlace is a place where a file is.
type FoundPlace struct {
	// Where is a word of X-Apt-Dht-Source: store, lan, wan.
	Where string `json:"where"`
	// Addr is another node's. Its zero value is this node.
	Addr netip.AddrPort `json:"addr,omitzero"`
	// AfterMS is how many milliseconds the search took to find it.
	AfterMS int64 `json:"after_ms"`
	// Used: apt's next request for the file would be served from there.
	Used bool `json:"used"`
	// Note says what else is to know, such as why it would not be used.
	Note string `json:"note,omitempty"`
}

// finder answers GET /~/v1/find.
type finder struct {
	s      *Server
	tokens chan struct{}
}

func newFinder(s *Server) *finder {
	return &finder{s: s, tokens: make(chan struct{}, maxFinds)}
}

// ServeHTTP implements http.Handler.
func (f *finder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if isWebPage(r) {
		refuse(w, r, http.StatusForbidden, "Forbidden (apt-dht searches for no web page; ask it by its address)")
		return
	}
	select {
	case f.tokens <- struct{}{}:
		defer func() { <-f.tokens }()
	default:
		refuse(w, r, http.StatusTooManyRequests, fmt.Sprintf("Too Many Requests (apt-dht: %d searches are going on)", maxFinds))
		return
	}
	q, err := f.s.newSearch(r)
	if err != nil {
		refuse(w, r, http.StatusBadRequest, fmt.Sprintf("Bad Request (apt-dht: %v)", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(q.run(r.Context())); err != nil {
		f.s.log.Debug("who has a file was not delivered", "err", err)
	}
}

// isWebPage tells whether a browser may be asking for a web page: one of another
// site, or one that has had its name resolved to this node's address (DNS
// rebinding). Of names only localhost is no web page's.
func isWebPage(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	host := stripPort(r.Host)
	_, err := netip.ParseAddr(host)
	return site != "" && site != "none" && site != "same-origin" || err != nil && host != "localhost"
}

// search is one search for a file.
type search struct {
	s      *Server
	digest fetch.Digest // zero: not known
	// shares tells whether the internet may be asked; nil: it may not.
	shares func(context.Context) bool
	began  time.Time

	mu    sync.Mutex // guards following
	found Found
}

// newSearch works out which file is meant.
func (s *Server) newSearch(r *http.Request) (*search, error) {
	q := &search{s: s, began: time.Now(), found: Found{Size: -1, Places: []FoundPlace{}}}
	text, url := r.URL.Query().Get("sha256"), r.URL.Query().Get("url")
	if text == "" {
		name, err := index.NameOf(url)
		if err != nil {
			return nil, fmt.Errorf("find takes sha256=, 64 hexadecimal digits, or url=: %w", err)
		}
		q.named(url, name, clientOf(r))
		return q, nil
	}
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(q.digest) || fetch.Digest(raw) == (fetch.Digest{}) {
		return nil, fmt.Errorf("%q is not a SHA-256: find takes 64 hexadecimal digits", text)
	}
	q.digest = fetch.Digest(raw)
	if s.cfg.Internet != nil {
		q.shares = func(ctx context.Context) bool { return s.sharesHash(ctx, q.digest) }
	}
	return q, nil
}

// sharesHash tells whether the internet may be asked for what somebody names by its
// hash alone. Whoever does so wants to know; but what is known not to be everybody's
// business stays here.
func (s *Server) sharesHash(ctx context.Context, d fetch.Digest) bool {
	if _, stored := s.cfg.Store.Stat(d); stored {
		_, ok := s.mayGive(d)
		return ok
	}
	origins := s.cfg.Internet.Origins
	bases := s.cfg.Index.Bases(d)
	return len(bases) == 0 || slices.ContainsFunc(bases, func(base string) bool {
		shares := origins.shares(urlOf("http://", base), base, base)
		return shares != nil && shares(ctx)
	})
}

// named takes the hash of a URL from the index, else that of what the store has
// of it.
func (q *search) named(url, name string, client netip.Addr) {
	s := q.s
	entry := s.cfg.Index.Lookup(name, client)
	if entry.Digest != (index.Digest{}) {
		q.digest, q.found.Size = entry.Digest, entry.Size
		q.shares = s.cfg.Internet.shareable(url, name, entry.Base)
		return
	}
	switch rec, err := s.cfg.Store.GetURL(url); {
	case entry.Kind == index.KindRoot:
		q.found.Why = "it is a root file, which is signed and has no hash: nodes ask the mirror for it"
	case err == nil:
		q.digest = rec.Digest
	default:
		q.found.Why = "no index that this node has read names it: run apt-get update through the node, or give the SHA-256"
	}
}

// run asks everywhere at the same time. Nothing of it goes on when it returns.
func (q *search) run(ctx context.Context) *Found {
	if q.digest == (fetch.Digest{}) {
		q.found.LAN, q.found.Internet = "not asked", "not asked"
		return &q.found
	}
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	q.found.SHA256 = hex.EncodeToString(q.digest[:])
	if size, ok := q.s.cfg.Store.Stat(q.digest); ok {
		q.found.Size = size
		q.add(FoundPlace{Where: fetch.FromStore})
	}
	var wg sync.WaitGroup
	wg.Go(func() { q.found.LAN = q.askLAN(ctx) })
	wg.Go(func() { q.found.Internet = q.askInternet(ctx) })
	wg.Wait()
	q.rank()
	return &q.found
}

func (q *search) add(p FoundPlace) {
	p.AfterMS = time.Since(q.began).Milliseconds()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.found.Places) < maxPlaces {
		q.found.Places = append(q.found.Places, p)
	}
}

// askLAN asks the file's homes, without wanting to fetch it.
func (q *search) askLAN(ctx context.Context) string {
	lan := q.s.cfg.LAN
	switch {
	case lan == nil:
		return "not asked: this node has no part in a local network (--mdns, --listen)"
	case lan.Alone():
		return "not asked: no other node is known there"
	}
	answer := lan.Find(ctx, fetch.Question{Digest: q.digest, Size: q.found.Size})()
	note := ""
	if answer.State == fetch.Coming {
		note = "it is still fetching the file"
	}
	for _, p := range answer.From {
		q.add(FoundPlace{Where: fetch.FromLAN, Addr: p.Addr, Note: note})
	}
	return count(len(answer.From), "node of the local network has it", "nodes of the local network have it")
}

// askInternet asks the nodes that are known, and those that the DHT names.
func (q *search) askInternet(ctx context.Context) string {
	switch {
	case q.s.cfg.Internet == nil:
		return "not asked: this node has no part in the DHT (--dht, --wan-listen)"
	case q.isRoot():
		return "not asked: it is a root file, such as InRelease, which no index names by its hash: nodes ask the mirror for it"
	case q.shares == nil || !q.shares(ctx):
		return "not asked: the file is of no public repository, or one that is excluded (--dht-exclude)"
	}
	found, note := 0, ""
	if q.found.Size >= 0 && q.found.Size < fetch.WorthSeeking {
		note = "small: only once the mirror has failed"
	}
	q.s.cfg.Internet.WAN.Find(ctx, q.digest, func(p fetch.Peer) {
		found++
		q.add(FoundPlace{Where: fetch.FromWAN, Addr: p.Addr, Note: note})
	})
	dht := q.s.cfg.Internet.DHT()
	q.found.Private = dht.Mode == ModePrivate
	if found == 0 && dht.Nodes == 0 {
		return "nobody could be asked: no node of the DHT is known (yet)"
	}
	said := count(found, "node on "+dht.Where()+" has it", "nodes on "+dht.Where()+" have it")
	if ctx.Err() != nil {
		said += ", as far as could be found out in time"
	}
	return said
}

// isRoot tells whether the store has the file as a repository's root file.
func (q *search) isRoot() bool {
	meta, err := q.s.cfg.Store.Meta(q.digest)
	if err != nil {
		return false
	}
	name, err := index.NameOf(meta.Origin)
	return err == nil && q.s.cfg.Index.Lookup(name, netip.Addr{}).Kind == index.KindRoot
}

func count(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// rank marks the places of the lowest rung of the ladder (package fetch) that has
// any, which come first.
func (q *search) rank() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, rung := range []struct{ where, why string }{
		{fetch.FromStore, "this node has it"},
		{fetch.FromLAN, "the local network has it"},
		{fetch.FromWAN, ""},
	} {
		if q.use(rung.where, rung.why) {
			break
		}
	}
}

// use marks all places of a rung, and tells the others why they are not needed. It
// is false where there are none.
func (q *search) use(where, why string) bool {
	var used, others []FoundPlace
	for _, p := range q.found.Places {
		if p.Where == where {
			p.Used = true
			used = append(used, p)
		} else {
			p.Note = strings.TrimPrefix(p.Note+", not needed: "+why, ", ")
			others = append(others, p)
		}
	}
	if used == nil {
		return false
	}
	q.found.Places = append(used, others...)
	return true
}
