// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestDefaultBootstrap(t *testing.T) {
	for _, hostPort := range DefaultBootstrap() {
		if _, _, err := splitBootstrap(hostPort); err != nil {
			t.Error(err)
		}
	}
	public, err := New(Config{IPv4: &recorder{}})
	if err != nil {
		t.Fatal(err)
	}
	private, err := New(Config{IPv4: &recorder{}, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(public.families[0].bootstrap, DefaultBootstrap()) || len(private.families[0].bootstrap) != 0 {
		t.Errorf("by default the public DHT asks %v, a private one %v", public.families[0].bootstrap, private.families[0].bootstrap)
	}
}

func TestBootstrapAddresses(t *testing.T) {
	var log bytes.Buffer
	debug := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	n, err := New(Config{IPv4: &recorder{}, IPv6: &recorder{}, Log: debug, Bootstrap: []string{
		"5.1.2.3:6881", "[2a00::1]:6881", "127.0.0.1:6881", "[fe80::1]:6881",
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"5.1.2.3:6881", "[2a00::1]:6881"} {
		if got := n.families[i].resolve(t.Context()); !slices.Equal(got, []netip.AddrPort{netip.MustParseAddrPort(want)}) {
			t.Errorf("%s asks %v", n.families[i].name, got)
		}
	}
	if log.Len() > 0 { // no address is looked up as if it were a name
		t.Errorf("logged: %s", &log)
	}
}

func TestResolve(t *testing.T) {
	for hostPort, want := range map[string]string{
		"10.0.0.1:9978": "10.0.0.1:9978", "[::1]:9978": "[::1]:9978", "[::ffff:10.0.0.1]:9978": "10.0.0.1:9978",
	} {
		got, err := Resolve(t.Context(), hostPort)
		if err != nil || len(got) != 1 || got[0] != netip.MustParseAddrPort(want) {
			t.Errorf("%s: %v, %v", hostPort, got, err)
		}
	}
	if got, err := Resolve(t.Context(), "10.0.0.1"); err == nil {
		t.Errorf("without a port: %v", got)
	}
}

// TestPing asks one that is there, one that says nothing, and where nobody is.
func TestPing(t *testing.T) {
	there := start(t, Config{IPv4: loopback(t), Private: true, Reachable: at(7000)})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := Ping(ctx, there.addr); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	if n := there.Stats().Nodes; n > 0 {
		t.Errorf("who only pings is taken for %d nodes", n)
	}

	mute := loopback(t)
	defer mute.Close()
	addr, _ := udpAddrPort(mute.LocalAddr())
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Ping(short, addr); !errors.Is(err, ErrSilent) {
		t.Errorf("one that is mute: %v", err)
	}
	mute.Close()
	if err := Ping(ctx, addr); !errors.Is(err, ErrSilent) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody: %v", err)
	}
}
