// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"apt-dht/dht"
	"apt-dht/dht/nat"
	"apt-dht/proxy"
	"apt-dht/proxy/wan"
)

// internet is a node's part in the DHT, and what it gives to nodes on the internet
// and takes from them.
type internet struct {
	cfg     internetConfig
	sockets *sockets
	dht     *dht.Node
	wan     *wan.Node
	router  *nat.Mapper // nil: none is asked for a port
	lookout *lookout
	log     *slog.Logger

	own4, own6 ownAddress // where no router tells of them
}

// newInternet builds a node's part in the internet, at sockets that it takes over
// unless it fails. files has what wan.Config tells of the files; nodes is where
// the DHT's nodes are kept, rows where what has been announced is.
func newInternet(cfg internetConfig, open *sockets, files wan.Config, nodes string, rows dht.Rows, log *slog.Logger) (*internet, error) {
	i := &internet{cfg: cfg, sockets: open, log: log}
	var err error
	if !cfg.Private {
		if i.router, err = nat.New(nat.Config{Port: open.port, Log: log}); err != nil {
			return nil, fmt.Errorf("router: %w", err)
		}
	}
	i.dht, err = dht.New(dht.Config{
		IPv4: open.udp4, IPv6: open.udp6,
		Bootstrap: cfg.Bootstrap,
		Private:   cfg.Private,
		Reachable: i.reachable,
		NodesFile: nodes,
		Rows:      rows,
		Uncounted: []dht.Key{wan.HelpersKey},
		Log:       log,
	})
	if err != nil {
		return nil, err
	}
	i.lookout = newLookout(cfg, open.port, i.dht, log)
	files.DHT = i.dht
	files.Private = cfg.Private
	files.UploadLimit = cfg.UploadLimit
	files.IPv4, files.IPv6 = open.udp4 != nil, open.udp6 != nil
	files.External = i.external
	files.Port = open.port
	files.Version = versionString()
	files.Log = log
	i.wan, err = wan.New(files)
	return i, err
}

// reachable tells the DHT whether others can fetch from this node.
func (i *internet) reachable(is4 bool) (at netip.AddrPort, ok bool) {
	if i.wan == nil { // it is being built
		return netip.AddrPort{}, false
	}
	return i.wan.Reachable(is4)
}

// external is the address at which this node should be reached. Over IPv6 a machine
// behind a home router has one, and the router mostly lets nobody in: others have to
// find that out. Those that no router hides are the first to help them.
func (i *internet) external(is4 bool) (netip.AddrPort, bool) {
	switch {
	case i.cfg.Private:
		own := &i.own6
		if is4 {
			own = &i.own4
		}
		return own.get(time.Now(), func() (netip.AddrPort, bool) { return ownAddr(i.sockets.tcp.Addr(), i.sockets.port, is4) })
	case is4:
		return i.router.External()
	case i.router.Direct():
		return i.own6.get(time.Now(), func() (netip.AddrPort, bool) { return sourceIPv6(i.sockets.port) })
	}
	return netip.AddrPort{}, false
}

// anywhere is an address on the internet, a root name server's, to ask the kernel
// for the way to.
const anywhere = "[2001:503:ba3e::2:30]:9"

// sourceIPv6 is the public address that this machine uses on the IPv6 internet. It
// sends nothing.
func sourceIPv6(port uint16) (netip.AddrPort, bool) {
	conn, err := net.Dial("udp6", anywhere)
	if err != nil {
		return netip.AddrPort{}, false
	}
	defer conn.Close()
	at, err := netip.ParseAddrPort(conn.LocalAddr().String())
	return netip.AddrPortFrom(at.Addr(), port), err == nil && dht.IsPublic(at.Addr())
}

// ownFor is how long this machine is taken to keep its address: the kernel is not to
// be asked for every connection and question.
const ownFor = 5 * time.Second

// ownAddress is the address of this machine as it was lately.
type ownAddress struct {
	mu    sync.Mutex // guards following
	asked time.Time
	addr  netip.AddrPort
	ok    bool
}

// get returns the address at now, from ask if it was asked too long ago.
func (o *ownAddress) get(now time.Time, ask func() (netip.AddrPort, bool)) (netip.AddrPort, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.asked) >= ownFor {
		o.addr, o.ok = ask()
		o.asked = now
	}
	return o.addr, o.ok
}

// ownAddr is the address of this machine at which a socket is reached in a network
// without translation of addresses.
func ownAddr(listening net.Addr, port uint16, is4 bool) (netip.AddrPort, bool) {
	at, err := netip.ParseAddrPort(listening.String())
	if ip := at.Addr().Unmap(); err == nil && !ip.IsUnspecified() {
		return netip.AddrPortFrom(ip, port), ip.Is4() == is4
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.AddrPort{}, false
	}
	for _, addr := range addrs {
		prefix, err := netip.ParsePrefix(addr.String())
		if ip := prefix.Addr().Unmap(); err == nil && ip.IsGlobalUnicast() && ip.Is4() == is4 {
			return netip.AddrPortFrom(ip, port), true
		}
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), is4
}

// run takes part until ctx ends. What comes to the listener for files is answered
// by handler, nil for wan's own.
func (i *internet) run(ctx context.Context, handler http.Handler) error {
	i.log.Info("listening for other nodes of the DHT", "port", i.sockets.port, "private", i.cfg.Private)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return i.dht.Run(ctx) })
	group.Go(func() error { return i.lookout.run(ctx) })
	group.Go(func() error { return i.wan.Run(ctx) })
	group.Go(func() error { return i.wan.Serve(ctx, i.sockets.tcp, handler) })
	if i.router != nil {
		group.Go(func() error { return i.router.Run(ctx) })
	}
	return group.Wait()
}

// dhtStatus tells how the DHT stands.
func (i *internet) dhtStatus() proxy.DHTStatus {
	s := i.dht.Stats()
	return proxy.DHTStatus{
		Mode:      i.cfg.mode(),
		Trouble:   i.lookout.trouble(),
		Nodes:     s.GoodNodes,
		Announced: s.Announced,
		Offered:   s.Offered,
		ReadOnly:  s.ReadOnly,
		External:  append([]netip.Addr{}, s.External...),
		PacketsIn: s.PacketsIn, PacketsOut: s.PacketsOut,
		BytesIn: s.BytesIn, BytesOut: s.BytesOut,
	}
}

// routerStatus says in a sentence what the router has been asked.
func (i *internet) routerStatus() string {
	if i.router == nil {
		return "not asked: in a DHT of one's own there is no translation of addresses"
	}
	return i.router.Status()
}
