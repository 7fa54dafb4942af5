// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"apt-dht/proxy/lookahead"
)

// An answer that is under way when the node is stopped is finished.
func TestShutdownFinishesAnswers(t *testing.T) {
	g := newGate(t, random(1, 200_000))
	a := newArchive(t, g.ServeHTTP)
	n := newNode(t, setup{})
	n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": g.data}})
	idle, running := n.dial(), n.dial()
	idle.send(aptRequest("/~/v1/status"))
	idle.answer("GET")
	running.send(aptRequest(a.url("pool/x.deb")))
	_, err := running.r.Peek(1)
	check(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- n.stop() }()
	if _, err := idle.r.ReadByte(); err != io.EOF {
		t.Errorf("an idle connection ended with %v", err)
	}
	if c, err := net.Dial("tcp", n.addr); err == nil {
		c.Close()
		t.Error("new connections are accepted still")
	}
	g.open()
	running.answer("GET").want(t, 200, g.data)
	check(t, <-stopped)
}

// One that is not done in time is cut short of its length.
func TestShutdownCutsWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	g := newGate(t, random(1, 200_000))
	a := newArchive(t, g.ServeHTTP)
	chunked := newArchive(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-t.Context().Done():
		}
	})
	n := newNode(t, setup{})
	n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": g.data}})
	var conns []*client
	for _, target := range []string{a.url("pool/x.deb"), a.url("file"), chunked.url("file")} {
		c := n.dial()
		c.send(aptRequest(target))
		_, err := c.r.Peek(1)
		check(t, err)
		conns = append(conns, c)
	}
	waiting := n.dial() // for a root that does not come
	silent := newArchive(t, g.ServeHTTP)
	waiting.send(aptRequest(silent.url(inRelease)))
	eventually(t, "all are asked for", func() bool { return len(silent.requests()) == 1 })
	began := time.Now()
	check(t, n.stop())
	if took := time.Since(began); took < shutdownGrace || took > 2*shutdownGrace {
		t.Errorf("the stop took %v", took)
	}
	for _, c := range conns {
		got := c.answer("GET")
		if got.StatusCode != 200 || got.cut == nil || len(got.body) >= 200_000 {
			t.Errorf("an answer cut off looks complete: %s, %d bytes", got.Status, len(got.body))
		}
	}
	if b, _ := io.ReadAll(waiting.r); len(b) > 0 {
		t.Errorf("who waited was answered %q", b)
	}
}

// A listener that fails ends the node, and its error is told.
func TestRunEndsWithItsListener(t *testing.T) {
	n := newNode(t, setup{})
	good, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	s := New(n.cfg)
	broken := errors.New("out of sockets")
	if err := s.Run(t.Context(), []net.Listener{good, &brokenListener{broken}}); !errors.Is(err, broken) {
		t.Errorf("Run ended with %v", err)
	}
	if _, err := net.Dial("tcp", good.Addr().String()); err == nil {
		t.Error("the other listener is open still")
	}
}

type brokenListener struct{ err error }

func (l *brokenListener) Accept() (net.Conn, error) { return nil, l.err }
func (l *brokenListener) Close() error              { return nil }
func (l *brokenListener) Addr() net.Addr            { return &net.TCPAddr{} }

// One address cannot take all connections.
func TestConnectionsOfOneAddress(t *testing.T) {
	n := newNode(t, setup{})
	for range maxConnsEach {
		n.dialFrom("127.0.0.2")
	}
	if b, err := io.ReadAll(n.dialFrom("127.0.0.2").r); err == nil && len(b) > 0 {
		t.Errorf("one too many was answered %q", b)
	}
	n.get("/~/v1/status") // from another address
}

// More connections than a node serves at a time wait for their turn.
func TestConnectionsWaitForASlot(t *testing.T) {
	n := newNode(t, setup{})
	var open []*client
	for i := range maxConns {
		open = append(open, n.dialFrom(fmt.Sprintf("127.0.0.%d", 2+i/maxConnsEach)))
	}
	for _, c := range []*client{open[0], open[maxConns-1]} {
		c.send(aptRequest("/~/v1/status"))
		if got := c.answer("GET"); got.StatusCode != 200 {
			t.Error(got.Status)
		}
	}
	late := n.dial()
	late.send(aptRequest("/~/v1/status"))
	check(t, late.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if _, err := late.r.ReadByte(); err == nil {
		t.Fatalf("connection %d is served at once", maxConns+1)
	}
	check(t, late.SetReadDeadline(time.Now().Add(patience)))
	open[0].Close()
	if got := late.answer("GET"); got.StatusCode != 200 {
		t.Error(got.Status)
	}
	for _, c := range open {
		c.Close()
	}
}

// A head that is too large is refused before it is all here.
func TestLargeHead(t *testing.T) {
	n := newNode(t, setup{})
	for _, big := range []string{
		aptRequest("/h.example/" + strings.Repeat("x", 2*maxHeader)),
		aptRequest("/h.example/x", "X-Big: "+strings.Repeat("x", 2*maxHeader)),
		aptRequest("/h.example/x", strings.Split(strings.Repeat("X: y\n", maxHeader), "\n")[:maxHeader]...),
	} {
		c := n.dial()
		c.Write([]byte(big)) // may fail: it need not be read to its end
		b := make([]byte, len("HTTP/1.1 431"))
		if _, err := io.ReadFull(c.r, b); err != nil || string(b) != "HTTP/1.1 431" {
			t.Errorf("a head of %d bytes: %q, %v", len(big), b, err)
		}
	}
}

// pipes is a listener whose clients are in the same bubble of time.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return &remoteConn{c, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:40000"))}, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// runInBubble runs a server that has nothing but its clients' time to keep.
func runInBubble(t *testing.T, test func(dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Allows: func(netip.Addr) bool { return true }, Egress: &Egress{}, Log: slog.New(slog.DiscardHandler)})
		l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, []net.Listener{l}) }()
		test(func() net.Conn {
			here, there := net.Pipe()
			l.conns <- there
			return here
		})
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Whoever sends a request byte by byte has headTimeout for all of it.
func TestSlowHead(t *testing.T) {
	runInBubble(t, func(dial func() net.Conn) {
		c := dial()
		go io.Copy(io.Discard, c)
		began := time.Now()
		for _, err := c.Write([]byte("GET / HTTP/1.1\r\n")); err == nil; _, err = c.Write([]byte("X")) {
			time.Sleep(time.Second)
		}
		if took := time.Since(began).Round(time.Second); took < headTimeout || took > headTimeout+time.Second {
			t.Errorf("a slow head was given %v, want %v", took, headTimeout)
		}
	})
}

func TestIdleConnections(t *testing.T) {
	runInBubble(t, func(dial func() net.Conn) {
		silent, kept := dial(), dial()
		began := time.Now()
		go io.WriteString(kept, aptRequest("/~/nothing/*", "OPTIONS"))
		for _, c := range []net.Conn{silent, kept} {
			io.Copy(io.Discard, c)
			if took := time.Since(began); took > idleTimeout+time.Second {
				t.Errorf("an idle connection was kept for %v", took)
			}
		}
	})
}

// A client that takes nothing does not hold its answer for ever: the kernel is told so.
func TestClientThatTakesNothing(t *testing.T) {
	n := newNode(t, setup{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	check(t, err)
	defer client.Close()
	c, err := n.wrap(l, newSlots()).Accept()
	check(t, err)
	defer c.Close()
	raw, err := c.(*lookahead.Conn).SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) {
		ms, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		if err != nil || time.Duration(ms)*time.Millisecond != writeStall {
			t.Errorf("TCP_USER_TIMEOUT: %d ms, %v", ms, err)
		}
	}))
}
