// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFindRoute asks the kernel, in namespaces with different routes.
func TestFindRoute(t *testing.T) {
	gateway, local := netip.MustParseAddr("192.168.78.1"), netip.MustParseAddr("192.168.78.2")
	const tunnel = "tuntap add mode tun name tun0\naddr add 10.9.0.2/24 dev tun0\nlink set tun0 up\n"
	const home = "route add default via 192.168.78.1\n"
	viaTunnel := route{local: netip.MustParseAddr("10.9.0.2"), name: "tun0"}
	for _, tt := range []struct {
		name, setup string
		want        route
	}{
		{"none", "", route{}},
		{"home", home, route{gateway, local, 0, "eth0", true}},
		{"two addresses", "addr add 192.168.78.9/24 dev eth0\nroute add default via 192.168.78.1 src 192.168.78.9",
			route{gateway, netip.MustParseAddr("192.168.78.9"), 0, "eth0", true}},
		{"better of two", home + "route add default via 192.168.78.3 metric 50\nroute del default via 192.168.78.1\nroute add default via 192.168.78.1 metric 100",
			route{netip.MustParseAddr("192.168.78.3"), local, 0, "eth0", true}},
		{"bridge", "link add br0 type bridge\naddr add 192.168.79.2/24 dev br0\nlink set br0 up\nroute add default via 192.168.79.1",
			route{netip.MustParseAddr("192.168.79.1"), netip.MustParseAddr("192.168.79.2"), 0, "br0", true}},
		{"no gateway", "route add default dev eth0", route{netip.Addr{}, local, 0, "eth0", true}},
		{"unreachable", "route add unreachable default", route{}},
		{"blackhole", "route add blackhole default", route{}},
		{"prohibit", "route add prohibit default", route{}},
		{"throw", "route add throw default", route{}},
		{"interface down", home + "link set eth0 down", route{}},
		{"tunnel", tunnel + "route add default dev tun0", viaTunnel},
		{"tunnel by two halves", home + tunnel + "route add 0.0.0.0/1 dev tun0\nroute add 128.0.0.0/1 dev tun0", viaTunnel},
		{"tunnel by a rule", home + tunnel + "route add default dev tun0 table 7\nrule add lookup 7 priority 10", viaTunnel},
		{"tap", "tuntap add mode tap name vpn\naddr add 10.9.0.2/24 dev vpn\nlink set vpn up\nroute add default via 10.9.0.1",
			route{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2"), 0, "vpn", false}},
		{"vxlan", "link add vpn type vxlan id 4 dstport 4789 local 192.168.78.2\naddr add 10.9.0.2/24 dev vpn\nlink set vpn up\nroute add default via 10.9.0.1",
			route{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2"), 0, "vpn", false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host, router := newNamespace(t, "ph"), newNamespace(t, "pr")
			host.plug("eth0", "192.168.78.2/24", router, "lan", "192.168.78.1/24")
			for line := range strings.Lines(tt.setup) {
				host.ip(line)
			}
			var got route
			var err error
			host.inside(func() { got, err = findRoute() })
			if err != nil {
				t.Fatal(err)
			}
			if (got.nic != 0) != (tt.want != route{}) {
				t.Errorf("interface %d", got.nic)
			}
			if got.nic = 0; got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestParseLink(t *testing.T) {
	link := func(hardware uint16, flags uint32, kind string) []byte {
		payload := binary.NativeEndian.AppendUint16([]byte{0, 0}, hardware)
		payload = binary.NativeEndian.AppendUint32(append(payload, 0, 0, 0, 0), flags)
		payload = append(payload, 0, 0, 0, 0)
		payload = appendAttribute(payload, unix.IFLA_IFNAME, []byte("nic0\x00"))
		if kind != "" {
			info := appendAttribute(nil, unix.IFLA_INFO_KIND, []byte(kind+"\x00"))
			payload = appendAttribute(payload, unix.IFLA_LINKINFO|unix.NLA_F_NESTED, info)
		}
		return payload
	}
	const up = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_BROADCAST
	for _, tt := range []struct {
		name    string
		payload []byte
		lan     bool
	}{
		{"hardware", link(unix.ARPHRD_ETHER, up, ""), true},
		{"bond", link(unix.ARPHRD_ETHER, up, "bond"), true},
		{"WireGuard", link(unix.ARPHRD_NONE, up|unix.IFF_POINTOPOINT, "wireguard"), false},
		{"PPP", link(unix.ARPHRD_PPP, up|unix.IFF_POINTOPOINT, "ppp"), false},
		{"GRE with Ethernet", link(unix.ARPHRD_ETHER, up, "gretap"), false},
		{"unknown kind", link(unix.ARPHRD_ETHER, up, "newfangled"), false},
		{"Ethernet with one end", link(unix.ARPHRD_ETHER, up|unix.IFF_POINTOPOINT, ""), false},
		{"modem", link(unix.ARPHRD_RAWIP, up, ""), false},
	} {
		if name, lan := parseLink(tt.payload); name != "nic0" || lan != tt.lan {
			t.Errorf("%s: got %q, %v, want %v", tt.name, name, lan, tt.lan)
		}
	}
	if name, lan := parseLink([]byte{1, 2, 3}); name != "" || lan {
		t.Errorf("cut off: got %q, %v", name, lan)
	}
}

// appendAttribute appends with padding.
func appendAttribute(to []byte, kind uint16, value []byte) []byte {
	to = binary.NativeEndian.AppendUint16(to, uint16(unix.SizeofRtAttr+len(value)))
	to = binary.NativeEndian.AppendUint16(to, kind)
	to = append(to, value...)
	return append(to, make([]byte, -len(value)&3)...)
}

func TestParseNetlinkRefusal(t *testing.T) {
	refusal := binary.NativeEndian.AppendUint32(nil, uint32(0xffffffff-uint32(unix.ENETUNREACH)+1))
	packet := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(refusal)))
	packet = binary.NativeEndian.AppendUint16(packet, unix.NLMSG_ERROR)
	packet = append(append(packet, make([]byte, 10)...), refusal...)
	if _, err := parseNetlink(packet, unix.RTM_NEWROUTE); err != syscall.Errno(unix.ENETUNREACH) {
		t.Errorf("error %v, want %v", err, unix.ENETUNREACH)
	}
	for _, packet := range [][]byte{nil, packet[:7], packet[:16]} {
		if payload, err := parseNetlink(packet, unix.RTM_NEWROUTE); err == nil {
			t.Errorf("%x gives %x", packet, payload)
		}
	}
}

// FuzzAttributes checks that attributes are parts of the payload, in its order,
// and that the request's own come back.
func FuzzAttributes(f *testing.F) {
	f.Add(routeRequest(anywhere), unix.SizeofRtMsg)
	f.Add([]byte{3, 0, 1, 0, 4, 0, 1, 0}, 0)
	f.Add([]byte{8, 0, 1, 0, 4, 0, 1}, 100)
	f.Fuzz(func(t *testing.T, payload []byte, skip int) {
		if skip < 0 {
			return
		}
		total := 0
		for _, value := range attributes(payload, skip) {
			total += unix.SizeofRtAttr + len(value)
			if !bytes.Contains(payload, value) {
				t.Fatalf("%x is no part of %x", value, payload)
			}
		}
		if total > max(0, len(payload)-skip) {
			t.Fatalf("%d bytes of attributes in %d", total, len(payload))
		}
		if r := parseRoute(payload); r.gateway.IsValid() && !bytes.Contains(payload, r.gateway.AsSlice()) {
			t.Fatalf("gateway %s is no part of %x", r.gateway, payload)
		}
		parseLink(payload)
	})
}
