// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"apt-dht/proxy/peer"
)

const (
	// maxConns bounds the connections that are open, maxConnsEach those of one
	// site, which may be several nodes. Strangers take no more than a part of
	// filesShare of the file descriptors: the rest is for apt, the local network
	// and the disk.
	maxConns     = 512
	maxConnsEach = 24
	filesShare   = 4

	// headTimeout is how long a request's head may take; idleTimeout, how long
	// a connection may wait for one: longer than idleConn.
	headTimeout = 5 * time.Second
	idleTimeout = time.Minute
	// writeTimeout is how long our answer may take from the request's head on, but
	// for blobs, which have times of their own.
	writeTimeout = 20 * time.Second

	maxHead = 8 << 10
)

// Serve has h answer those who connect to l, until ctx ends; it closes l. A nil h is
// [Node.Handler]. Of what does
// not begin as HTTP does, such as BitTorrent's handshakes and TLS, it closes the
// connection without an answer. It may be called for several listeners.
func (n *Node) Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	if h == nil {
		h = n.Handler()
	}
	server := &http.Server{
		Handler:           inTime(h),
		ReadHeaderTimeout: headTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHead,
		ErrorLog:          log.New(debugLog{n.cfg.Log}, "", 0),
	}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	err := server.Serve(&listener{Listener: l, conns: peer.NewLimits(connsAllowed(), maxConnsEach)})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	server.Close()
	return fmt.Errorf("wan: listener %s: %w", l.Addr(), err)
}

// connsAllowed looks at the soft limit, which Go has raised to the hard one.
func connsAllowed() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return maxConns
	}
	return connsOf(files.Cur)
}

func connsOf(files uint64) int { return int(min(maxConns, files/filesShare)) }

// inTime has a body arrive in time, also where net/http reads what nobody wanted.
func inTime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(peer.BodyTimeout))
		}
		next.ServeHTTP(w, r)
	})
}

// debugLog takes what net/http has to say of strangers.
type debugLog struct{ log *slog.Logger }

func (l debugLog) Write(p []byte) (int, error) {
	l.log.Debug("a connection from the internet", "err", string(p))
	return len(p), nil
}

// listener bounds the connections that are open.
type listener struct {
	net.Listener
	conns *peer.Limits
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			return c, nil
		}
		site := siteOf(tcp.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
		if l.conns.Take(site) {
			return &conn{TCPConn: tcp, release: sync.OnceFunc(func() { l.conns.Put(site) })}, nil
		}
		c.Close()
	}
}

// conn is a connection that is over when it does not begin as HTTP does. It is a
// TCPConn so that files go out by sendfile.
type conn struct {
	*net.TCPConn
	release func()
	read    bool // something has been, by the one goroutine that reads
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n == 0 || c.read {
		return n, err
	}
	c.read = true
	if p[0] != 'G' && p[0] != 'H' && p[0] != 'P' { // GET, HEAD, POST
		return 0, io.EOF
	}
	return n, err
}

func (c *conn) Close() error {
	c.release()
	return c.TCPConn.Close()
}
