// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	// scanAgain is how often the network interfaces are looked at.
	scanAgain = 2 * time.Second

	// sleptFor is the gap between two looks, by the wall clock or the monotonic
	// one, that means that this machine or process was suspended, or the clock
	// set: whatever the others think of us has run out.
	sleptFor = 10 * time.Second

	// avahiRest is how long an Avahi that refused our records is left alone.
	avahiRest = 10 * time.Minute
)

// supervisor keeps a link open on each suitable interface, and has Avahi or the
// links announce this node.
type supervisor struct {
	cfg     Config
	members *membership
	current *atomic.Pointer[[]nic] // told to LAN.OnLink
	log     *slog.Logger

	links      map[int]*link // by interface index
	failed     map[string]bool
	foreign    sync.Once
	avahi      *avahi // nil: no system bus
	avahiRuns  bool
	avahiAgain time.Time
	lastScan   time.Time
}

func newSupervisor(cfg Config, members *membership, current *atomic.Pointer[[]nic]) *supervisor {
	return &supervisor{
		cfg: cfg, members: members, current: current, log: cfg.Log,
		links: make(map[int]*link), failed: make(map[string]bool), lastScan: time.Now(),
	}
}

// run follows the interfaces and Avahi until ctx ends.
func (s *supervisor) run(ctx context.Context) error {
	defer s.stop()
	s.tellMissing()
	tick := time.NewTicker(scanAgain)
	defer tick.Stop()
	for {
		s.scan(ctx)
		s.findAvahi(ctx)
		s.announce(ctx)
		select {
		case <-ctx.Done():
			return nil
		case event, open := <-s.avahiEvents():
			s.avahiSaid(event, open)
		case <-tick.C:
		}
	}
}

// tellMissing warns of interfaces that the configuration names, and that are not
// there now: they may come, or be misspelt.
func (s *supervisor) tellMissing() {
	for _, name := range s.cfg.Interfaces {
		if _, err := net.InterfaceByName(name); err != nil {
			s.log.Warn("there is no such network interface at present; mDNS waits for it", "interface", name)
		}
	}
}

// stop says goodbye everywhere.
func (s *supervisor) stop() {
	if s.avahi != nil {
		s.avahi.close()
	}
	var closing sync.WaitGroup
	for _, l := range s.links {
		closing.Go(func() { l.close(true) })
	}
	closing.Wait()
	s.current.Store(new([]nic))
}

// scan opens and closes links as interfaces and their addresses come and go.
func (s *supervisor) scan(ctx context.Context) {
	now := time.Now()
	slept := slept(now.Round(0).Sub(s.lastScan.Round(0)), now.Sub(s.lastScan))
	s.lastScan = now
	nics, err := scanNICs(s.cfg.Interfaces)
	if err != nil {
		s.log.Warn("the network interfaces cannot be listed", "error", err)
		return
	}
	changed := s.closeStale(ctx, nics, slept)
	for _, n := range nics {
		if s.links[n.Index] == nil && s.open(ctx, n) {
			changed = true
		}
	}
	if changed {
		s.publishNICs()
		s.members.recheck()
	}
}

// slept reports whether the time since the last look tells of a suspension.
// The monotonic clock stands still while the machine is suspended, and runs
// while the process is stopped.
func slept(wall, monotonic time.Duration) bool {
	return (wall-monotonic).Abs() >= sleptFor || monotonic >= scanAgain+sleptFor
}

// closeStale closes the links whose interface is not among nics as it was, or
// all of them.
func (s *supervisor) closeStale(ctx context.Context, nics []nic, all bool) (closed bool) {
	for index, l := range s.links {
		if !all && l.isOneOf(nics) {
			continue
		}
		s.withdraw(ctx, index)
		l.close(!all)
		delete(s.links, index)
		closed = true
	}
	return closed
}

func (l *link) isOneOf(nics []nic) bool {
	for _, n := range nics {
		if l.nic.equal(n) {
			return true
		}
	}
	return false
}

// open logs a failure once; the next scan tries again.
func (s *supervisor) open(ctx context.Context, n nic) bool {
	l, err := openLink(ctx, s.cfg, n, s.members, &s.foreign)
	if err != nil {
		if !s.failed[n.Name] {
			s.log.Warn("mDNS does not work on an interface", "interface", n.Name, "error", err)
		}
		s.failed[n.Name] = true
		return false
	}
	delete(s.failed, n.Name)
	s.links[n.Index] = l
	return true
}

func (s *supervisor) publishNICs() {
	nics := make([]nic, 0, len(s.links))
	for _, l := range s.links {
		nics = append(nics, l.nic)
	}
	s.current.Store(&nics)
}

// findAvahi connects to the system bus, and there looks for an Avahi.
func (s *supervisor) findAvahi(ctx context.Context) {
	if s.avahi != nil || ctx.Err() != nil {
		return
	}
	a, err := dialAvahi()
	if err != nil {
		s.log.Debug("there is no Avahi to announce through", "error", err)
		return
	}
	s.avahi, s.avahiRuns = a, a.runs(ctx)
}

// avahiEvents never delivers while there is no system bus.
func (s *supervisor) avahiEvents() <-chan *dbus.Signal {
	if s.avahi == nil {
		return nil
	}
	return s.avahi.events
}

// avahiSaid acts on what came from the system bus, nothing where it is closed.
func (s *supervisor) avahiSaid(event *dbus.Signal, open bool) {
	if !open || event.Name == ownerChanged {
		s.avahiChanged(open)
	}
}

// avahiChanged acts on an avahi-daemon that came or went, or, with the bus no
// longer open, on the loss of the connection.
func (s *supervisor) avahiChanged(open bool) {
	s.avahiAgain = time.Time{}
	if !open {
		s.avahi.close()
		s.avahi, s.avahiRuns = nil, false
		return
	}
	s.avahi.forget()
	s.avahiRuns = s.avahi.runs(context.Background())
}

// announce has Avahi speak for each link, or the link itself where Avahi
// cannot.
func (s *supervisor) announce(ctx context.Context) {
	byAvahi := s.avahi != nil && s.avahiRuns && !time.Now().Before(s.avahiAgain)
	for index, l := range s.links {
		if !byAvahi {
			s.withdraw(ctx, index)
			l.speak()
			continue
		}
		if err := s.avahi.publish(ctx, index, l.zone.all()); err != nil && ctx.Err() == nil {
			s.log.Warn("Avahi does not announce this node, so it does so itself", "interface", l.nic.Name, "error", err)
			s.avahiAgain = time.Now().Add(avahiRest)
			l.speak()
			continue
		}
		l.hush()
	}
}

func (s *supervisor) withdraw(ctx context.Context, index int) {
	if s.avahi != nil {
		s.avahi.withdraw(ctx, index)
	}
}
