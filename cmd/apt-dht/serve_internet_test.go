// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"testing"

	"apt-dht/proxy"
	"apt-dht/proxy/fetch"
	"apt-dht/store"
)

// What the operator excludes is neither offered nor given any more, though it was
// stored before.
func TestExcludedIsNotGiven(t *testing.T) {
	st, err := store.Open(store.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	n := &node{store: st, cfg: serveConfig{Exclude: []string{"closed.example/debian"}}}
	n.origins = &proxy.Origins{Exclude: n.cfg.Exclude}
	n.fetch = fetch.New(fetch.Config{Store: st, Log: slog.New(slog.DiscardHandler)})
	defer n.fetch.Close()
	for origin, given := range map[string]bool{
		"":                                   false, // it is lost
		"http://open.example/debian/a.deb":   true,
		"http://closed.example/debian/a.deb": false,
		"https://closed.example:8443/%64ebian//b.deb": false,
		"http://closed.example/debian-security/a.deb": true,
	} {
		d := sha256.Sum256([]byte(origin))
		g, err := st.Create(d, int64(len(origin)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Write([]byte(origin)); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Commit(store.Meta{Origin: origin, Shareable: true}); err != nil {
			t.Fatal(err)
		}
		blob, err := n.give(d)
		if err == nil {
			blob.Close()
		}
		if given != (err == nil) || !given && !errors.Is(err, fetch.ErrNotHere) {
			t.Errorf("%s: %v", origin, err)
		}
		offered := false
		for other := range n.eachShareable {
			offered = offered || other == d
		}
		if offered != given {
			t.Errorf("%s: offered: %v", origin, offered)
		}
	}
}
