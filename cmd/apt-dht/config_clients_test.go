// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestClientListAllows(t *testing.T) {
	lan := func() []netip.Prefix {
		return []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("fe80::/64")}
	}
	office := clientRule{prefix: netip.MustParsePrefix("10.20.0.0/16")}
	for _, tt := range []struct {
		addr  string
		rules []clientRule
		want  bool
	}{
		{"127.0.0.1", nil, true},
		{"127.8.8.8", nil, true},
		{"::1", nil, true},
		{"::ffff:127.0.0.1", nil, true},
		{"192.168.1.5", nil, false},
		{"192.168.1.5", []clientRule{office}, false},
		{"10.20.3.4", []clientRule{office}, true},
		{"::ffff:10.20.3.4", []clientRule{office}, true},
		{"10.21.3.4", []clientRule{office}, false},
		{"192.168.1.5", []clientRule{office, {lan: true}}, true},
		{"192.168.2.5", []clientRule{office, {lan: true}}, false},
		{"fe80::5%eth0", []clientRule{{lan: true}}, true},
		{"10.20.3.4", []clientRule{{lan: true}, office}, true},
	} {
		if got := newClientList(tt.rules, lan).Allows(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%s with %v: got %v", tt.addr, tt.rules, got)
		}
	}
	if newClientList([]clientRule{{lan: true}}, lan).Allows(netip.Addr{}) {
		t.Error("the zero address is allowed")
	}
}

// TestClientListFollowsNetwork moves a laptop from one LAN to another.
func TestClientListFollowsNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		home, work := netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("10.0.0.0/8")
		now, reads := home, 0
		list := newClientList([]clientRule{{lan: true}}, func() []netip.Prefix {
			reads++
			return []netip.Prefix{now}
		})
		atWork := netip.MustParseAddr("10.0.0.1")
		if list.Allows(atWork) {
			t.Fatal("allowed from elsewhere")
		}
		now = work
		if list.Allows(atWork); reads != 1 {
			t.Errorf("the networks were read %d times at once", reads)
		}
		time.Sleep(lanRefresh)
		if !list.Allows(atWork) || list.Allows(home.Addr()) {
			t.Error("the new network is not known")
		}
	})
}

func TestPrivatePrefixes(t *testing.T) {
	addrs := []net.Addr{
		&net.IPNet{IP: net.ParseIP("192.168.1.7"), Mask: net.CIDRMask(24, 32)},
		&net.IPNet{IP: net.ParseIP("203.0.113.7"), Mask: net.CIDRMask(24, 32)},
		&net.IPNet{IP: net.ParseIP("fd12::7"), Mask: net.CIDRMask(64, 128)},
		&net.IPNet{IP: net.ParseIP("2001:db8::7"), Mask: net.CIDRMask(64, 128)},
		&net.IPNet{IP: net.ParseIP("fe80::7"), Mask: net.CIDRMask(64, 128)},
		&net.UnixAddr{Name: "not a network"},
	}
	want := []netip.Prefix{
		netip.MustParsePrefix("192.168.1.0/24"),
		netip.MustParsePrefix("fd12::/64"),
		netip.MustParsePrefix("fe80::/64"),
	}
	if got := privatePrefixes(addrs); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestLANPrefixes checks on whatever machine this is that nothing public and
// not loopback is taken for a LAN.
func TestLANPrefixes(t *testing.T) {
	for _, prefix := range lanPrefixes() {
		if addr := prefix.Addr(); addr.IsLoopback() || !addr.IsPrivate() && !addr.IsLinkLocalUnicast() {
			t.Errorf("%v is not a private network", prefix)
		}
	}
}
