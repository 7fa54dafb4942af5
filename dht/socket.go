// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
)

// socket is the UDP socket of one address family. It alone reads and writes, and
// decides what the rest gets to see: strangers' queries go to query, answers to
// what we asked go to the library through a port.
type socket struct {
	conn     net.PacketConn
	ipv4     bool
	private  bool
	log      *slog.Logger
	contacts *contacts
	budget   *budget
	query    func(from netip.AddrPort, m *krpc.Msg, eager bool) // eager: beyond its due

	port atomic.Pointer[port] // of the current server

	packetsIn, packetsOut, bytesIn, bytesOut atomic.Uint64
}

// maxReadPause is the longest pause between attempts at a socket that fails.
const maxReadPause = time.Second

// read takes in packets until ctx ends, and then closes the socket. A read that
// fails is tried again: an interface may go and come back.
func (s *socket) read(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	floods := newFloods()
	buffer := make([]byte, maxPacket+1)
	pause := time.Millisecond
	for {
		n, addr, err := s.conn.ReadFrom(buffer)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			pause = time.Millisecond
			s.take(buffer[:n], addr, floods)
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("the DHT's UDP socket %v was closed by others: %w", s.conn.LocalAddr(), err)
		case errors.Is(err, os.ErrDeadlineExceeded):
		default:
			s.log.Debug("reading from the DHT's socket", slog.Any("error", err))
			sleep(ctx, pause)
			pause = min(2*pause, maxReadPause)
		}
	}
}

// sleep returns after d, or as soon as ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (s *socket) take(b []byte, addr net.Addr, floods *floods) {
	s.packetsIn.Add(1)
	s.bytesIn.Add(uint64(len(b)))
	from, ok := udpAddrPort(addr)
	if !ok || !s.talksTo(from) || len(b) > maxPacket {
		return
	}
	unasked := 0
	expected := s.contacts.expected(from)
	if !expected {
		unasked = floods.count(owner(from, s.private))
	}
	if unasked > maxUnasked {
		return
	}
	m, err := decode(b)
	if err == nil && m.Y != krpc.YQuery && s.contacts.answered(from, m.T) {
		s.budget.spend()
		if p := s.port.Load(); p != nil {
			p.deliver(b, from)
		}
		return
	}
	if expected { // but this is no answer
		unasked = floods.count(owner(from, s.private))
	}
	if err == nil && m.Y == krpc.YQuery && unasked <= maxUnasked {
		s.query(from, &m, unasked > fewUnasked)
	}
}

func (s *socket) talksTo(addr netip.AddrPort) bool {
	return addr.Addr().Is4() == s.ipv4 && Allowed(addr, s.private)
}

var errForbidden = errors.New("not an address of a DHT node")

func (s *socket) send(b []byte, to netip.AddrPort) (int, error) {
	if !s.talksTo(to) {
		return 0, fmt.Errorf("%v: %w", to, errForbidden)
	}
	s.packetsOut.Add(1)
	s.bytesOut.Add(uint64(len(b)))
	return s.conn.WriteTo(b, net.UDPAddrFromAddrPort(to))
}

// open gives a new server its port. The former port gets no more packets.
func (s *socket) open() *port {
	p := &port{socket: s, in: make(chan packet, portBacklog), closed: make(chan struct{})}
	s.port.Store(p)
	return p
}

// portBacklog is how many answers may wait for the server; the rest is lost, as
// in the network.
const portBacklog = 128

type packet struct {
	bytes []byte
	from  netip.AddrPort
}

// port is what one server of the library takes for its socket. The library
// panics at a read error before it is closed itself: the only one it gets is
// that of its own Close.
type port struct {
	socket *socket
	in     chan packet
	once   sync.Once
	closed chan struct{}
}

func (p *port) deliver(b []byte, from netip.AddrPort) {
	select {
	case p.in <- packet{append([]byte(nil), b...), from}:
	default:
	}
}

func (p *port) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case got := <-p.in:
		return copy(b, got.bytes), net.UDPAddrFromAddrPort(got.from), nil
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo sends a query, the only thing a server has to send: it gets none to
// answer.
func (p *port) WriteTo(b []byte, addr net.Addr) (int, error) {
	select {
	case <-p.closed:
		return 0, net.ErrClosed
	default:
	}
	to, ok := udpAddrPort(addr)
	if !ok {
		return 0, fmt.Errorf("%v: %w", addr, errForbidden)
	}
	question, err := decode(b)
	if err != nil {
		return 0, err
	}
	p.socket.contacts.asking(to, question.T)
	p.socket.budget.spend()
	return p.socket.send(b, to)
}

func (p *port) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *port) LocalAddr() net.Addr { return p.socket.conn.LocalAddr() }

// The library sets no deadlines.
func (*port) SetDeadline(time.Time) error      { return nil }
func (*port) SetReadDeadline(time.Time) error  { return nil }
func (*port) SetWriteDeadline(time.Time) error { return nil }
