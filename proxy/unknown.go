// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"apt-dht/proxy/fetch"
	"apt-dht/store"
)

// serveUnknown answers for a file that no index names: from the store as far
// as HTTP allows (RFC 9111), else from the mirror.
func (s *Server) serveUnknown(w http.ResponseWriter, r *http.Request, a *ask) {
	s.indexer.asked(a)
	rec, have := s.recordOf(a)
	justFetched := fetchedAhead(r) != nil
	if have && (justFetched || time.Now().Before(rec.FreshUntil) && !wantsFresh(r)) {
		s.serveRecord(w, r, a, rec)
		return
	}
	want := s.wantOf(r, a)
	want.Since = seenAt(r)
	switch {
	case have:
		addValidators(want.Header, rec)
		want.Start = 0
	case isConditional(r):
		copyConditions(want.Header, r.Header)
		want.NoStore = true
	}
	content, err := s.cfg.Fetch.Open(r.Context(), want)
	switch {
	case err == nil:
		defer content.Close()
		s.respond(w, r, a, content)
	case have && isNotModified(err):
		s.confirm(a.url, rec, err)
		s.serveRecord(w, r, a, rec)
	case have && !rec.MustRevalidate && mayServeStale(err):
		w.Header().Set("Warning", staleWarning)
		s.serveRecord(w, r, a, rec)
	default:
		s.fail(w, r, a.url, err)
	}
}

// recordOf is what is known of the file stored for a URL: by its record, or by
// an index that is out of date.
func (s *Server) recordOf(a *ask) (store.URLRecord, bool) {
	if rec, err := s.cfg.Store.GetURL(a.url); err == nil && s.stored(rec.Digest) {
		return rec, true
	}
	if !a.entry.Stale || !s.stored(a.entry.Digest) {
		return store.URLRecord{}, false
	}
	meta, err := s.cfg.Store.Meta(a.entry.Digest)
	if err != nil || meta.Modified.IsZero() {
		return store.URLRecord{}, false
	}
	return store.URLRecord{Digest: a.entry.Digest, Modified: meta.Modified, ContentType: meta.ContentType}, true
}

// passThrough answers with the mirror's own answer, past the store: what was
// asked with credentials is nobody else's.
func (s *Server) passThrough(w http.ResponseWriter, r *http.Request, a *ask) {
	want := s.wantOf(r, a)
	want.NoStore, want.Digest, want.Mirrors = true, fetch.Digest{}, nil
	copyConditions(want.Header, r.Header)
	content, err := s.cfg.Fetch.Open(r.Context(), want)
	if err != nil {
		s.fail(w, r, a.url, err)
		return
	}
	defer content.Close()
	s.respond(w, r, &ask{url: a.url, name: a.name, client: a.client}, content)
}

// staleWarning is RFC 7234 §5.5.1's, which caches for apt have always sent.
const staleWarning = `110 - "Response is Stale"`

// serveRecord answers with the stored file of a URL.
func (s *Server) serveRecord(w http.ResponseWriter, r *http.Request, a *ask, rec store.URLRecord) {
	known := *a
	known.entry.Digest, known.entry.Stale = rec.Digest, false
	content, err := s.cfg.Fetch.Open(r.Context(), fetch.Want{URL: a.url, Digest: rec.Digest, Size: -1, Header: s.mirrorHeader(r), Realm: realmOf(a.client)})
	if err != nil {
		s.fail(w, r, a.url, err)
		return
	}
	defer content.Close()
	if rec.ContentType != "" {
		content.Header = http.Header{"Content-Type": {rec.ContentType}}
	}
	s.respond(w, r, &known, content)
}

func (s *Server) stored(d fetch.Digest) bool {
	_, ok := s.cfg.Store.Stat(d)
	return ok
}

// keepURL notes which file a URL gave; it is told of every stored file.
func (s *Server) keepURL(want fetch.Want, digest fetch.Digest, head fetch.Head) {
	now := time.Now()
	err := s.cfg.Store.PutURL(want.URL, store.URLRecord{
		Digest:      digest,
		Modified:    head.Modified,
		ETag:        head.Header.Get("ETag"),
		ContentType: head.Header.Get("Content-Type"),
		Fetched:     now,
		Confirmed:   now,
		FreshUntil:  freshUntil(head.Header, now),

		MustRevalidate: mustRevalidate(head.Header),
	})
	if err != nil {
		s.log.Warn("the validators of a file were not kept; it will be fetched again", "url", want.URL, "err", err)
	}
}

// confirm notes that the mirror still has what rec describes. answer is its 304
// as an error, which may tell anew for how long (RFC 9111 §4.3.4); nil for none.
func (s *Server) confirm(url string, rec store.URLRecord, answer error) {
	rec.Confirmed = time.Now()
	if status := (*fetch.StatusError)(nil); errors.As(answer, &status) {
		rec.FreshUntil = freshUntil(status.Header, rec.Confirmed)
	}
	if err := s.cfg.Store.PutURL(url, rec); err != nil {
		s.log.Warn("a confirmation was not kept", "url", url, "err", err)
	}
}

func addValidators(h http.Header, rec store.URLRecord) {
	if !rec.Modified.IsZero() {
		h.Set("If-Modified-Since", rec.Modified.UTC().Format(http.TimeFormat))
	}
	if rec.ETag != "" {
		h.Set("If-None-Match", rec.ETag)
	}
}

func copyConditions(to, from http.Header) {
	for _, k := range []string{"If-Modified-Since", "If-None-Match"} {
		if v := from.Get(k); v != "" {
			to.Set(k, v)
		}
	}
}

// wantsFresh tells whether the client will not have a stored answer unasked.
func wantsFresh(r *http.Request) bool {
	for directive := range fetch.CacheControl(r.Header) {
		if directive == "no-cache" || directive == "max-age=0" {
			return true
		}
	}
	return r.Header.Get("Pragma") == "no-cache"
}

// mustRevalidate tells whether the mirror forbids to give its answer unasked
// even while it cannot be asked (RFC 9111 §5.2.2).
func mustRevalidate(h http.Header) bool {
	for directive := range fetch.CacheControl(h) {
		switch directive {
		case "must-revalidate", "proxy-revalidate", "no-cache":
			return true
		}
	}
	return false
}

// freshUntil is how long an answer needs no question to the mirror (RFC 9111
// §4.2): only where the mirror says so, no heuristics.
func freshUntil(h http.Header, now time.Time) time.Time {
	for directive := range fetch.CacheControl(h) {
		if directive == "no-cache" {
			return time.Time{}
		}
	}
	for directive := range fetch.CacheControl(h) {
		if age, ok := strings.CutPrefix(directive, "max-age="); ok {
			if n, err := strconv.ParseInt(age, 10, 32); err == nil && n > 0 {
				return now.Add(time.Duration(n) * time.Second)
			}
			return time.Time{}
		}
	}
	if t, err := http.ParseTime(h.Get("Expires")); err == nil {
		return t
	}
	return time.Time{}
}

func isNotModified(err error) bool {
	var status *fetch.StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotModified
}

// mayServeStale tells whether err is about reaching the mirror, not the
// mirror's answer about the file (RFC 9111 §4.2.4).
func mayServeStale(err error) bool {
	var status *fetch.StatusError
	if errors.As(err, &status) {
		return status.Temporary()
	}
	return !errors.As(err, new(*originError))
}
