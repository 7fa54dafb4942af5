// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const ethernet = net.FlagUp | net.FlagRunning | net.FlagMulticast | net.FlagBroadcast

func testNIC(name string, flags net.Flags, prefixes ...string) nic {
	n := nic{Interface: net.Interface{Index: 2, Name: name, Flags: flags}}
	for _, p := range prefixes {
		n.prefixes = append(n.prefixes, netip.MustParsePrefix(p))
	}
	return n
}

func TestSuitable(t *testing.T) {
	for _, test := range []struct {
		why  string
		nic  nic
		want bool
	}{
		{"an office", testNIC("eth0", ethernet, "10.1.2.3/24", "fe80::1/64"), true},
		{"a home", testNIC("wlan0", ethernet, "192.168.1.2/24", "2001:db8::2/64", "fe80::1/64"), true},
		{"no DHCP", testNIC("eth0", ethernet, "169.254.3.4/16"), true},
		{"a ULA", testNIC("eth0", ethernet, "fd12::1/64", "2001:db8::1/64", "fe80::1/64"), true},
		{"link-local IPv6 alone", testNIC("eth0", ethernet, "fe80::1/64"), true},
		{"a hosted server", testNIC("eth0", ethernet, "203.0.113.5/24", "fe80::1/64"), false},
		{"a hosted server with a private address, too", testNIC("eth0", ethernet, "10.0.0.1/8", "203.0.113.5/24"), false},
		{"a hosted server with IPv6 alone", testNIC("eth0", ethernet, "2001:db8::1/64", "fe80::1/64"), false},
		{"carrier-grade NAT, or Tailscale", testNIC("eth0", ethernet, "100.64.0.1/10"), false},
		{"point-to-point", testNIC("x0", ethernet|net.FlagPointToPoint, "10.0.0.1/32"), false},
		{"loopback", testNIC("lo", ethernet|net.FlagLoopback, "10.0.0.1/8"), false},
		{"WireGuard", testNIC("wg0", ethernet, "10.0.0.1/24"), false},
		{"OpenVPN", testNIC("tap1", ethernet, "10.0.0.1/24"), false},
	} {
		if got := test.nic.suitable(); got != test.want {
			t.Errorf("%s: suitable is %v", test.why, got)
		}
	}
	for _, unusable := range []nic{
		testNIC("eth0", ethernet),
		testNIC("eth0", ethernet&^net.FlagRunning, "10.1.2.3/24"),
		testNIC("eth0", ethernet&^net.FlagMulticast, "10.1.2.3/24"),
	} {
		if unusable.usable() {
			t.Errorf("%+v is usable", unusable)
		}
	}
}

func TestReaches(t *testing.T) {
	n := testNIC("eth0", ethernet, "10.1.2.3/24", "192.0.2.1/31", "fd12::1/64", "fe80::1/64")
	for addr, want := range map[string]bool{
		"10.1.2.4":           true,
		"10.1.3.4":           false,
		"10.1.2.255":         false,
		"192.0.2.1":          true,
		"8.8.8.8":            false,
		"127.0.0.1":          false,
		"0.0.0.0":            false,
		"224.0.0.251":        false,
		"fd12::99":           true,
		"fd13::99":           false,
		"fe80::2":            true,
		"fe80::2%eth0":       true,
		"fe80::2%eth1":       false,
		"ff02::fb":           false,
		"::":                 false,
		"::1":                false,
		"::ffff:192.168.0.1": false,
	} {
		if got := n.reaches(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is reached: %v", addr, got)
		}
	}
}

func TestAnnounced(t *testing.T) {
	n := testNIC("eth0", ethernet, "10.1.2.3/24", "2001:db8::1/64", "fd12::1/64", "fe80::1/64")
	for _, test := range []struct{ listen, want string }{
		{"[]", "[10.1.2.3 fd12::1]"},
		{"[0.0.0.0]", "[10.1.2.3]"},
		{"[::]", "[10.1.2.3 fd12::1]"},
		{"[10.1.2.3]", "[10.1.2.3]"},
		{"[::ffff:10.1.2.3]", "[10.1.2.3]"},
		{"[2001:db8::1 fe80::1%eth0]", "[2001:db8::1]"},
		{"[fe80::1%eth0]", "[fe80::1]"},
		{"[127.0.0.1 10.1.2.4]", "[]"},
	} {
		var listen []netip.Addr
		var text []string
		for _, f := range strings.Fields(strings.Trim(test.listen, "[]")) {
			listen = append(listen, netip.MustParseAddr(f))
		}
		for _, a := range n.announced(listen) {
			text = append(text, a.String())
		}
		if got := fmt.Sprint(text); got != test.want {
			t.Errorf("listening on %s announces %s, not %s", test.listen, got, test.want)
		}
	}
}

func TestSlept(t *testing.T) {
	for _, test := range []struct {
		wall, monotonic time.Duration
		want            bool
	}{
		{scanAgain, scanAgain, false},
		{3 * scanAgain, 3 * scanAgain, false},       // a busy machine
		{time.Hour, scanAgain, true},                // suspended
		{-time.Hour, scanAgain, true},               // the clock was set
		{time.Minute, time.Minute, true},            // the process was stopped
		{scanAgain + time.Second, scanAgain, false}, // the clock is being adjusted
	} {
		if got := slept(test.wall, test.monotonic); got != test.want {
			t.Errorf("slept(%v, %v) is %v", test.wall, test.monotonic, got)
		}
	}
}

func TestNew(t *testing.T) {
	good := Config{ID: testID(0), Port: 9977, Probe: (&fakeLAN{}).probe}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for why, spoil := range map[string]func(*Config){
		"an id in capitals":     func(c *Config) { c.ID = "ABCDEF0123456789" },
		"a short id":            func(c *Config) { c.ID = "0123" },
		"no port":               func(c *Config) { c.Port = 0 },
		"no probe":              func(c *Config) { c.Probe = nil },
		"a bad static peer":     func(c *Config) { c.Static = []string{"a:b"} },
		"too many static peers": func(c *Config) { c.Static = make([]string, maxStatic+1) },
	} {
		bad := good
		spoil(&bad)
		if _, err := New(bad); err == nil {
			t.Errorf("%s was taken", why)
		}
	}
}

func TestOnLink(t *testing.T) {
	lan, err := New(Config{ID: testID(0), Port: 9977, Probe: (&fakeLAN{}).probe, Static: []string{"192.0.2.7"}})
	if err != nil {
		t.Fatal(err)
	}
	onLink := func(addr string) bool { return lan.OnLink(netip.MustParseAddr(addr)) }
	if onLink("10.1.2.4") || onLink("192.0.2.7") {
		t.Error("somebody is on a link before there is one")
	}
	lan.links.Store(&[]nic{testNIC("eth0", ethernet, "10.1.2.3/24")})
	lan.static[0].resolve(t.Context(), lan.members)
	if !onLink("10.1.2.4") || !onLink("::ffff:10.1.2.4") || !onLink("192.0.2.7") || onLink("10.1.3.4") {
		t.Error("OnLink does not follow the links and static peers")
	}
}
