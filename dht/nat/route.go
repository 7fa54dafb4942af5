// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// anywhere is an address on the internet, a root name server's, to ask the
// kernel for the way to. Nothing is sent there.
var anywhere = netip.AddrFrom4([4]byte{198, 41, 0, 4})

// lanKinds are the kinds of network interface (IFLA_INFO_KIND) that can have a
// home router behind them; hardware has none. Whatever else looks like Ethernet
// is a tunnel or may be one: tap, vxlan, gretap, …
var lanKinds = []string{"", "bond", "bridge", "ipvlan", "macvlan", "openvswitch", "team", "veth", "vlan"}

// route is the way that IPv4 packets to the internet take; the zero route means
// that there is none.
type route struct {
	gateway netip.Addr // invalid if the interface is the way's end
	local   netip.Addr // the source address
	nic     int        // the interface's index
	name    string
	lan     bool // the interface is like Ethernet
}

// obstacle says why no router is to be asked, or nothing if one is.
func (r route) obstacle() string {
	switch {
	case r == route{}:
		return "this machine has no default route for IPv4, so there is no router to ask"
	case isPublic(r.local):
		return fmt.Sprintf("this machine's own address %s is public, so it needs no port mapping", r.local)
	case !r.lan:
		return fmt.Sprintf("the default route goes through %s, which looks like a VPN: no port is mapped there", r.name)
	case !r.gateway.IsValid() || !r.local.IsValid():
		return fmt.Sprintf("the default route goes through %s to no router: there is none to ask", r.name)
	}
	return ""
}

// findRoute asks the kernel. Its answer, unlike the table of routes, takes
// heed of VPNs that have rules or two halves of the default route.
func findRoute() (route, error) {
	conn, err := dialNetlink()
	if err != nil {
		return route{}, fmt.Errorf("ask the kernel for the default route: %w", err)
	}
	defer conn.close()
	answer, err := conn.ask(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, routeRequest(anywhere))
	if slices.ContainsFunc(noRoute, func(no syscall.Errno) bool { return errors.Is(err, no) }) {
		return route{}, nil
	}
	if err != nil {
		return route{}, fmt.Errorf("ask the kernel for the default route: %w", err)
	}
	r := parseRoute(answer)
	link, err := conn.ask(unix.RTM_GETLINK, unix.RTM_NEWLINK, linkRequest(r.nic))
	if err != nil {
		return route{}, fmt.Errorf("ask the kernel for the network interface of the default route: %w", err)
	}
	r.name, r.lan = parseLink(link)
	return r, nil
}

// noRoute are the answers if there is none, or one of type unreachable,
// prohibit, throw or blackhole.
var noRoute = []syscall.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EAGAIN, unix.EINVAL}

// routeRequest is a struct rtmsg with the destination (rtnetlink(7)).
func routeRequest(to netip.Addr) []byte {
	request := make([]byte, unix.SizeofRtMsg, unix.SizeofRtMsg+unix.SizeofRtAttr+4)
	request[0] = unix.AF_INET
	request[1] = 32 // rtm_dst_len
	request = binary.NativeEndian.AppendUint16(request, unix.SizeofRtAttr+4)
	request = binary.NativeEndian.AppendUint16(request, unix.RTA_DST)
	return append(request, to.AsSlice()...)
}

// linkRequest is a struct ifinfomsg.
func linkRequest(nic int) []byte {
	request := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(request[4:], uint32(nic))
	return request
}

// parseRoute reads the payload of an RTM_NEWROUTE.
func parseRoute(payload []byte) route {
	var r route
	for kind, value := range attributes(payload, unix.SizeofRtMsg) {
		switch kind {
		case unix.RTA_GATEWAY:
			r.gateway, _ = netip.AddrFromSlice(value)
		case unix.RTA_PREFSRC:
			r.local, _ = netip.AddrFromSlice(value)
		case unix.RTA_OIF:
			if len(value) == 4 {
				r.nic = int(binary.NativeEndian.Uint32(value))
			}
		}
	}
	return r
}

// parseLink reads the payload of an RTM_NEWLINK.
func parseLink(payload []byte) (name string, lan bool) {
	if len(payload) < unix.SizeofIfInfomsg {
		return "", false
	}
	kind := ""
	for attribute, value := range attributes(payload, unix.SizeofIfInfomsg) {
		switch attribute {
		case unix.IFLA_IFNAME:
			name = unix.ByteSliceToString(value)
		case unix.IFLA_LINKINFO:
			kind = linkKind(value)
		}
	}
	hardware := binary.NativeEndian.Uint16(payload[2:])
	flags := binary.NativeEndian.Uint32(payload[8:])
	lan = hardware == unix.ARPHRD_ETHER && flags&(unix.IFF_POINTOPOINT|unix.IFF_LOOPBACK) == 0 &&
		slices.Contains(lanKinds, kind)
	return name, lan
}

func linkKind(info []byte) string {
	for attribute, value := range attributes(info, 0) {
		if attribute == unix.IFLA_INFO_KIND {
			return unix.ByteSliceToString(value)
		}
	}
	return ""
}
