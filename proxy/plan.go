// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"apt-dht/index"
	"apt-dht/proxy/fetch"
)

// ask is a request for a file, understood.
type ask struct {
	url    string // absolute, verbatim
	name   string // the index's name for it
	client netip.Addr
	entry  index.Entry
}

// understand works out which file a request means and what is known of it.
func (s *Server) understand(r *http.Request, url string, client netip.Addr) (ask, error) {
	name, err := index.NameOf(url)
	if err != nil {
		return ask{}, fmt.Errorf("%s: %w", url, err)
	}
	entry := s.cfg.Index.Lookup(name, client)
	if schemeOf(url) == "https://" && !entry.Trusted && entry.Size >= 0 {
		// The index does not tell the schemes apart. What nobody has signed may
		// have come over http, and must not answer for https.
		entry = index.Entry{Size: -1}
	}
	return ask{url: url, name: name, client: client, entry: entry}, nil
}

// known tells whether the file's SHA-256 is known. One from a list that is out
// of date does not count: it may be of the file as it was.
func (a *ask) known() bool {
	return a.entry.Digest != index.Digest{} && !a.entry.Stale
}

// hasCredentials tells whether the request shows who is asking: then its
// answer is nobody else's.
func hasCredentials(r *http.Request) bool {
	return len(r.Header["Authorization"]) > 0 || len(r.Header["Cookie"]) > 0
}

// isConditional tells whether the request may be answered 304.
func isConditional(r *http.Request) bool {
	return r.Header.Get("If-Modified-Since") != "" || r.Header.Get("If-None-Match") != ""
}

// passedOn are the request's fields that a mirror may want to know.
var passedOn = []string{"User-Agent", "Accept", "Cache-Control", "Authorization", "Cookie"}

// mirrorHeader is the header for the mirror, made from the client's.
func (s *Server) mirrorHeader(r *http.Request) http.Header {
	h := http.Header{}
	for _, k := range passedOn {
		if v := r.Header[k]; v != nil {
			h[k] = v
		}
	}
	h["Via"] = append(r.Header["Via"][:len(r.Header["Via"]):len(r.Header["Via"])], s.via)
	return h
}

// wantOf is what has to be fetched for a.
func (s *Server) wantOf(r *http.Request, a *ask) fetch.Want {
	want := fetch.Want{
		URL:    a.url,
		Size:   -1,
		Start:  rangeStart(r),
		Header: s.mirrorHeader(r),
		Realm:  realmOf(a.client),
		Flow:   a.client.String(),
	}
	if a.known() {
		want.Digest, want.Size = a.entry.Digest, a.entry.Size
		want.Exact = a.entry.Kind == index.KindFile
		want.Keep = a.entry.Kind == index.KindIndex || a.entry.Parse
		want.Mirrors = append(s.mirrorsOf(a), otherHash(a.url, a.entry.Digest)...)
		want.Unproven = mendsItself(r)
		want.Shareable = s.cfg.Internet.shareable(a.url, a.name, a.entry.Base)
	}
	return want
}

// mendsItself tells whether a client whose answer is cut short for wrong bytes
// asks again and takes a whole new file. apt does; wget and curl would join the
// right rest to a wrong beginning.
func mendsItself(r *http.Request) bool {
	return r.Header.Get("Range") == "" && strings.HasPrefix(r.Header.Get("User-Agent"), "Debian APT-HTTP/")
}

// byHashDir is in the path of a file that is named by its hash, as Acquire-By-Hash
// has it; the hash's own name follows.
const byHashDir = "/by-hash/"

// otherHash is the name by SHA-256 of what a URL names by another hash: many
// archives list hashes by which they name no files, and each machine that asks
// would be told so.
func otherHash(url string, d fetch.Digest) []string {
	dir, hash, ok := strings.Cut(url, byHashDir)
	if !ok || strings.HasPrefix(hash, "SHA256/") {
		return nil
	}
	return []string{dir + byHashDir + "SHA256/" + hex.EncodeToString(d[:])}
}

// mirrorsOf are other URLs of the same bytes.
func (s *Server) mirrorsOf(a *ask) []string {
	_, raw, _ := strings.Cut(a.url, "://")
	path, ok := strings.CutPrefix(raw, a.entry.Base)
	rest, ok2 := strings.CutPrefix(a.name, a.entry.Base)
	if !ok || !ok2 || a.entry.Base == "" {
		return nil
	}
	var urls []string
	for _, name := range s.cfg.Index.Mirrors(a.name) {
		if base, ok := strings.CutSuffix(name, rest); ok {
			urls = append(urls, "http://"+base+path)
		}
	}
	return urls
}

// wantAhead is what a pipelined request will need; false where only its
// handler can tell.
func (s *Server) wantAhead(r *http.Request, client netip.Addr) (fetch.Want, bool) {
	liftCredentials(r)
	if !s.allows(client) || s.isLoop(r) || hasCredentials(r) || isConditional(r) {
		return fetch.Want{}, false
	}
	url, err := targetOf(r)
	if err != nil {
		return fetch.Want{}, false
	}
	a, err := s.understand(r, url, client)
	if err != nil || a.entry.Kind == index.KindRoot {
		return fetch.Want{}, false
	}
	if !a.known() {
		if _, err := s.cfg.Store.GetURL(url); err == nil {
			return fetch.Want{}, false
		}
	}
	return s.wantOf(r, &a), true
}

// rangeStart is the first byte that a request needs: N of "bytes=N-". Other
// ranges are rare and cost at most the bytes before them.
func rangeStart(r *http.Request) int64 {
	spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return 0
	}
	first, _, _ := strings.Cut(spec, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
