// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"apt-dht/dht"
	"apt-dht/proxy"
)

// tryFor bounds the asking of the nodes to begin with; one that is there answers
// within a tenth of that.
const tryFor = 2 * time.Second

// bootstrapTry is what came of asking a node of the DHT to begin with.
type bootstrapTry struct {
	node string // HOST:PORT as configured
	err  error  // nil: it answers
}

var (
	errSelf       = errors.New("is this node itself")
	errUnresolved = errors.New("cannot be resolved")
	errPrivate    = errors.New("is no address of the internet, and --dht-private is not set")
)

func (t bootstrapTry) String() string {
	if t.err == nil {
		return t.node + " answers"
	}
	return t.node + " " + t.err.Error()
}

// mode says which DHT it is for the status.
func (c internetConfig) mode() string {
	if c.Private {
		return proxy.ModePrivate
	}
	return proxy.ModePublic
}

// first are the nodes of the DHT to begin with.
func (c internetConfig) first() []string {
	if len(c.Bootstrap) == 0 && !c.Private {
		return dht.DefaultBootstrap()
	}
	return c.Bootstrap
}

// tryBootstrap asks the nodes to begin with, all at the same time, whether they are
// there. own is where this node listens, [HOST]:PORT.
func tryBootstrap(ctx context.Context, cfg internetConfig, own string) []bootstrapTry {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	tries := make([]bootstrapTry, len(cfg.first()))
	var running sync.WaitGroup
	for i, node := range cfg.first() {
		running.Go(func() { tries[i] = bootstrapTry{node, tryOne(ctx, node, cfg.Private, own)} })
	}
	running.Wait()
	return tries
}

// tryOne returns nil if the node answers at one of its addresses, else what is
// wrong with the last one.
func tryOne(ctx context.Context, node string, private bool, own string) error {
	addrs, err := dht.Resolve(ctx, node)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnresolved, err)
	}
	errs := make([]error, len(addrs))
	var running sync.WaitGroup
	for i, addr := range addrs {
		running.Go(func() {
			switch {
			case listensAt(own, addr):
				errs[i] = errSelf
			case !dht.Allowed(addr, private):
				errs[i] = errPrivate
			default:
				errs[i] = dht.Ping(ctx, addr)
			}
		})
	}
	running.Wait()
	for _, e := range errs {
		if err = e; err == nil {
			return nil
		}
	}
	return err
}

// listensAt tells whether what is sent to addr comes to a socket of this machine at
// own, [HOST]:PORT.
func listensAt(own string, addr netip.AddrPort) bool {
	host, port, err := net.SplitHostPort(own)
	if err != nil || port != strconv.Itoa(int(addr.Port())) {
		return false
	}
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
		return ip.Unmap() == addr.Addr()
	}
	return addr.Addr().IsLoopback() || isOwnAddr(addr.Addr())
}

// tellTries lists them for people.
func tellTries(all []bootstrapTry) string {
	lines := make([]string, len(all))
	for i, t := range all {
		lines[i] = t.String()
	}
	return strings.Join(lines, "; ")
}

// answering counts those that answer.
func answering(all []bootstrapTry) int {
	n := 0
	for _, t := range all {
		if t.err == nil {
			n++
		}
	}
	return n
}

// advise says what to do when no node of the DHT is known.
func advise(cfg internetConfig, all []bootstrapTry) string {
	some := func(is func(error) bool) bool {
		return slices.ContainsFunc(all, func(t bootstrapTry) bool { return is(t.err) })
	}
	silent := some(func(err error) bool { return errors.Is(err, dht.ErrSilent) })
	switch {
	case answering(all) > 0:
		return "wait five minutes; if that does not help, does a firewall keep UDP from this node's port?"
	case len(cfg.Bootstrap) == 0:
		return "does a firewall block UDP, or is DNS or the internet away?"
	case silent && cfg.Private:
		return "does apt-dht dht-node run there, on that UDP port?"
	case silent:
		return "does apt-dht dht-node run there, on that UDP port, or does a firewall block UDP?"
	case some(func(err error) bool { return errors.Is(err, errUnresolved) }):
		return "is the name right, and does DNS work?"
	case some(func(err error) bool { return errors.Is(err, errPrivate) }):
		return "is the DHT your own? Then set --dht-private"
	}
	return "name another machine's node with --dht-bootstrap"
}
