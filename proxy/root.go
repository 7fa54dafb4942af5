// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"apt-dht/proxy/fetch"
	"apt-dht/store"
)

const (
	// maxRoot bounds a root file: Debian's are 150 kB.
	maxRoot = 4 << 20

	// smallRoot is what any number of root files may take while they are read.
	// Of larger ones only largeRoots are read at a time.
	smallRoot  = 512 << 10
	largeRoots = 8

	// rootTime bounds one question for a root file; apt itself waits for 30 s
	// between bytes.
	rootTime = time.Minute

	// staleFor is how long a root file without Valid-Until is still given
	// after it was last confirmed, while its mirror is down.
	staleFor = 7 * 24 * time.Hour
)

// rootCopy is a root file to be given to clients.
type rootCopy struct {
	rec   store.URLRecord
	body  []byte // just brought from the mirror; nil: in the store
	stale bool   // the mirror could not be asked

	source string // where body comes from
}

// serveRoot answers for InRelease, Release and Release.gpg: each time the
// mirror is asked whether they are still the same.
func (s *Server) serveRoot(w http.ResponseWriter, r *http.Request, a *ask) {
	root, err := s.roots.get(r.Context(), realmOf(a.client)+" "+a.url, func(ctx context.Context) (rootCopy, error) {
		return s.refreshRoot(ctx, a, s.mirrorHeader(r))
	})
	if err != nil {
		s.fail(w, r, a.url, err)
		return
	}
	s.cfg.Index.GaveRoot(a.name, root.rec.Digest, a.client)
	if root.stale {
		w.Header().Set("Warning", staleWarning)
	}
	if root.body == nil {
		s.serveRecord(w, r, a, root.rec)
		return
	}
	s.serveFresh(w, r, a.url, root)
}

// serveFresh answers with a root file that has just come.
func (s *Server) serveFresh(w http.ResponseWriter, r *http.Request, url string, root rootCopy) {
	h := w.Header()
	h.Set("X-Apt-Dht-Source", root.source)
	h.Set("Via", s.via)
	h.Set("Etag", etag(root.rec.Digest))
	disarm(h)
	h.Set("Content-Type", cmp.Or(root.rec.ContentType, "text/plain"))
	out := &meter{ResponseWriter: w, total: s.counters.to(root.source)}
	http.ServeContent(out, r, "", root.rec.Modified, bytes.NewReader(root.body))
	s.logAnswer(r, url, root.source, out.n)
}

// refreshRoot asks the mirror, and where it cannot be asked takes the last
// good copy.
func (s *Server) refreshRoot(ctx context.Context, a *ask, header http.Header) (rootCopy, error) {
	rec, err := s.cfg.Store.GetURL(a.url)
	have := err == nil && s.stored(rec.Digest)
	if have {
		addValidators(header, rec)
	}
	host := hostOf(a.url)
	if s.silent.has(host) {
		if root, err := s.withoutMirror(ctx, a, rec, have, errSilentMirror); err == nil {
			return root, nil
		}
	}
	began := time.Now()
	root, err := s.askForRoot(ctx, a, header, rec, have)
	if err == nil || !mayServeStale(err) {
		return root, err
	}
	if ctx.Err() == nil && time.Since(began) >= slowFailure {
		s.silent.add(host)
	}
	return s.withoutMirror(ctx, a, rec, have, err)
}

// withoutMirror returns the last good copy, of the LAN or our own, of a root file
// that the mirror does not give; why is in the error where there is none.
func (s *Server) withoutMirror(ctx context.Context, a *ask, rec store.URLRecord, have bool, why error) (rootCopy, error) {
	if found, ok := s.rootFromLAN(ctx, a, rec, have); ok {
		s.log.Warn("the mirror is of no help; giving the newest copy on the LAN", "url", a.url, "date", found.info.Date, "err", why)
		return s.takePeersRoot(a, found)
	}
	if !have {
		return rootCopy{}, why
	}
	if until := validUntil(rec); time.Now().After(until) {
		return rootCopy{}, fmt.Errorf("%w (a copy is stored, but it expired at %s)", why, until.UTC().Format(time.RFC1123))
	}
	s.log.Warn("the mirror is of no help; giving the last good copy", "url", a.url, "err", why)
	return rootCopy{rec: rec, stale: true}, nil
}

// validUntil is when a stored root file may no longer be given unconfirmed.
func validUntil(rec store.URLRecord) time.Time {
	if !rec.ValidUntil.IsZero() {
		return rec.ValidUntil
	}
	return rec.Confirmed.Add(staleFor)
}

// askForRoot asks the mirror and those that stand in for it, in turn.
func (s *Server) askForRoot(ctx context.Context, a *ask, header http.Header, rec store.URLRecord, have bool) (rootCopy, error) {
	var first error
	for _, url := range append([]string{a.url}, s.mirrorsOf(a)...) {
		root, err := s.askOneForRoot(ctx, url, a, header, rec, have)
		if err == nil || ctx.Err() != nil || !mayServeStale(err) {
			return root, err
		}
		if first == nil {
			first = err
		}
	}
	return rootCopy{}, first
}

func (s *Server) askOneForRoot(ctx context.Context, url string, a *ask, header http.Header, rec store.URLRecord, have bool) (rootCopy, error) {
	ctx, cancel := context.WithTimeout(ctx, rootTime)
	defer cancel()
	resp, err := s.cfg.Fetch.Get(ctx, fetch.Want{URL: url, Header: header.Clone(), Realm: realmOf(a.client)})
	if err != nil {
		return rootCopy{}, err
	}
	defer resp.Body.Close()
	body, err := s.readRoot(resp.Body)
	switch {
	case err != nil:
		return rootCopy{}, fmt.Errorf("%s: %w", url, err)
	case resp.StatusCode == http.StatusNotModified && have:
		return s.confirmRoot(a, rec)
	case resp.StatusCode != http.StatusOK:
		return rootCopy{}, &fetch.StatusError{URL: url, Code: resp.StatusCode, Header: resp.Header, Body: body[:min(len(body), 64<<10)]}
	case len(body) > maxRoot:
		return rootCopy{}, fmt.Errorf("%s: a root file of more than %d bytes", url, maxRoot)
	}
	return s.takeRoot(a, body, resp.Header)
}

// readRoot reads a root file of up to maxRoot bytes, and one more.
func (s *Server) readRoot(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, smallRoot))
	if err != nil || len(body) < smallRoot {
		return body, err
	}
	select {
	case s.largeRoots <- struct{}{}:
		defer func() { <-s.largeRoots }()
	default:
		return nil, errors.New("too many large root files are being read at the moment")
	}
	rest, err := io.ReadAll(io.LimitReader(r, maxRoot+1-smallRoot))
	return append(body, rest...), err
}

// confirmRoot notes that the mirror still has the copy that is stored.
func (s *Server) confirmRoot(a *ask, rec store.URLRecord) (rootCopy, error) {
	s.confirm(a.url, rec, nil)
	if !s.cfg.Index.HasRoot(a.name, rec.Digest) {
		s.reindexRoot(a.name, rec.Digest)
	}
	return rootCopy{rec: rec}, nil
}

// reindexRoot gives the index a stored root file that it has lost.
func (s *Server) reindexRoot(name string, digest fetch.Digest) {
	if _, err := s.cfg.Index.AddRoot(name, s.readStored(digest)); err != nil {
		s.log.Warn("a stored root file is not usable", "name", name, "err", err)
	}
}

// takeRoot checks new bytes and stores them.
func (s *Server) takeRoot(a *ask, body []byte, header http.Header) (rootCopy, error) {
	info, err := s.cfg.Index.AddRoot(a.name, body)
	if err != nil {
		return rootCopy{}, fmt.Errorf("%s: %w", a.url, err)
	}
	now := time.Now()
	rec := store.URLRecord{
		Digest:      sha256.Sum256(body),
		Modified:    parseDate(header.Get("Last-Modified")),
		ETag:        header.Get("ETag"),
		ContentType: header.Get("Content-Type"),
		Fetched:     now,
		Confirmed:   now,
		ValidUntil:  info.ValidUntil,
		Root:        true,
	}
	if err := s.keepRoot(a.url, body, rec); err != nil {
		s.log.Warn("a root file was not stored; it is given all the same", "url", a.url, "err", err)
	}
	return rootCopy{rec: rec, body: body, source: fetch.FromMirror}, nil
}

// keepRoot stores a root file's bytes and its record.
func (s *Server) keepRoot(url string, body []byte, rec store.URLRecord) error {
	if !s.stored(rec.Digest) {
		g, err := s.cfg.Store.Create(rec.Digest, int64(len(body)))
		if errors.Is(err, store.ErrBusy) {
			return nil // the same bytes are being stored under another URL
		}
		if err != nil {
			return err
		}
		if _, err := g.Write(body[min(g.Len(), int64(len(body))):]); err != nil {
			g.Discard(err)
			return err
		}
		if _, err := g.Commit(store.Meta{Modified: rec.Modified, ContentType: rec.ContentType, Origin: url, Keep: true}); err != nil {
			return err
		}
	}
	return s.cfg.Store.PutURL(url, rec)
}

func parseDate(s string) time.Time {
	t, err := http.ParseTime(s)
	if err != nil {
		return time.Time{}
	}
	return t
}
