// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"context"
	"crypto/sha256"
	"io"
	"path"
	"strings"
	"time"

	"apt-dht/index"
	"apt-dht/proxy/fetch"
	"apt-dht/store"
)

// While a mirror is down, the newest InRelease that any node of the LAN holds
// will do, if a key that apt trusts signed it: so a site without uplink still
// installs what it has. Release and Release.gpg are two files that may come
// from different nodes, and are not taken.

// foundRoot is a verified root file that is here or came from a peer.
type foundRoot struct {
	body []byte
	info index.RootInfo
}

// rootFromLAN returns the newest verified copy of a root file among those of
// the LAN's nodes and our own; false where that is our own, or none.
func (s *Server) rootFromLAN(ctx context.Context, a *ask, own store.URLRecord, have bool) (foundRoot, bool) {
	if s.cfg.LAN == nil || path.Base(a.name) != "InRelease" {
		return foundRoot{}, false
	}
	var best foundRoot
	if have {
		best = s.verifiedRoot(a.name, s.readStored(own.Digest))
	}
	ours := best.info
	for _, body := range s.cfg.LAN.Roots(ctx, a.name) {
		found := s.verifiedRoot(a.name, body)
		if found.info.Date.After(best.info.Date) && isSuite(a.name, &found.info, &ours) {
			best = found
		}
	}
	return best, best.body != nil && best.info.Digest != ours.Digest
}

// isSuite tells whether a peer's root file is of the suite that its name asks
// for: the keys of one suite sign the others too. ours is our own copy of it,
// zero if there is none; then the name of the suite's directory decides.
func isSuite(name string, found, ours *index.RootInfo) bool {
	if (ours.Digest != index.Digest{}) {
		return found.Suite == ours.Suite && found.Codename == ours.Codename
	}
	_, suite, ok := lastCut(path.Dir(name), "/dists/")
	return !ok || suite == found.Suite || suite == found.Codename
}

// lastCut is strings.Cut at the last separator.
func lastCut(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// verifiedRoot is zero unless body is a root file that may be given out without
// asking its mirror.
func (s *Server) verifiedRoot(name string, body []byte) foundRoot {
	info, err := s.cfg.Index.CheckRoot(name, body)
	if err != nil || !info.Trusted() || !info.ValidUntil.IsZero() && time.Now().After(info.ValidUntil) {
		return foundRoot{}
	}
	return foundRoot{body, info}
}

// takePeersRoot stores a root file that a peer gave.
func (s *Server) takePeersRoot(a *ask, found foundRoot) (rootCopy, error) {
	if _, err := s.cfg.Index.AddRoot(a.name, found.body); err != nil {
		return rootCopy{}, err
	}
	now := time.Now()
	rec := store.URLRecord{
		Digest:     sha256.Sum256(found.body),
		Fetched:    now,
		Confirmed:  now, // by the LAN, as far as that can
		ValidUntil: found.info.ValidUntil,
		Root:       true,
	}
	if err := s.keepRoot(a.url, found.body, rec); err != nil {
		s.log.Warn("a peer's root file was not stored; it is given all the same", "url", a.url, "err", err)
	}
	return rootCopy{rec: rec, body: found.body, stale: true, source: fetch.FromLAN}, nil
}

// RootFor returns the stored InRelease of that name for a node of the LAN.
func (s *Server) RootFor(name string) ([]byte, bool) {
	if path.Base(name) != "InRelease" {
		return nil, false
	}
	for _, scheme := range []string{"http://", "https://"} {
		rec, err := s.cfg.Store.GetURL(urlOf(scheme, name))
		if err != nil || !rec.Root {
			continue
		}
		if found := s.verifiedRoot(name, s.readStored(rec.Digest)); found.body != nil {
			return found.body, true
		}
	}
	return nil, false
}

// readStored returns a stored root file, nil where it cannot be read.
func (s *Server) readStored(digest fetch.Digest) []byte {
	blob, err := s.cfg.Store.Get(digest)
	if err != nil {
		return nil
	}
	defer blob.Close()
	body, err := io.ReadAll(io.LimitReader(blob, maxRoot))
	if err != nil {
		return nil
	}
	return body
}
