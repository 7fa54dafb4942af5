// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Config says who this node is and how it looks for others.
type Config struct {
	// ID is this node's: 16 lower-case hexadecimal digits, random at each start.
	ID string
	// Port is the TCP port on which the node answers HTTP.
	Port uint16
	// Listen holds the addresses on which the node answers; only these are
	// announced. Empty: all that the network interfaces have.
	Listen []netip.Addr
	// MDNS turns on announcing and browsing. Without it only Static peers are known.
	MDNS bool
	// Interfaces names the network interfaces for mDNS, whatever their kind.
	// Empty: every suitable one, see the package's comment.
	Interfaces []string
	// OfficeProxy tells whether the neighbours of an address of ours may use the
	// node as their apt's proxy: it is then announced as _apt_proxy._tcp too, on
	// the links and with the addresses for which that is so. Nil: they may not.
	OfficeProxy func(own netip.Addr) bool
	// Static names peers that mDNS does not reach: a host or address, with a
	// port if it is not Port. At most 64.
	Static []string
	// Probe asks the node at addr for its id, over HTTP. It must return when ctx
	// ends. Required.
	Probe func(ctx context.Context, addr netip.AddrPort) (id string, err error)
	// Log may be nil: nothing is logged.
	Log *slog.Logger
}

// LAN knows the nodes of the local network. Its methods are safe for
// concurrent use, also before and after Run.
type LAN struct {
	cfg     Config
	members *membership
	static  []*staticPeer
	links   atomic.Pointer[[]nic] // where mDNS runs
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{16}$`)

// New checks cfg. Nothing is sent before Run.
func New(cfg Config) (*LAN, error) {
	switch {
	case !idPattern.MatchString(cfg.ID):
		return nil, fmt.Errorf("discovery: node id %q is not 16 lower-case hexadecimal digits", cfg.ID)
	case cfg.Port == 0:
		return nil, errors.New("discovery: the node's port is 0")
	case cfg.Probe == nil:
		return nil, errors.New("discovery: Config.Probe is nil")
	case len(cfg.Static) > maxStatic:
		return nil, fmt.Errorf("discovery: %d static peers; at most %d are possible: name one host whose DNS name has all the addresses",
			len(cfg.Static), maxStatic)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	lan := &LAN{cfg: cfg, members: newMembership(cfg.ID, cfg.Probe, cfg.Log)}
	lan.links.Store(new([]nic))
	for _, name := range cfg.Static {
		peer, err := newStaticPeer(name, cfg.Port)
		if err != nil {
			return nil, err
		}
		lan.static = append(lan.static, peer)
	}
	return lan, nil
}

// Run announces, browses and probes until ctx ends; then it says goodbye. It is
// to be called once, when the node already answers on Config.Port, since it
// tells others so. It returns nil when ctx ended, within about a second.
func (l *LAN) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.members.run(ctx) })
	for _, peer := range l.static {
		group.Go(func() error { return peer.run(ctx, l.members) })
	}
	if l.cfg.MDNS {
		group.Go(func() error { return newSupervisor(l.cfg, l.members, &l.links).run(ctx) })
	}
	return group.Wait()
}

// Members returns the nodes that answered our own probe and have not been
// silent for a minute since, in the order of their ids and without this node.
// It neither locks nor allocates; the caller must not change the slice.
func (l *LAN) Members() []Member { return l.members.view.Load().ring }

// Alive reports whether the member id is to be asked: it is in the ring and
// has answered since the last Failed.
func (l *LAN) Alive(id string) bool {
	view := l.members.view.Load()
	_, in := view.alive[id]
	return in
}

// Changed returns a channel that is closed when Members next changes. To miss
// nothing, take the channel before asking for the members.
func (l *LAN) Changed() <-chan struct{} { return l.members.view.Load().replaced }

// Failed tells that the member id did not answer a caller. It is not Alive from
// now on, until it answers a probe: after 1 s, then 2 s and so on. After 60 s
// without an answer it leaves the ring.
func (l *LAN) Failed(id string) { l.members.failed(id) }

// OnLink reports whether addr may ask LAN questions: it is on the link of a
// network interface where mDNS runs, or a static peer's.
func (l *LAN) OnLink(addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, nic := range *l.links.Load() {
		if nic.reaches(addr) {
			return true
		}
	}
	for _, peer := range l.static {
		if peer.has(addr) {
			return true
		}
	}
	return false
}
