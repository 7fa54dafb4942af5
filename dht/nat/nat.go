// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// routeEvery is how often the kernel is asked for the default route.
const routeEvery = 5 * time.Second

// Config says what is to be mapped.
type Config struct {
	// Port is the local port, of TCP and UDP, to be reached from outside. Required.
	Port uint16
	// Log may be nil: nothing is logged.
	Log *slog.Logger
}

// Mapper keeps a port mapping. Its methods are safe for concurrent use, also
// before and after Run.
type Mapper struct {
	cfg        Config
	find       func() (route, error)
	gateways   func(r route, port uint16, lease time.Duration) []gateway
	lease      time.Duration
	checkEvery time.Duration
	state      atomic.Pointer[state] // written by one goroutine at a time
	direct     atomic.Bool
}

// state is what others are told.
type state struct {
	external netip.AddrPort // the zero AddrPort: none
	status   string
}

// New checks cfg. Nothing is sent before Run.
func New(cfg Config) (*Mapper, error) {
	if cfg.Port == 0 {
		return nil, errors.New("nat: the port to map is 0")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &Mapper{cfg: cfg, find: findRoute, gateways: gateways, lease: leaseTime, checkEvery: checkEvery}
	m.state.Store(&state{status: "no router has been asked yet"})
	return m, nil
}

// Run keeps the port mapped until ctx ends; then it removes the mapping, for
// which it takes at most 3 s. It is to be called once. It returns nil.
func (m *Mapper) Run(ctx context.Context) error {
	defer m.tell(netip.AddrPort{}, "the port is not mapped any more")
	for ctx.Err() == nil {
		r, err := m.find()
		if err != nil {
			m.tell(netip.AddrPort{}, err.Error())
			pause(ctx, routeEvery)
			continue
		}
		m.attend(ctx, r)
	}
	return nil
}

// External returns the public address and port at which the local port can be
// reached as far as the router tells, or that of this machine itself if it is
// public; false if there is none. It neither locks nor allocates.
func (m *Mapper) External() (netip.AddrPort, bool) {
	external := m.state.Load().external
	return external, external.IsValid()
}

// Direct reports whether no router hides this machine from the internet, as far as
// IPv4 tells: its own address there is public, or it has none. Who is behind a router
// that translates IPv4 is mostly behind the same one's firewall for IPv6.
func (m *Mapper) Direct() bool { return m.direct.Load() }

// Status says in a sentence for people what is the case and, if the port is
// not mapped, what they can do. It has no full stop.
func (m *Mapper) Status() string { return m.state.Load().status }

// tell replaces what others see.
func (m *Mapper) tell(external netip.AddrPort, status string) {
	last := m.state.Load()
	m.state.Store(&state{external: external, status: status})
	if status != last.status {
		m.cfg.Log.Info("Port mapping", slog.Int("port", int(m.cfg.Port)),
			slog.Bool("mapped", external.IsValid()), slog.String("status", status))
	}
}

// attend does what r asks for, until the route is another or ctx ends.
func (m *Mapper) attend(ctx context.Context, r route) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		m.awaitOther(ctx, r)
		cancel()
	})
	m.direct.Store(r == route{} || isPublic(r.local))
	if obstacle := r.obstacle(); obstacle != "" {
		m.tell(m.own(r), obstacle)
		<-ctx.Done()
		return
	}
	m.tell(netip.AddrPort{}, fmt.Sprintf("asking the router at %s for a port", r.gateway))
	newSession(m, r).run(ctx)
}

// own is where this machine can be reached without a router's help.
func (m *Mapper) own(r route) netip.AddrPort {
	if !isPublic(r.local) {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(r.local, m.cfg.Port)
}

// awaitOther returns when the route is not r any more, or ctx ends.
func (m *Mapper) awaitOther(ctx context.Context, r route) {
	for pause(ctx, routeEvery) {
		if now, err := m.find(); err == nil && now != r {
			return
		}
	}
}

// pause reports false if ctx ended before d was over.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
