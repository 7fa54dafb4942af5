// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TCP and UDP share a port, whichever it is.
func TestOpenSockets(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "localhost:0", ":0", "[::1]:0"} {
		s, err := openSockets(t.Context(), addr, true)
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		port := strconv.Itoa(int(s.port))
		if s.port == 0 || portOf(s.tcp.Addr()) != port || s.udp4 == nil && s.udp6 == nil {
			t.Errorf("%s: port %s, TCP %v, UDP %v and %v", addr, port, s.tcp.Addr(), s.udp4, s.udp6)
		}
		for _, conn := range []net.PacketConn{s.udp4, s.udp6} {
			if conn != nil && portOf(conn.LocalAddr()) != port {
				t.Errorf("%s: UDP at %v, TCP at %s", addr, conn.LocalAddr(), port)
			}
		}
		s.close()
	}
}

// A port of which either half is taken is left alone, and nothing of it stays open.
func TestPortTaken(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, taken := range []net.Addr{tcp.Addr(), udp.LocalAddr()} {
		for range 2 {
			s, err := openSockets(t.Context(), taken.String(), true)
			if err != nil && !strings.Contains(err.Error(), "this node itself") {
				t.Errorf("%s %v: its owner is not told: %v", taken.Network(), taken, err)
			}
			if s != nil || !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "--wan-listen") {
				t.Errorf("%s %v: got %v, %v", taken.Network(), taken, s, err)
			}
		}
	}
	s, err := openSockets(t.Context(), tcp.Addr().String(), false)
	if err != nil || s.tcp != nil {
		t.Fatalf("for UDP alone: %v, %v", s, err)
	}
	s.close()
}

// The error is that of the family which the address is of, on one line.
func TestNoSuchAddress(t *testing.T) {
	for _, addr := range []string{"192.0.2.77:0", "[2001:db8::77]:0"} {
		s, err := openSockets(t.Context(), addr, true)
		if s != nil || err == nil || strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "no suitable address") {
			t.Errorf("%s: got %v, %v", addr, s, err)
		}
	}
}

func TestOwnAddr(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, ok := ownAddr(l.Addr(), 4000, true); !ok || got != netip.MustParseAddrPort("127.0.0.1:4000") {
		t.Errorf("listening at %v: %v, %v", l.Addr(), got, ok)
	}
	if got, ok := ownAddr(l.Addr(), 4000, false); ok {
		t.Errorf("listening at %v it is reached over IPv6 at %v", l.Addr(), got)
	}
	all := &net.TCPAddr{IP: net.IPv6unspecified, Port: 4000}
	if got, ok := ownAddr(all, 4000, true); !ok || !got.Addr().Is4() || got.Addr().IsUnspecified() || got.Port() != 4000 {
		t.Errorf("listening everywhere: %v, %v", got, ok)
	}
	if got, ok := ownAddr(all, 4000, false); ok && (got.Addr().Is4() || !got.Addr().IsGlobalUnicast()) {
		t.Errorf("listening everywhere over IPv6: %v", got)
	}
}

// The kernel is asked for this machine's addresses once in a while, not each time.
func TestOwnAddressIsKept(t *testing.T) {
	var own ownAddress
	asked := 0
	ask := func() (netip.AddrPort, bool) {
		asked++
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(asked)}), 4000), true
	}
	start := time.Now()
	for _, at := range []time.Duration{0, ownFor - 1, ownFor, 2*ownFor - 1} {
		want := netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + at/ownFor)})
		if got, ok := own.get(start.Add(at), ask); !ok || got.Addr() != want {
			t.Errorf("after %v: got %v, not %v", at, got, want)
		}
	}
}
