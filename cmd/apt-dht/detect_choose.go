// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"apt-dht/discovery"
)

// maxTries bounds the proxies that are asked for a URL.
const maxTries = 3

// waits are how long a detector waits for each that it needs an answer from.
type waits struct {
	own     time.Duration // this machine's node: a dead one is noticed at once, a busy one is worth it
	near    time.Duration // a proxy on the LAN
	refusal time.Duration // a proxy's no to a URL: by its rules that comes at once, what takes longer is the mirror
	search  time.Duration // the first that names a proxy
	settle  time.Duration // further names and answers after the first
}

// usualWaits fit into detectBudget, if not all at the worst.
func usualWaits() waits {
	return waits{
		own:     80 * time.Millisecond,
		near:    40 * time.Millisecond,
		refusal: 60 * time.Millisecond,
		search:  70 * time.Millisecond,
		settle:  15 * time.Millisecond,
	}
}

// surroundings are this machine's local networks, as [discovery.Links] are.
type surroundings interface {
	FindProxies(ctx context.Context, found func(netip.AddrPort))
	Near(netip.Addr) bool
	String() string
}

// detector finds the proxy for a URL.
type detector struct {
	own   []string     // where this machine's node would be, HOST:PORT
	hosts string       // path of hosts(5)
	links surroundings // nil: the LAN is not looked at
	book  *notebook
	waits waits
	log   *slog.Logger
}

// choose returns what apt is to be told: the URL of a proxy, or DIRECT.
func (d *detector) choose(ctx context.Context, url string) string {
	t, err := parseTarget(url)
	if err != nil {
		d.log.Debug("there is no proxy for that", "err", err)
		return direct
	}
	through := t.reach(d.hosts)
	if through == throughNone {
		d.log.Debug("the repository is on this machine", "host", t.host)
		return direct
	}
	network := ""
	if d.links != nil {
		network = d.links.String()
	}
	n := d.book.read(network, time.Now())
	defer d.book.write(n)
	if addr, ok := d.ownNode(ctx, t, n); ok {
		return "http://" + addr
	}
	if through == throughOwn {
		d.log.Debug("other machines' proxies are not for this repository", "host", t.host)
		return direct
	}
	if d.links == nil {
		return direct // why, has been logged
	}
	if addr, ok := d.officeProxy(ctx, t, n); ok {
		return "http://" + addr
	}
	return direct
}

// ownNode returns where this machine's node answers, unless it refuses the
// target. What is not encrypted it serves: apt's sources are its own.
func (d *detector) ownNode(ctx context.Context, t target, n *notes) (string, bool) {
	answered := d.greetAll(ctx, d.own, d.waits.own)
	for _, addr := range d.own {
		i := slices.IndexFunc(answered, func(o greeted) bool { return o.addr == addr && o.node })
		if i >= 0 && (!t.secure || d.serves(ctx, addr, t, n)) {
			return addr, true
		}
	}
	return "", false
}

// officeProxy returns the best proxy on the LAN that does not refuse the target.
func (d *detector) officeProxy(ctx context.Context, t target, n *notes) (string, bool) {
	answered := d.greetAll(ctx, d.nearby(n.Proxies), d.waits.near)
	if n.Searched.IsZero() || len(n.Proxies) > 0 && len(answered) == 0 {
		answered = d.search(ctx)
		n.found(answered, time.Now())
	}
	slices.SortStableFunc(answered, bestFirst)
	for _, o := range answered[:min(len(answered), maxTries)] {
		if d.serves(ctx, o.addr, t, n) {
			return o.addr, true
		}
	}
	return "", false
}

// nearby leaves out addresses that are not on the LAN, or are none.
func (d *detector) nearby(addrs []string) []string {
	return slices.DeleteFunc(slices.Clone(addrs), func(text string) bool {
		addr, err := netip.ParseAddrPort(text)
		return err != nil || !d.links.Near(addr.Addr())
	})
}

// serves reports whether the proxy at addr, as far as it says so in time, does
// not refuse the target.
func (d *detector) serves(ctx context.Context, addr string, t target, n *notes) bool {
	if serves, known := n.verdict(addr, t); known {
		d.log.Debug("it is known what the proxy makes of the repository", "proxy", addr, "serves", serves)
		return serves
	}
	sure, err := tryURL(ctx, addr, t, d.waits.refusal)
	d.log.Debug("the proxy was asked for the repository", "proxy", addr, "sure", sure, "err", err)
	if sure {
		n.judge(addr, t, err == nil, time.Now())
	}
	return err == nil
}

// search asks the LAN for proxies and returns those that answered.
func (d *detector) search(ctx context.Context) []greeted {
	searching, done := context.WithTimeout(ctx, d.waits.search)
	defer done()
	g := newGreetings(discovery.MaxProxies, d.waits.near)
	d.links.FindProxies(searching, func(at netip.AddrPort) {
		d.log.Debug("a proxy is announced", "addr", at)
		if g.pending == 0 {
			time.AfterFunc(d.waits.settle, done)
		}
		g.send(ctx, at.String())
	})
	return g.gather(d.waits.settle, d.log)
}

// greetAll greets all addresses at once and returns the proxies that answered.
func (d *detector) greetAll(ctx context.Context, addrs []string, patience time.Duration) []greeted {
	g := newGreetings(len(addrs), patience)
	for _, addr := range addrs {
		g.send(ctx, addr)
	}
	return g.gather(d.waits.settle, d.log)
}

// greetings are under way to several addresses. One goroutine uses them.
type greetings struct {
	pending  int
	answers  chan greeting
	patience time.Duration
}

type greeting struct {
	by  greeted
	err error
}

// newGreetings makes room for at most so many, and has each wait so long.
func newGreetings(most int, patience time.Duration) *greetings {
	return &greetings{answers: make(chan greeting, most), patience: patience}
}

func (g *greetings) send(ctx context.Context, addr string) {
	g.pending++
	go func() {
		by, err := greet(ctx, addr, g.patience)
		g.answers <- greeting{by, err}
	}()
}

// gather returns the proxies that answered. Once one has, it waits only settle
// for those that take longer.
func (g *greetings) gather(settle time.Duration, log *slog.Logger) []greeted {
	var answered []greeted
	var late <-chan time.Time
	for ; g.pending > 0; g.pending-- {
		select {
		case <-late:
			return answered
		case a := <-g.answers:
			if a.err != nil {
				log.Debug("no proxy that serves this machine", "err", a.err)
				continue
			}
			log.Debug("a proxy answers", "addr", a.by.addr, "apt_dht", a.by.node, "took", a.by.took)
			answered = append(answered, a.by)
			if late == nil {
				late = time.After(settle)
			}
		}
	}
	return answered
}
