// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"apt-dht/discovery"
	"apt-dht/proxy/lan"
	"apt-dht/store"
)

// joinLAN builds what finds, asks and answers the other nodes. A node that only
// listens on loopback has no part in the LAN: nobody could ask it.
func (n *node) joinLAN(open []net.Listener) (err error) {
	at, ok := reachable(open)
	if !ok || !n.cfg.LAN.MDNS && len(n.cfg.LAN.Peers) == 0 {
		return nil
	}
	conf := discovery.Config{
		ID:         n.id,
		Port:       at.port,
		Listen:     at.addrs,
		MDNS:       n.cfg.LAN.MDNS,
		Interfaces: n.cfg.LAN.Interfaces,
		Static:     n.cfg.LAN.Peers,
		Probe: func(ctx context.Context, addr netip.AddrPort) (string, error) {
			return n.lan.Probe(ctx, addr)
		},
		Log: n.log,
	}
	if n.cfg.LAN.OfficeProxy {
		conf.OfficeProxy = n.cfg.Clients.Allows
	}
	if n.members, err = discovery.New(conf); err != nil {
		return fmt.Errorf("local network: %w", err)
	}
	n.lan, err = lan.New(lan.Config{
		ID:        n.id,
		Port:      at.port,
		Version:   versionString(),
		Members:   n.members,
		Rows:      holderRows{n.store},
		Has:       func(d store.Digest) bool { _, ok := n.store.Stat(d); return ok },
		EachBlob:  n.store.EachBlob,
		Announced: n.store.Announced,
		Pieces:    n.store.Pieces,
		Root:      func(name string) ([]byte, bool) { return n.server.RootFor(name) },
		Log:       n.log,
	})
	return err
}

// place is where others reach a node: a port, and the addresses, none standing
// for all.
type place struct {
	port  uint16
	addrs []netip.Addr
}

// reachable says where other machines reach the listeners. Those with another
// port than the first one are for apt alone.
func reachable(open []net.Listener) (at place, ok bool) {
	all := false
	for _, l := range open {
		addr, err := netip.ParseAddrPort(l.Addr().String())
		if err != nil || addr.Addr().IsLoopback() || ok && addr.Port() != at.port {
			continue
		}
		at.port, ok = addr.Port(), true
		all = all || addr.Addr().IsUnspecified()
		at.addrs = append(at.addrs, addr.Addr().Unmap().WithZone(""))
	}
	if all {
		at.addrs = nil
	}
	return at, ok
}

// holderRows keeps what other nodes told of their blobs in the store's database.
type holderRows struct{ store *store.Store }

// Put implements discovery.Rows.
func (r holderRows) Put(rows []discovery.Row) error { return r.store.PutHolders(holdersOf(rows)) }

// Delete implements discovery.Rows.
func (r holderRows) Delete(rows []discovery.Row) error { return r.store.DeleteHolders(holdersOf(rows)) }

// Each implements discovery.Rows.
func (r holderRows) Each(yield func(discovery.Row) bool) error {
	r.store.EachHolder(func(h store.Holder) bool {
		return yield(discovery.Row{Digest: h.Digest, Holder: discovery.Member{ID: h.ID, Addr: h.Addr}, At: h.At})
	})
	return nil
}

func holdersOf(rows []discovery.Row) []store.Holder {
	holders := make([]store.Holder, len(rows))
	for i, r := range rows {
		holders[i] = store.Holder{Digest: r.Digest, ID: r.Holder.ID, Addr: r.Holder.Addr, At: r.At}
	}
	return holders
}
