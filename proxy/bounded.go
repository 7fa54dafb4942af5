// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// slots bound the open connections, of all and of each client address.
type slots struct {
	all chan struct{}

	mu   sync.Mutex // guards following
	each map[netip.Addr]int
}

func newSlots() *slots {
	return &slots{all: make(chan struct{}, maxConns), each: map[netip.Addr]int{}}
}

// take counts a connection of client, and tells whether it may stay.
func (s *slots) take(client netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.each[client] >= maxConnsEach {
		return false
	}
	s.each[client]++
	return true
}

// put gives back a connection's slot.
func (s *slots) put(client netip.Addr) {
	s.mu.Lock()
	if s.each[client]--; s.each[client] == 0 {
		delete(s.each, client)
	}
	s.mu.Unlock()
	<-s.all
}

// limitStall has the kernel end the connection when the client has taken
// nothing for writeStall (tcp(7), TCP_USER_TIMEOUT). A write deadline would have
// to be moved before each write, which costs a small answer some per cent.
func limitStall(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(writeStall.Milliseconds()))
	})
}

// boundedListener accepts only as many TCP connections as there are slots,
// which several listeners may share; whoever ends a connection gives its slot
// back. A client that has too many is closed upon, others wait in the kernel's
// queue. netutil.LimitListener does something like it, but hides the TCP
// connection that sendfile needs.
type boundedListener struct {
	net.Listener
	slots *slots
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		l.slots.all <- struct{}{}
		c, err := l.Listener.Accept()
		if _, tcp := c.(*net.TCPConn); err != nil || !tcp {
			<-l.slots.all
			return c, err
		}
		if l.slots.take(addrOf(c.RemoteAddr().String())) {
			limitStall(c.(*net.TCPConn)) // one that has gone already fails by itself
			return c, nil
		}
		<-l.slots.all
		c.Close()
	}
}
