// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net"
	"net/netip"
	"testing"
)

func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		addr            string
		public, private bool
	}{
		{"5.1.2.3:6881", true, true},
		{"[2a00:1450:4001::1]:6881", true, true},
		{"5.1.2.3:1024", true, true},
		{"5.1.2.3:1023", false, false},
		{"5.1.2.3:0", false, false},
		{"10.1.2.3:6881", false, true},
		{"172.16.0.1:6881", false, true},
		{"192.168.1.1:6881", false, true},
		{"100.64.0.1:6881", false, true},
		{"127.0.0.1:6881", false, true},
		{"[::1]:6881", false, true},
		{"[fd00::1]:6881", false, true},
		{"198.51.100.1:6881", false, true},
		{"169.254.169.254:6881", false, false},
		{"[fe80::1%eth0]:6881", false, false},
		{"[fe80::1]:6881", false, false},
		{"224.0.0.251:6881", false, false},
		{"[ff02::fb]:6881", false, false},
		{"255.255.255.255:6881", false, false},
		{"0.0.0.0:6881", false, false},
		{"[::]:6881", false, false},
		{"[::ffff:5.1.2.3]:6881", false, false},
		{"[64:ff9b::a01:203]:6881", false, true},
		{"[2002:a01:203::1]:6881", false, true},
		{"[2001:0:a01:203::1]:6881", false, true},
		{"[2001:db8::1]:6881", false, true},
	} {
		addr := netip.MustParseAddrPort(c.addr)
		if got := Allowed(addr, false); got != c.public {
			t.Errorf("Allowed(%v) = %v", addr, got)
		}
		if got := Allowed(addr, true); got != c.private {
			t.Errorf("Allowed(%v, private) = %v", addr, got)
		}
	}
	if Allowed(netip.AddrPort{}, true) {
		t.Error("the zero address is allowed")
	}
}

func TestOwner(t *testing.T) {
	a, b := netip.MustParseAddrPort("5.1.2.3:6881"), netip.MustParseAddrPort("5.1.2.200:7000")
	c := netip.MustParseAddrPort("5.1.3.3:6881")
	if owner(a, false) != owner(b, false) || owner(a, false) == owner(c, false) {
		t.Error("an owner is not a /24")
	}
	if owner(a, true) == owner(b, true) {
		t.Error("in a private DHT an owner is more than a node")
	}
	v6, w6 := netip.MustParseAddrPort("[2a00:1:2:3::1]:6881"), netip.MustParseAddrPort("[2a00:1:2:4::1]:6881")
	if owner(v6, false) != owner(w6, false) {
		t.Error("an owner is not a /48")
	}
}

func TestWireAddrPort(t *testing.T) {
	for _, c := range []struct {
		ip   net.IP
		port int
		want string
	}{
		{net.IP{5, 1, 2, 3}, 6881, "5.1.2.3:6881"},
		{net.ParseIP("::ffff:5.1.2.3"), 6881, "5.1.2.3:6881"},
		{net.IP{5, 1, 2}, 6881, ""},
		{nil, 6881, ""},
		{net.IP{5, 1, 2, 3}, 65536, ""},
		{net.IP{5, 1, 2, 3}, -1, ""},
	} {
		got, ok := wireAddrPort(c.ip, c.port)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("wireAddrPort(%v, %d) = %v, %v", c.ip, c.port, got, ok)
		}
	}
	if _, ok := udpAddrPort(&net.TCPAddr{}); ok {
		t.Error("a TCP address passes as one of UDP")
	}
}
