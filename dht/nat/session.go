// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

const (
	// leaseTime is what is asked for. A machine that vanishes leaves its mapping
	// behind for so long.
	leaseTime = time.Hour

	// minLease bounds how often a router can have us renew.
	minLease = 20 * time.Second

	// checkEvery is how long a router's restart or a new external address can
	// go unnoticed.
	checkEvery = 3 * time.Minute

	// A check that fails is repeated, because a router that restarts is silent
	// for a minute and keeps its mappings in some cases.
	checkAgain = 15 * time.Second
	checkTries = 3

	// Pauses after a router that opened no port: it may be starting, or its
	// owner may be about to allow it; later only the latter.
	firstPause = 30 * time.Second
	lastPause  = 15 * time.Minute

	openWithin   = 30 * time.Second
	checkWithin  = 20 * time.Second
	removeWithin = 3 * time.Second

	// portTries bounds the external ports that are asked for in turn.
	portTries = 6

	// minPort is the first external port that other nodes connect to.
	minPort = 1024

	// firstDynamic begins the ports that nobody is assigned (RFC 6335 §6).
	firstDynamic = 49152
)

// transport is what a mapping is for.
type transport string

const (
	tcp transport = "TCP"
	udp transport = "UDP"
)

// gateway is one protocol spoken with the router, about one local port. It is
// used by one goroutine at a time; its methods return soon after ctx has ended.
type gateway interface {
	// external returns the router's address on its other side. It is called
	// before all others. errSilent: the router does not speak the protocol.
	external(ctx context.Context) (netip.Addr, error)
	// add makes or renews the mapping of an external port and returns the one
	// that the router chose, with the lease's length. errConflict: the port is
	// somebody else's.
	add(ctx context.Context, t transport, port uint16) (uint16, time.Duration, error)
	// lost reports whether the router has forgotten the port's mappings.
	lost(ctx context.Context, port uint16) (bool, error)
	// remove ends a mapping if it is ours; that there is none is no error.
	remove(ctx context.Context, t transport, port uint16) error
	// String is the protocol's name, for people.
	String() string
}

var (
	errSilent   = errors.New("no answer")
	errConflict = errors.New("the external port is taken")
)

// uselessError is that of a router whose external address is not public.
type uselessError struct{ addr netip.Addr }

func (e *uselessError) Error() string {
	return fmt.Sprintf("external address %s is not public", e.addr)
}

// gateways returns the protocols to try, all at the same time.
func gateways(r route, port uint16, lease time.Duration) []gateway {
	return []gateway{newPMP(r, port, lease), newIGD(r, port, lease)}
}

// session keeps the port mapped at one router.
type session struct {
	m     *Mapper
	route route
	port  uint16 // the external port to ask for first
	// others are to be asked for after it: the same ones after each start of
	// the program, so that peers find it again.
	others *rand.Rand
}

// mapping is what the router granted.
type mapping struct {
	gateway  gateway
	external netip.Addr
	port     uint16    // external
	renewAt  time.Time // half the lease
	stale    bool      // to be made anew
}

func newSession(m *Mapper, r route) *session {
	seed := binary.BigEndian.Uint32(r.local.AsSlice())
	return &session{m: m, route: r, port: m.cfg.Port, others: rand.New(rand.NewPCG(uint64(seed), uint64(m.cfg.Port)))}
}

// run returns when ctx has ended and the mapping is removed.
func (s *session) run(ctx context.Context) {
	for wait := firstPause; ctx.Err() == nil; wait = min(2*wait, lastPause) {
		held, err := s.open(ctx)
		if err == nil {
			wait = firstPause
			err = s.hold(ctx, held)
		}
		if ctx.Err() != nil {
			return
		}
		s.m.tell(netip.AddrPort{}, s.advice(err))
		pause(ctx, wait)
	}
}

// open has the router map the port by the first protocol that works.
func (s *session) open(ctx context.Context) (*mapping, error) {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	all := s.m.gateways(s.route, s.m.cfg.Port, s.m.lease)
	answers := make(chan answer, len(all))
	for i, g := range all {
		asking.Go(func() {
			external, err := publicAddress(ctx, g)
			answers <- answer{i, external, err}
		})
	}
	failed := make([]error, len(all))
	for range all {
		a := <-answers
		if a.err == nil {
			held := &mapping{gateway: all[a.i], external: a.external, port: s.port}
			if a.err = s.mapPort(ctx, held); a.err == nil {
				return held, nil
			}
			s.remove(context.WithoutCancel(ctx), held) // what may have been made of it
		}
		failed[a.i] = fmt.Errorf("%s: %w", all[a.i], a.err)
	}
	return nil, errors.Join(failed...)
}

// answer is the i-th gateway's.
type answer struct {
	i        int
	external netip.Addr
	err      error
}

func publicAddress(ctx context.Context, g gateway) (netip.Addr, error) {
	addr, err := g.external(ctx)
	if err == nil && !isPublic(addr) {
		return netip.Addr{}, &uselessError{addr}
	}
	return addr, err
}

// hold looks after the mapping until ctx ends or the mapping is lost, and then
// removes it.
func (s *session) hold(ctx context.Context, held *mapping) error {
	defer s.remove(context.WithoutCancel(ctx), held)
	defer s.m.tell(netip.AddrPort{}, fmt.Sprintf("removing the mapping at the router at %s", s.route.gateway))
	s.tell(held)
	failures := 0
	for wait := s.untilCheck(held); pause(ctx, wait); {
		err := s.check(ctx, held)
		if err == nil {
			s.tell(held)
			failures, wait = 0, s.untilCheck(held)
			continue
		}
		failures++
		wait = checkAgain
		if _, useless := errors.AsType[*uselessError](err); useless || failures == checkTries {
			return fmt.Errorf("%s: %w", held.gateway, err)
		}
	}
	return nil
}

// check asks the router for its address and makes the mapping anew where that
// is due.
func (s *session) check(ctx context.Context, held *mapping) error {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	external, err := publicAddress(ctx, held.gateway)
	if err != nil {
		return err
	}
	held.external = external
	lost, err := held.gateway.lost(ctx, held.port)
	if err != nil {
		return err
	}
	held.stale = held.stale || lost
	if held.stale || held.due() {
		return s.mapPort(ctx, held)
	}
	return nil
}

// mapPort makes or renews the mappings of held.port or, if that is taken, of
// another port, which it leaves in held.port even when it fails.
func (s *session) mapPort(ctx context.Context, held *mapping) error {
	for range portTries {
		lease, err := mapPair(ctx, held)
		if err == nil {
			held.stale = false
			held.renewAt = time.Now().Add(min(max(lease, minLease), s.m.lease) / 2)
			s.port = held.port
			return nil
		}
		if !errors.Is(err, errConflict) {
			return err
		}
		s.remove(ctx, held) // a port for one transport is of no use
		if err := ctx.Err(); err != nil {
			return err
		}
		held.port = firstDynamic + uint16(s.others.UintN(1<<16-firstDynamic))
	}
	return errConflict
}

// mapPair maps one external port for both transports.
func mapPair(ctx context.Context, held *mapping) (lease time.Duration, err error) {
	g := held.gateway
	port, leaseTCP, err := g.add(ctx, tcp, held.port)
	if err != nil {
		return 0, err
	}
	held.port = port
	port, leaseUDP, err := g.add(ctx, udp, held.port)
	if err != nil {
		return 0, err
	}
	if port != held.port || port < minPort {
		return 0, errConflict
	}
	return min(leaseTCP, leaseUDP), nil
}

// remove takes back what was mapped, within removeWithin.
func (s *session) remove(ctx context.Context, held *mapping) {
	ctx, cancel := context.WithTimeout(ctx, removeWithin)
	defer cancel()
	for _, t := range []transport{tcp, udp} {
		if err := held.gateway.remove(ctx, t, held.port); err != nil {
			s.m.cfg.Log.Debug("A port mapping could not be removed", slog.String("transport", string(t)),
				slog.Int("port", int(held.port)), slog.Any("err", err))
		}
	}
}

func (s *session) untilCheck(held *mapping) time.Duration {
	return min(s.m.checkEvery, max(time.Until(held.renewAt), 0))
}

// due reports whether half the lease is over, by the clock that counts while the
// machine sleeps or by the one that nobody can set.
func (h *mapping) due() bool {
	now := time.Now()
	return !now.Before(h.renewAt) || !now.Round(0).Before(h.renewAt.Round(0))
}
