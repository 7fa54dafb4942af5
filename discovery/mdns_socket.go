// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

const mdnsPort = 5353

var (
	group4 = netip.MustParseAddr("224.0.0.251")
	group6 = netip.MustParseAddr("ff02::fb")
)

// socket sends to and hears the mDNS group of one IP version on one interface.
//
// It is bound to the group's address, so that it takes no unicast packet from
// an Avahi or systemd-resolved on the same port. Package net would bind to the
// wildcard address instead and, with several interfaces, deliver the packets of
// each to every socket.
type socket struct {
	*net.UDPConn
	group netip.AddrPort
}

func listenGroup(n nic, v4 bool) (*socket, error) {
	group, open := group6, open6
	if v4 {
		group, open = group4, open4
	}
	fd, err := open(n.Index)
	if err != nil {
		return nil, fmt.Errorf("listen to mDNS group %s on %s: %w", group, n.Name, err)
	}
	file := os.NewFile(uintptr(fd), "mdns "+n.Name)
	defer file.Close() // FilePacketConn has a duplicate
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, fmt.Errorf("listen to mDNS group %s on %s: %w", group, n.Name, err)
	}
	if !v4 {
		group = group.WithZone(n.Name)
	}
	return &socket{conn.(*net.UDPConn), netip.AddrPortFrom(group, mdnsPort)}, nil
}

// option is a socket option to be set.
type option struct{ level, name, value int }

func open4(index int) (int, error) {
	return open(unix.AF_INET, []option{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0}, // only of the interface joined on
		{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 255},
		{unix.IPPROTO_IP, unix.IP_TTL, 255},
	}, func(fd int) error {
		where := unix.IPMreqn{Multiaddr: group4.As4(), Ifindex: int32(index)}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: mdnsPort, Addr: group4.As4()}); err != nil {
			return os.NewSyscallError("bind", err)
		}
		if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &where); err != nil {
			return os.NewSyscallError("choose interface", err)
		}
		return os.NewSyscallError("join group", unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &where))
	})
}

func open6(index int) (int, error) {
	return open(unix.AF_INET6, []option{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255},
		{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index},
	}, func(fd int) error {
		// The zone binds the socket to the interface, for what comes and goes.
		if err := unix.Bind(fd, &unix.SockaddrInet6{Port: mdnsPort, Addr: group6.As16(), ZoneId: uint32(index)}); err != nil {
			return os.NewSyscallError("bind", err)
		}
		where := unix.IPv6Mreq{Multiaddr: group6.As16(), Interface: uint32(index)}
		return os.NewSyscallError("join group", unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &where))
	})
}

func open(family int, options []option, bind func(fd int) error) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			unix.Close(fd)
			return -1, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := bind(fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
