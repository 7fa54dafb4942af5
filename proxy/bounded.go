// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import "net"

// boundedListener accepts only as many TCP connections as there are slots,
// which several listeners may share; whoever ends a connection takes its token
// out of slots. netutil.LimitListener does the same, but hides
// the TCP connection that sendfile needs.
type boundedListener struct {
	net.Listener
	slots chan struct{}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if _, tcp := c.(*net.TCPConn); err != nil || !tcp {
		<-l.slots
	}
	return c, err
}
