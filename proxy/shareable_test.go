// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/store"
)

func TestOriginsOfAPrivateDHT(t *testing.T) {
	origins := &Origins{
		AnyName: true,
		Public:  func(ip netip.Addr) bool { return !ip.IsLinkLocalUnicast() },
		Exclude: []string{"closed.example"},
	}
	for url, want := range map[string]bool{
		"http://mirror.invalid/a.deb":         true,
		"http://10.0.0.7/a.deb":               true,
		"http://169.254.169.1/a.deb":          false,
		"http://closed.example/a.deb":         false,
		"http://mirror.invalid/a.deb?token=1": false,
	} {
		shares := origins.shares(url, strings.TrimPrefix(url, "http://"), "")
		if (shares != nil && shares(t.Context())) != want {
			t.Errorf("%s: want %v", url, want)
		}
	}
}

func TestOriginsShare(t *testing.T) {
	names := map[string][]netip.Addr{
		"public.example": {netip.MustParseAddr("5.1.0.7"), netip.MustParseAddr("2a01:db8::7")},
		"mixed.example":  {netip.MustParseAddr("5.1.0.7"), netip.MustParseAddr("10.0.0.7")},
		"none.example":   {},
	}
	origins := &Origins{
		Public:  func(ip netip.Addr) bool { return !ip.IsPrivate() && !ip.IsLoopback() },
		Exclude: []string{"public.example/internal", "closed.example"},
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			addrs, ok := names[host]
			if !ok {
				return nil, errors.New("no such host")
			}
			return addrs, nil
		},
	}
	for _, test := range []struct {
		url  string
		want bool
	}{
		{"http://public.example/debian/a.deb", true},
		{"https://PUBLIC.example:8443/debian/a.deb", true},
		{"http://public.example/internal/a.deb", false},
		{"http://public.example/internals/a.deb", true},
		{"http://public.example/internal", false},
		{"http://closed.example:8080/a.deb", false},
		{"http://public.example:8080/internal/a.deb", false},
		{"http://public.example//internal/a.deb", false},
		{"http://mixed.example/a.deb", false},
		{"http://none.example/a.deb", false},
		{"http://unknown.example/a.deb", false},
		{"http://5.1.0.7/a.deb", true},
		{"http://[::ffff:10.0.0.7]/a.deb", false},
		{"http://10.0.0.7/a.deb", false},
		{"http://[::1]:80/a.deb", false},
		{"http://public.example/a.deb?token=1", false},
		{"http://public.example/a.deb?", false},
		{"http://me:secret@public.example/a.deb", false},
		{"http://public.example/%zz", false},
	} {
		name := strings.ToLower(strings.TrimPrefix(test.url, schemeOf(test.url)))
		if shares := origins.shares(test.url, name, ""); (shares != nil && shares(t.Context())) != test.want {
			t.Errorf("%s: want %v", test.url, test.want)
		}
	}
}

// A repository that calls one file personal has its others left alone, for a day.
func TestOriginsClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origins := &Origins{AnyName: true}
		shares := func(base string) bool {
			f := origins.shares("http://host.example/debian/a.deb", "host.example/debian/a.deb", base)
			return f != nil && f(t.Context())
		}
		origins.close("host.example/debian")
		if shares("host.example/debian") || !shares("host.example/other") {
			t.Error("the repository is open, or another one closed")
		}
		time.Sleep(closedFor)
		if !shares("host.example/debian") {
			t.Error("the repository is closed for too long")
		}
		for i := range 3 * maxVerdicts {
			origins.close(strconv.Itoa(i))
		}
		if len(origins.closed) > maxVerdicts {
			t.Errorf("%d repositories are remembered", len(origins.closed))
		}
	})
}

// A host is resolved once for all who ask; who is called off does not decide for
// the others; and a failure is not remembered for long.
func TestOriginsResolve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		var broken atomic.Bool
		origins := &Origins{
			Public: func(netip.Addr) bool { return true },
			Resolve: func(ctx context.Context, _ string) ([]netip.Addr, error) {
				asked.Add(1)
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				if broken.Load() {
					return nil, errors.New("the network is down")
				}
				return []netip.Addr{netip.MustParseAddr("5.1.0.7")}, nil
			},
		}
		ask := func(ctx context.Context) bool {
			return origins.shares("http://public.example/a.deb", "public.example/a.deb", "")(ctx)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		answers := make(chan bool, 8)
		go func() { answers <- ask(short) }()
		synctest.Wait()
		for range 7 {
			go func() { answers <- ask(t.Context()) }()
		}
		yes := 0
		for range 8 {
			if <-answers {
				yes++
			}
		}
		if yes != 7 || asked.Load() != 2 {
			t.Errorf("%d of 7 were told that it is public, after %d questions", yes, asked.Load())
		}
		broken.Store(true)
		if !ask(t.Context()) || asked.Load() != 2 {
			t.Error("the verdict was not remembered")
		}
		time.Sleep(publicFor)
		if both := [2]bool{ask(t.Context()), ask(t.Context())}; both != [2]bool{true, true} || asked.Load() != 3 {
			t.Errorf("without the network a verdict is forgotten, or was asked for %d times", asked.Load()-2)
		}
		origins.verdicts = nil
		if both := [2]bool{ask(t.Context()), ask(t.Context())}; both != [2]bool{} || asked.Load() != 4 {
			t.Errorf("a host that was never resolved is public, or was asked for %d times", asked.Load()-3)
		}
		broken.Store(false)
		time.Sleep(unknownFor)
		if !ask(t.Context()) {
			t.Error("a failure is remembered for too long")
		}
	})
}

// What is stored is the internet's as long as its origin is not excluded.
func TestMayGive(t *testing.T) {
	st, err := store.Open(store.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	defer st.Close()
	s := &Server{cfg: Config{Store: st, Internet: &Internet{Origins: &Origins{Exclude: []string{"closed.example"}}}}}
	for origin, want := range map[string]bool{
		"http://open.example/a.deb":   true,
		"http://closed.example/a.deb": false,
		"":                            false,
	} {
		g, err := st.Create(store.Digest{}, -1)
		check(t, err)
		_, err = g.Write([]byte(origin))
		check(t, err)
		d, err := g.Commit(store.Meta{Origin: origin, Shareable: true})
		check(t, err)
		if meta, ok := s.mayGive(d); ok != want || meta.Added.IsZero() {
			t.Errorf("%q: %v, %+v", origin, ok, meta)
		}
	}
	if _, ok := s.mayGive(store.Digest{}); ok {
		t.Error("what is not here may be given")
	}
}
