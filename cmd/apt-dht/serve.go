// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"apt-dht/discovery"
	"apt-dht/index"
	"apt-dht/index/trust"
	"apt-dht/proxy"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/fetch/mirror"
	"apt-dht/proxy/lan"
	"apt-dht/store"
)

const (
	// gcPercent spares work while the heap is small, as it is: catalogues and
	// files are outside it.
	gcPercent = 300

	// memoryGoal makes the collector work harder before the process grows past
	// what it may take, in bytes.
	memoryGoal = 40 << 20
)

// node is what serve runs, in the order in which it is built.
type node struct {
	cfg      serveConfig
	id       string // random at each start: cloned disks must not be one node
	log      *slog.Logger
	store    *store.Store
	trust    atomic.Pointer[trust.Trust]
	index    *index.Index
	members  *discovery.LAN // nil: no part in a LAN
	lan      *lan.Node      // nil: no part in a LAN
	internet *internet      // nil: no part in the DHT
	origins  *proxy.Origins // set with internet
	mirror   *mirror.Client
	fetch    *fetch.Fetcher
	server   *proxy.Server
}

// serve runs a node until ctx ends.
func serve(ctx context.Context, cfg serveConfig, log *slog.Logger) error {
	slog.SetDefault(log) // for libraries that log by themselves
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryGoal)
	open, err := listeners(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	n, err := newNode(ctx, cfg, open, log)
	if err != nil {
		closeAll(open)
		return err
	}
	defer func() {
		n.close()
		log.Info("stopped")
	}()
	return n.run(ctx, open)
}

// newNode builds the parts of a node that will answer at open; close undoes it.
func newNode(ctx context.Context, cfg serveConfig, open []net.Listener, log *slog.Logger) (*node, error) {
	n := &node{cfg: cfg, id: newID(), log: log}
	if err := n.build(ctx, open); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// newID returns 16 random hexadecimal digits.
func newID() string {
	var id [8]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

func (n *node) build(ctx context.Context, open []net.Listener) (err error) {
	cfg, log := n.cfg, n.log
	n.store, err = store.Open(store.Config{
		Dir:   cfg.DataDir,
		Quota: cfg.Quota,
		InUse: n.inUse,
		Gone: func(d store.Digest) {
			if n.lan != nil {
				n.lan.Gone(d)
			}
			if n.internet != nil {
				n.internet.wan.Gone(d)
			}
		},
		Log: log,
	})
	if err != nil {
		return err
	}
	apt, err := trust.Load(trust.Config{EtcDir: cfg.AptEtc, Log: log})
	if err != nil {
		return err
	}
	n.trust.Store(apt)
	n.index, err = index.Open(index.Config{
		Dir:      filepath.Join(cfg.DataDir, "index"),
		ListsDir: cfg.AptLists,
		Trust:    apt,
		Log:      log,
	})
	if err != nil {
		return err
	}
	if err := n.joinLAN(open); err != nil {
		return err
	}
	if err := n.joinInternet(ctx); err != nil {
		return err
	}
	n.connect()
	return nil
}

// connect builds what talks to the network.
func (n *node) connect() {
	egress := &proxy.Egress{
		Hosts:     n.cfg.OriginHosts,
		Nets:      n.cfg.OriginNets,
		InSources: func(host string) bool { return n.trust.Load().HasHost(host) },
		Upstream:  n.cfg.Proxy,
	}
	n.mirror = mirror.New(mirror.Config{
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return egress.Dial(ctx, mirror.Realm(ctx), network, addr)
		},
		Proxy: egress.Proxy,
	})
	conf := fetch.Config{
		Store:    n.store,
		Upstream: n.mirror,
		Stored:   func(w fetch.Want, d fetch.Digest, h fetch.Head) { n.server.Stored(w, d, h) },
		Log:      n.log,
	}
	if n.lan != nil {
		conf.LAN = n.lan
	}
	if n.internet != nil {
		conf.WAN = n.internet.wan
	}
	n.fetch = fetch.New(conf)
	if n.lan != nil {
		n.lan.Share(n.fetch)
	}
	n.server = proxy.New(proxy.Config{
		NodeID:   n.id,
		LAN:      n.lan,
		Internet: n.sharing(),
		Store:    n.store,
		Index:    n.index,
		Fetch:    n.fetch,
		Egress:   egress,
		Allows:   n.cfg.Clients.Allows,
		Version:  versionString(),
		Log:      n.log,
	})
}

// inUse yields what the index names; the store asks before it evicts.
func (n *node) inUse(yield func(store.Digest) bool) {
	if n.index != nil {
		n.index.InUse(yield)
	}
}

// run serves until ctx ends or a part fails.
func (n *node) run(ctx context.Context, open []net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.store.Run(ctx) })
	group.Go(func() error { return n.index.Run(ctx) })
	group.Go(func() error { return n.followSources(ctx) })
	group.Go(func() error { return n.server.Run(ctx, open) })
	if n.lan != nil {
		group.Go(func() error { return n.lan.Run(ctx) })
		group.Go(func() error { return n.members.Run(ctx) })
	}
	if n.internet != nil {
		group.Go(func() error { return n.internet.run(ctx, n.server.WAN()) })
	}
	if n.cfg.Import != "" {
		group.Go(func() error { return n.importArchives(ctx) })
	}
	for _, l := range open {
		n.log.Info("listening", "addr", l.Addr().String(), "data_dir", n.cfg.DataDir, "clients", n.cfg.Clients)
	}
	notify(n.log, daemon.SdNotifyReady)
	debug.FreeOSMemory() // what was needed to begin; from then on the runtime collects every two minutes
	err := group.Wait()
	notify(n.log, daemon.SdNotifyStopping)
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// close ends the parts in the reverse order of their making. What it cannot
// save is logged: the process is ending.
func (n *node) close() {
	if n.internet != nil {
		n.internet.sockets.close() // if run has not
	}
	if n.fetch != nil {
		n.fetch.Close()
		n.mirror.Close()
	}
	if n.store != nil {
		if err := n.store.Close(); err != nil {
			n.log.Error("closing the store", "err", err)
		}
	}
}

// importArchives takes apt's own packages into the store, those that an index
// names. It is no reason to stop when that fails.
func (n *node) importArchives(ctx context.Context) error {
	named := map[store.Digest]bool{}
	for d := range n.index.InUse {
		named[d] = true
	}
	count, err := n.store.Import(ctx, n.cfg.Import, func(d store.Digest, _ int64) bool { return named[d] })
	if err != nil && ctx.Err() == nil {
		n.log.Warn("packages were not imported", "dir", n.cfg.Import, "err", err)
	}
	if count > 0 {
		n.log.Info("packages imported", "dir", n.cfg.Import, "count", count)
	}
	return nil
}

// verifyStore reads every stored file again.
func verifyStore(ctx context.Context, cfg storeConfig, log *slog.Logger, out io.Writer) error {
	st, err := store.Open(store.Config{Dir: cfg.DataDir, Quota: cfg.Quota, Log: log})
	if err != nil {
		return err
	}
	defer st.Close()
	good, bad := 0, 0
	err = st.Verify(ctx, func(d store.Digest, err error) {
		if err == nil {
			good++
			return
		}
		bad++
		fmt.Fprintf(out, "%x is wrong and has been dropped\n", d)
	})
	fmt.Fprintf(out, "files that are right: %d; dropped: %d\n", good, bad)
	return err
}

// gcStore makes the store fit its quota.
func gcStore(ctx context.Context, cfg storeConfig, log *slog.Logger, out io.Writer) error {
	st, err := store.Open(store.Config{Dir: cfg.DataDir, Quota: cfg.Quota, Log: log})
	if err != nil {
		return err
	}
	defer st.Close()
	removed, freed, err := st.GC(ctx)
	if err != nil {
		return err
	}
	blobs, bytes, quota := st.Usage()
	fmt.Fprintf(out, "files removed: %d, %s; files left: %d, %s of %s\n", removed, humanBytes(freed), blobs, humanBytes(bytes), humanBytes(quota))
	return nil
}
