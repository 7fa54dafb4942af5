// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"iter"
	"path/filepath"
	"syscall"
	"time"

	"apt-dht/dht"
	"apt-dht/proxy"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/wan"
	"apt-dht/store"
)

// joinInternet builds the node's part in the DHT. Where the default port is taken,
// the node does without: apt is what matters.
func (n *node) joinInternet(ctx context.Context) error {
	cfg := n.cfg.Internet
	if !n.cfg.DHT {
		return nil
	}
	if cfg.Private && len(cfg.Bootstrap) == 0 {
		n.log.Warn("this node begins a DHT of its own: others join by naming it with --dht-bootstrap, and after a restart it waits for them")
	}
	n.origins = &proxy.Origins{Public: cfg.isPublic, AnyName: cfg.Private, Exclude: n.cfg.Exclude}
	open, err := openSockets(ctx, cfg.Listen, true)
	if cfg.Listen == "" && errors.Is(err, syscall.EADDRINUSE) {
		n.log.Warn("no files are fetched from nodes of the DHT", "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	n.internet, err = newInternet(cfg, open, wan.Config{
		Open:          n.give,
		Pieces:        n.store.Pieces,
		EachShareable: n.eachShareable,
	}, filepath.Join(n.cfg.DataDir, "dht-nodes"), announceRows{n.store}, n.log)
	if err != nil {
		open.close()
	}
	return err
}

// sharing is what the server knows of the internet. Nil: it takes no part.
func (n *node) sharing() *proxy.Internet {
	if n.internet == nil {
		return nil
	}
	return &proxy.Internet{
		WAN:     n.internet.wan,
		DHT:     n.internet.dhtStatus,
		Router:  n.internet.routerStatus,
		Origins: n.origins,
	}
}

// eachShareable yields what may be given to the world, as the operator wants it now.
func (n *node) eachShareable(yield func(d store.Digest, added time.Time) bool) {
	for d, m := range n.store.EachShareable {
		if !n.origins.Excluded(m.Origin) && !yield(d, m.Added) {
			return
		}
	}
}

// give opens a file for another node. What has been excluded since it was stored is
// not given any more.
func (n *node) give(d store.Digest) (*fetch.Shared, error) {
	if len(n.cfg.Exclude) > 0 && n.store.Shareable(d) {
		if m, err := n.store.Meta(d); err != nil || n.origins.Excluded(m.Origin) {
			return nil, fetch.ErrNotHere
		}
	}
	return n.fetch.OpenPublic(d)
}

// announceRows keeps what has been announced in the store's database.
type announceRows struct{ store *store.Store }

// Announced implements dht.Rows.
func (r announceRows) Announced() iter.Seq2[dht.Key, dht.Row] {
	return func(yield func(dht.Key, dht.Row) bool) {
		r.store.EachDHTRow(func(key [20]byte, value []byte) bool {
			var row dht.Row
			return row.UnmarshalBinary(value) != nil || yield(key, row)
		})
	}
}

// PutAnnounced implements dht.Rows.
func (r announceRows) PutAnnounced(key dht.Key, row dht.Row) error {
	value, err := row.MarshalBinary()
	if err != nil {
		return err
	}
	return r.store.PutDHTRow(key, value, time.Now().Add(dht.RowLasts))
}

// DropAnnounced implements dht.Rows.
func (r announceRows) DropAnnounced(key dht.Key) error { return r.store.DropDHTRow(key) }
