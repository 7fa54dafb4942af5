// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"apt-dht/dht"
)

type dhtNodeCmd struct {
	configFlag
	dhtSettings
	placeSettings
	logSettings
}

// Help is printed by kong after the flags' summary.
func (dhtNodeCmd) Help() string {
	return `It knows nodes and tells others of them, so that those who name it with --dht-bootstrap find each
other. It has no store, gives no files and does nothing for apt; UDP is all that it needs.

A company that keeps its sharing to itself runs two or three of these with --dht-private, and names
them on all its nodes.`
}

// dhtNodeMemory makes the collector work harder before the process takes more than
// a small machine notices, in bytes.
const dhtNodeMemory = 16 << 20

// Run is a node of the DHT alone, until ctx ends.
func (c *dhtNodeCmd) Run(ctx context.Context, io *streams) error {
	cfg, err := c.dhtSettings.config()
	if err != nil {
		return err
	}
	dir, err := c.placeSettings.config()
	if err != nil {
		return err
	}
	log := c.logger(io.err)
	slog.SetDefault(log) // for libraries that log by themselves
	debug.SetMemoryLimit(dhtNodeMemory)
	return bootstrapNode(ctx, cfg, dir, log)
}

// bootstrapNode answers others in the DHT. It is taken to be reached from outside,
// which is what it is for.
func bootstrapNode(ctx context.Context, cfg internetConfig, dir string, log *slog.Logger) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("data-dir: %w", err)
	}
	if err := becomeOwner(dir); err != nil { // who answers strangers needs no rights
		return err
	}
	open, err := openSockets(ctx, cfg.Listen, false)
	if err != nil {
		return err
	}
	defer open.close() // if Run has not
	node, err := dht.New(dht.Config{
		IPv4: open.udp4, IPv6: open.udp6,
		Bootstrap: cfg.Bootstrap,
		Private:   cfg.Private,
		Reachable: func(bool) (netip.AddrPort, bool) { return netip.AddrPortFrom(netip.Addr{}, open.port), true },
		NodesFile: filepath.Join(dir, "bootstrap-nodes"), // not serve's, which may run here too
		Log:       log,
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return node.Run(ctx) })
	group.Go(func() error { return newLookout(cfg, open.port, node, log).run(ctx) })
	group.Go(func() error { return watchOutside(ctx, node, open.port, log) })
	log.Info("ready: other nodes join the DHT with this flag", "flag", "--dht-bootstrap "+joinAt(cfg.Listen, open), "private", cfg.Private)
	notify(log, ready)
	err = group.Wait()
	notify(log, stopping)
	s := node.Stats()
	log.Info("stopped", "nodes", s.GoodNodes, "packets_in", s.PacketsIn, "packets_out", s.PacketsOut)
	return err
}

// joinAt is the address that others are to name: as the operator wrote it, else
// one of this machine's.
func joinAt(listen string, open *sockets) string {
	port := strconv.Itoa(int(open.port))
	host, _, _ := net.SplitHostPort(listen)
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
		return net.JoinHostPort(host, port)
	}
	listening := cmp.Or(open.udp4, open.udp6).LocalAddr()
	at, ok := ownAddr(listening, open.port, true)
	if at6, ok6 := ownAddr(listening, open.port, false); ok6 && (!ok || at.Addr().IsLoopback()) {
		at, ok = at6, true
	}
	if !ok {
		return net.JoinHostPort("HOST", port)
	}
	return at.String()
}

// outsideEvery is how often a change of the outside address is looked for.
const outsideEvery = 30 * time.Second

// watchOutside tells the operator at which addresses others see this node, which
// behind a router is not what this machine knows.
func watchOutside(ctx context.Context, node *dht.Node, port uint16, log *slog.Logger) error {
	ticker := time.NewTicker(outsideEvery)
	defer ticker.Stop()
	var known []netip.Addr
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		s := node.Stats()
		notify(log, statusLine(fmt.Sprintf("%d nodes known", s.GoodNodes)))
		log.Debug("the DHT", "nodes", s.GoodNodes, "announces", s.Peers, "packets_in", s.PacketsIn, "packets_out", s.PacketsOut)
		if len(s.External) > 0 && !slices.Equal(known, s.External) {
			known = slices.Clone(s.External)
			log.Info("other nodes see this one at these addresses", "addrs", known, "port", port)
		}
	}
}
