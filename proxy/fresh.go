// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"net"
	"net/http"
	"sync"
)

// freshConns are the connections on which nothing has been asked yet. Clients
// make some in advance, and http.Server.Shutdown waits five seconds for them.
type freshConns struct {
	mu     sync.Mutex // guards following
	closed bool
	conns  map[net.Conn]struct{}
}

// note is the server's ConnState.
func (f *freshConns) note(c net.Conn, state http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if state != http.StateNew {
		delete(f.conns, c)
		return
	}
	if f.closed {
		c.Close()
		return
	}
	if f.conns == nil {
		f.conns = map[net.Conn]struct{}{}
	}
	f.conns[c] = struct{}{}
}

// close ends them, and those that come later. A request that is just arriving
// on one is lost with it: the client sends it again elsewhere.
func (f *freshConns) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.conns {
		c.Close()
	}
}
