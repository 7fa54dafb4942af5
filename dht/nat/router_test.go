// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	routerAddr = netip.MustParseAddr("192.168.1.1")
	hostAddr   = netip.MustParseAddr("192.168.1.7")
	outside    = netip.MustParseAddr("8.8.4.4")
	homeRoute  = route{gateway: routerAddr, local: hostAddr, nic: 2, name: "eth0", lan: true}
)

const testPort = 9978

// testRouter is a router that is called instead of spoken to.
type testRouter struct {
	mu sync.Mutex // guards following
	// entries are the ends of the leases, by "TCP 9978".
	entries map[string]time.Time
	// foreign are the entries of others.
	foreign map[string]bool
	// address is the external one.
	address netip.Addr
	// grant shortens leases; 0: as asked for.
	grant time.Duration
	// silent routers answer nothing, forgetful ones have just restarted, and
	// those that hang answer when the question's context ends.
	silent, forgetful, hangs bool
	// refuse, if not nil, can be the answer to add.
	refuse func(transport) error
	// chooses a port whatever is asked for, if not nil.
	chooses func(transport) uint16
	// renewals counts calls of add that were granted, removals of remove.
	renewals, removals int
}

func newTestRouter() *testRouter {
	return &testRouter{address: outside, entries: make(map[string]time.Time), foreign: make(map[string]bool)}
}

// set changes the router's mind.
func (r *testRouter) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// holds returns the living entries.
func (r *testRouter) holds() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.entries, func(_ string, end time.Time) bool { return !end.After(time.Now()) })
	return strings.Join(slices.Sorted(maps.Keys(r.entries)), ", ")
}

func entryKey(t transport, port uint16) string { return fmt.Sprintf("%s %d", t, port) }

func (r *testRouter) counts() (renewals, removals int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.renewals, r.removals
}

// testGateway is a protocol spoken with a testRouter.
type testGateway struct {
	*testRouter
	name  string
	lease time.Duration
}

func (g *testGateway) String() string { return g.name }

func (g *testGateway) reach(ctx context.Context) error {
	g.mu.Lock()
	hangs, silent := g.hangs, g.silent
	g.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if silent {
		pause(ctx, 3*time.Second)
		return errSilent
	}
	return nil
}

func (g *testGateway) external(ctx context.Context) (netip.Addr, error) {
	if err := g.reach(ctx); err != nil {
		return netip.Addr{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.address, nil
}

func (g *testGateway) add(ctx context.Context, t transport, port uint16) (uint16, time.Duration, error) {
	if err := g.reach(ctx); err != nil {
		return 0, 0, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse != nil {
		if err := g.refuse(t); err != nil {
			return 0, 0, err
		}
	}
	if g.foreign[entryKey(t, port)] {
		return 0, 0, fmt.Errorf("%w: 718", errConflict)
	}
	if g.chooses != nil {
		port = g.chooses(t)
	}
	lease := g.lease
	if g.grant != 0 {
		lease = g.grant
	}
	g.entries[entryKey(t, port)] = time.Now().Add(lease)
	g.renewals++
	return port, lease, nil
}

func (g *testGateway) lost(ctx context.Context, port uint16) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	lost := g.forgetful
	g.forgetful = false
	return lost, nil
}

func (g *testGateway) remove(ctx context.Context, t transport, port uint16) error {
	if err := g.reach(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removals++
	delete(g.entries, entryKey(t, port))
	return nil
}

// bench is a Mapper in a bubble of time, with its routers.
type bench struct {
	*Mapper
	t       *testing.T
	routers []*testRouter // NAT-PMP's and UPnP's
	cancel  context.CancelFunc
	ended   chan struct{}

	mu sync.Mutex // guards following
	// way is what the kernel says.
	way    route
	wayErr error
}

// onBench runs f with a Mapper that has begun; the routers may be prepared.
func onBench(t *testing.T, prepare func(*bench), f func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m, err := New(Config{Port: testPort})
		if err != nil {
			t.Fatal(err)
		}
		b := &bench{Mapper: m, t: t, way: homeRoute, ended: make(chan struct{}), routers: []*testRouter{newTestRouter(), newTestRouter()}}
		b.routers[1].silent = true
		m.find = func() (route, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.way, b.wayErr
		}
		m.gateways = func(_ route, _ uint16, lease time.Duration) []gateway {
			return []gateway{
				&testGateway{b.routers[0], "NAT-PMP", lease},
				&testGateway{b.routers[1], "UPnP", lease},
			}
		}
		prepare(b)
		ctx, cancel := context.WithCancel(t.Context())
		b.cancel = cancel
		go func() {
			defer close(b.ended)
			if err := b.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		}()
		defer func() { <-b.ended }()
		defer cancel()
		b.after(0)
		f(b)
	})
}

// after lets time pass, and then all goroutines do what they can at once.
func (b *bench) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// stop ends Run and returns how long that took.
func (b *bench) stop() time.Duration {
	began := time.Now()
	b.cancel()
	<-b.ended
	return time.Since(began)
}

func (b *bench) reroute(r route, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.way, b.wayErr = r, err
}

// wantExternal checks External; "" means that there is none.
func (b *bench) wantExternal(want string) {
	b.t.Helper()
	got := ""
	if external, ok := b.External(); ok {
		got = external.String()
	}
	if got != want {
		b.t.Fatalf("External = %q, want %q; status: %s", got, want, b.Status())
	}
}

func (b *bench) wantStatus(parts ...string) {
	b.t.Helper()
	for _, part := range parts {
		if !strings.Contains(b.Status(), part) {
			b.t.Fatalf("Status = %q, want in it %q", b.Status(), part)
		}
	}
}

func (b *bench) wantEntries(r *testRouter, want string) {
	b.t.Helper()
	if got := r.holds(); got != want {
		b.t.Fatalf("the router has the entries %q, want %q", got, want)
	}
}
