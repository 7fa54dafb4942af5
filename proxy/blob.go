// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"net/http"
	"strings"

	"apt-dht/index"
	"apt-dht/proxy/fetch"
)

// serveBlob answers for a file whose SHA-256 is known.
func (s *Server) serveBlob(w http.ResponseWriter, r *http.Request, a *ask) {
	if strings.Contains(a.name, ".diff/") { // this client never asks for the index itself
		s.indexer.asked(a)
	}
	content := s.cfg.Fetch.Stored(a.entry.Digest)
	if content == nil {
		var err error
		if content, err = s.cfg.Fetch.Open(r.Context(), s.wantOf(r, a)); err != nil {
			s.fail(w, r, a.url, err)
			return
		}
	}
	defer content.Close()
	if a.entry.Parse && content.Source == fetch.FromStore {
		s.indexer.parse(a.name, a.entry.Digest)
	}
	if a.entry.Kind == index.KindIndex {
		// Which bytes are current the index says; a date may come from a peer.
		r.Header.Del("If-Modified-Since")
	}
	if ahead := fetchedAhead(r); ahead != nil && ahead.Source() != "" {
		content.Source = ahead.Source() // it came for this very request
	}
	s.respond(w, r, a, content)
}
