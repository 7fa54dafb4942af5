// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// defaultWAN is where nodes on the internet reach this one.
const defaultWAN = ":9978"

// sockets are one port, of TCP and UDP: what is announced for the one is learnt
// by the other.
type sockets struct {
	tcp        net.Listener // nil: not asked for
	udp4, udp6 net.PacketConn
	port       uint16
}

// anyPortTries is how often a port that the kernel has chosen may be taken for
// the other protocol.
const anyPortTries = 16

// openSockets opens addr, or the default where that is empty; errPortTaken tells
// that somebody has it. Files says whether TCP is needed. The caller closes them.
func openSockets(ctx context.Context, addr string, files bool) (*sockets, error) {
	host, port, err := net.SplitHostPort(cmp.Or(addr, defaultWAN))
	if err != nil {
		return nil, fmt.Errorf("wan-listen: %w", err)
	}
	for try := 1; ; try++ {
		s, err := openPort(ctx, host, port, files)
		if err == nil || port != "0" || try == anyPortTries || !errors.Is(err, syscall.EADDRINUSE) {
			return s, err
		}
	}
}

func openPort(ctx context.Context, host, port string, files bool) (*sockets, error) {
	s := &sockets{}
	if err := s.open(ctx, host, port, files); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// open opens UDP first: what the kernel chooses for it is mostly free for TCP.
func (s *sockets) open(ctx context.Context, host, port string, files bool) error {
	var err4, err6 error
	if s.udp4, err4 = listenUDP(ctx, "udp4", host, port); s.udp4 != nil {
		port = portOf(s.udp4.LocalAddr())
	}
	if s.udp6, err6 = listenUDP(ctx, "udp6", host, port); s.udp6 != nil {
		port = portOf(s.udp6.LocalAddr())
	}
	for _, err := range []error{err4, err6} {
		if errors.Is(err, syscall.EADDRINUSE) {
			return listenWANError(net.JoinHostPort(host, port), err)
		}
	}
	if s.udp4 == nil && s.udp6 == nil {
		return listenWANError(net.JoinHostPort(host, port), ofFamily(err4, err6))
	}
	n, _ := strconv.ParseUint(port, 10, 16)
	s.port = uint16(n)
	if !files {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return listenWANError(net.JoinHostPort(host, port), err)
	}
	s.tcp = l
	return nil
}

// listenUDP returns nil without an error that matters where the host is of the
// other family, or the machine has none of this one.
func listenUDP(ctx context.Context, network, host, port string) (net.PacketConn, error) {
	conn, err := new(net.ListenConfig).ListenPacket(ctx, network, net.JoinHostPort(host, port))
	if err != nil {
		return nil, err // not conn: a nil *net.UDPConn is not nil
	}
	return conn, nil
}

// ofFamily is the error of the family that the host is of.
func ofFamily(err4, err6 error) error {
	if wrong := (*net.AddrError)(nil); errors.As(err4, &wrong) {
		return err6
	}
	return err4
}

func portOf(addr net.Addr) string {
	_, port, _ := net.SplitHostPort(addr.String())
	return port
}

func (s *sockets) close() {
	if s.tcp != nil {
		s.tcp.Close()
	}
	for _, conn := range []net.PacketConn{s.udp4, s.udp6} {
		if conn != nil {
			conn.Close()
		}
	}
}

func listenWANError(addr string, err error) error {
	_, port, _ := net.SplitHostPort(addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		network := "tcp"
		if op := (*net.OpError)(nil); errors.As(err, &op) && strings.HasPrefix(op.Net, "udp") {
			network = "udp"
		}
		return fmt.Errorf("%w: %s: free the port, or choose another with --wan-listen", err, portOwners("/proc", network, port))
	}
	return fmt.Errorf("wan-listen: %w: name an address of this machine, or the port alone, as :9979", err)
}
