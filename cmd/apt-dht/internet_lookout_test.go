// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/dht"
	"apt-dht/proxy/wan"
)

// journal is a log that is read while it is written.
type journal struct {
	mu  sync.Mutex // guards following
	buf bytes.Buffer
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

// watched runs a lookout that asks nobody, until the test ends; nodes is how many
// it takes for known.
func watched(t *testing.T, cfg internetConfig) (l *lookout, nodes *atomic.Int64, log *journal) {
	t.Helper()
	nodes, log = new(atomic.Int64), new(journal)
	l = &lookout{
		cfg: cfg, nodes: func() int { return int(nodes.Load()) }, log: slog.New(slog.NewTextHandler(log, nil)),
		ask: func(context.Context, internetConfig, string) []bootstrapTry {
			return []bootstrapTry{{"10.4.0.2:9999", errMute}}
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = l.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return l, nodes, log
}

func TestLookout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, nodes, log := watched(t, internetConfig{Private: true, Bootstrap: []string{"10.4.0.2:9999"}})
		step := func(wait time.Duration, trouble string, warnings int) {
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			if got := l.trouble(); got != trouble {
				t.Errorf("the trouble is %q, want %q", got, trouble)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != warnings {
				t.Errorf("%d warnings, want %d in\n%s", n, warnings, log)
			}
		}
		step(aloneAfter-time.Second, "", 0)
		step(2*time.Second, noneNamed, 1)
		for _, part := range []string{"no node of the DHT answers", "10.4.0.2:9999 does not answer", "does apt-dht dht-node run there"} {
			if !strings.Contains(log.String(), part) {
				t.Errorf("no %q in %s", part, log)
			}
		}
		step(24*time.Hour, noneNamed, 1)
		nodes.Store(1)
		step(aloneEvery, "", 1)
		nodes.Store(0)
		step(aloneAfter-aloneEvery, "", 1)
		step(2*aloneEvery, noneNamed, 2)
	})
}

// In the public DHT it is the network that is to blame; who begins a DHT is alone.
func TestLookoutUnnamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		public, _, said := watched(t, internetConfig{})
		first, _, none := watched(t, internetConfig{Private: true})
		time.Sleep(time.Hour)
		synctest.Wait()
		if public.trouble() != noneWellKnown || !strings.Contains(said.String(), "does a firewall block UDP") {
			t.Errorf("%q: %s", public.trouble(), said)
		}
		if first.trouble() != "" || none.String() != "" {
			t.Errorf("who begins is warned: %q, %s", first.trouble(), none)
		}
	})
}

// udpNode is a DHT node on loopback for others to begin with.
func udpNode(t *testing.T) string {
	t.Helper()
	open := openUDP(t, "127.0.0.1")
	node, err := dht.New(dht.Config{
		IPv4: open.udp4, Private: true, Log: slog.New(slog.DiscardHandler),
		Reachable: func(bool) (netip.AddrPort, bool) { return netip.AddrPortFrom(netip.Addr{}, open.port), true },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf("127.0.0.1:%d", open.port)
}

func TestTryBootstrap(t *testing.T) {
	there := udpNode(t)
	gone := openUDP(t, "127.0.0.1")
	gone.close()
	nobody, own := fmt.Sprintf("127.0.0.1:%d", gone.port), "127.0.0.1:19978"
	cfg := internetConfig{Private: true, Bootstrap: []string{there, nobody, own}}
	tries := tryBootstrap(t.Context(), cfg, ":19978")
	want := there + " answers; " + nobody + " does not answer: connection refused; " + own + " is this node itself"
	if got := tellTries(tries); got != want || answering(tries) != 1 {
		t.Errorf("got %s, want %s", got, want)
	}
	cfg.Private = false
	if got := tellTries(tryBootstrap(t.Context(), cfg, "")); strings.Count(got, "--dht-private is not set") != 3 {
		t.Errorf("in the public DHT: %s", got)
	}
}

func TestAdvise(t *testing.T) {
	mute, nameless := bootstrapTry{"a", errMute}, bootstrapTry{"b", fmt.Errorf("%w: no such host", errUnresolved)}
	named := internetConfig{Bootstrap: []string{"a"}}
	for _, tt := range []struct {
		cfg   internetConfig
		tries []bootstrapTry
		want  string
	}{
		{internetConfig{}, []bootstrapTry{mute}, "does a firewall block UDP, or is DNS"},
		{named, []bootstrapTry{mute, nameless}, "run there, on that UDP port, or does a firewall"},
		{named, []bootstrapTry{nameless, {"c", errSelf}}, "is the name right"},
		{named, []bootstrapTry{{"c", errPrivate}}, "set --dht-private"},
		{named, []bootstrapTry{{"c", errSelf}}, "name another machine's node"},
		{named, []bootstrapTry{mute, {"d", nil}}, "wait five minutes"},
	} {
		if got := advise(tt.cfg, tt.tries); !strings.Contains(got, tt.want) {
			t.Errorf("%v: %s, want %s", tt.tries, got, tt.want)
		}
	}
}

func TestListensAt(t *testing.T) {
	for _, tt := range []struct {
		own, addr string
		want      bool
	}{
		{":9978", "127.0.0.1:9978", true},
		{":9978", "[::1]:9978", true},
		{"[::]:9978", "127.0.0.2:9978", true},
		{":9978", "127.0.0.1:9979", false},
		{":9978", "192.0.2.1:9978", false},
		{"192.0.2.1:9978", "192.0.2.1:9978", true},
		{"192.0.2.1:9978", "127.0.0.1:9978", false},
		{"dht.example:9978", "127.0.0.1:9978", true},
		{"nonsense", "127.0.0.1:9978", false},
	} {
		if got := listensAt(tt.own, netip.MustParseAddrPort(tt.addr)); got != tt.want {
			t.Errorf("%s, %s: got %v", tt.own, tt.addr, got)
		}
	}
}

// The status counts files: the key under which nodes help each other is none.
func TestStatusCountsFiles(t *testing.T) {
	open, err := openSockets(t.Context(), "127.0.0.1:0", true)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	i, err := newInternet(internetConfig{Private: true, Listen: "127.0.0.1:0"}, open, wan.Config{}, filepath.Join(t.TempDir(), "nodes"), nil, log)
	if err != nil {
		open.close()
		t.Fatal(err)
	}
	i.wan.Have([32]byte{1}, time.Now())
	i.dht.Offer(wan.HelpersKey, time.Now())
	if s := i.dhtStatus(); s.Offered != 1 || s.Mode != "private" || s.Trouble != "" {
		t.Errorf("got %+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := i.run(ctx, nil); err != nil {
		t.Error(err)
	}
}

// The last line of serve's log says that it has ended.
func TestServeSaysStopped(t *testing.T) {
	at := listenAddr{"127.0.0.1:0"}
	s := settings{listenSettings: listenSettings{Listen: []listenAddr{at}}}
	s.DataDir, s.AptEtc, s.AptLists = t.TempDir(), t.TempDir(), t.TempDir()
	cfg, err := s.config()
	if err != nil {
		t.Fatal(err)
	}
	before := slog.Default()
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() {
		slog.SetDefault(before)
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var log bytes.Buffer
	if err := serve(ctx, cfg, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "msg=stopped") {
		t.Errorf("the last line is %s", last)
	}
}
