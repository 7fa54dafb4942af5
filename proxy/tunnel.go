// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// tunnels are the CONNECT tunnels that are open. The HTTP server no longer
// knows of their connections, so they are ended here.
type tunnels struct {
	mu     sync.Mutex // guards following
	open   map[net.Conn]net.Conn
	closed bool
	wg     sync.WaitGroup
}

// run copies both ways until both sides have ended or one has been idle too
// long. fromClient reads what the client has sent, client's buffer first.
func (ts *tunnels) run(client net.Conn, fromClient io.Reader, origin net.Conn) {
	if !ts.add(client, origin) {
		return
	}
	defer ts.remove(client)
	var wg sync.WaitGroup
	var idle idleClock
	idle.touch()
	wg.Go(func() { pump(origin, fromClient, client, &idle) })
	pump(client, origin, origin, &idle)
	wg.Wait()
}

// idleClock tells when something last went through a tunnel, either way.
type idleClock struct{ last atomic.Int64 }

func (c *idleClock) touch() { c.last.Store(time.Now().UnixNano()) }

// left is how long the tunnel may stay idle from now on.
func (c *idleClock) left() time.Duration {
	return time.Until(time.Unix(0, c.last.Load()).Add(tunnelIdle))
}

// pump copies until src ends, then tells dst so; from is what src reads.
func pump(dst net.Conn, src io.Reader, from net.Conn, idle *idleClock) {
	buf := make([]byte, 32<<10)
	for {
		from.SetReadDeadline(time.Now().Add(max(idle.left(), time.Second)))
		n, err := src.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) && idle.left() > 0 {
			continue // the other way is busy
		}
		if n > 0 {
			idle.touch()
			dst.SetWriteDeadline(time.Now().Add(tunnelIdle))
			if _, werr := dst.Write(buf[:n]); werr != nil {
				from.Close()
				return
			}
		}
		if err != nil {
			closeWrite(dst, err)
			return
		}
	}
}

// closeWrite passes on the end of a stream; anything else ends the tunnel.
func closeWrite(dst net.Conn, err error) {
	half, ok := dst.(interface{ CloseWrite() error })
	if err != io.EOF || !ok {
		dst.Close()
		return
	}
	half.CloseWrite()
}

func (ts *tunnels) add(client, origin net.Conn) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed {
		return false
	}
	if ts.open == nil {
		ts.open = map[net.Conn]net.Conn{}
	}
	ts.open[client] = origin
	ts.wg.Add(1)
	return true
}

func (ts *tunnels) remove(client net.Conn) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.open, client)
	ts.wg.Done()
}

// close ends all tunnels and waits for them.
func (ts *tunnels) close() {
	ts.mu.Lock()
	ts.closed = true
	for client, origin := range ts.open {
		client.Close()
		origin.Close()
	}
	ts.mu.Unlock()
	ts.wg.Wait()
}
