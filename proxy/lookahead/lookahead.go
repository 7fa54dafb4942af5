// SPDX-License-Identifier: GPL-2.0-or-later

// Package lookahead shows an HTTP/1.1 server the requests that its clients
// have already pipelined (RFC 9112 §9.3.2) while it still answers an earlier
// one. net/http reads a connection's next request only after it has answered
// the one before, so without this each of apt's pipelined files would wait for
// the one before it.
//
// It wraps a listener. While a handler runs, net/http keeps one read of a
// single byte pending on the connection, to notice that the client has gone.
// [Conn] uses that read: it goes on reading from the socket, into a buffer of
// its own, until net/http ends the read. No goroutine is added and no deadline
// has to be emulated, and a Go release that watches connections otherwise
// would cost the look-ahead, never correctness. Each complete request head
// that passes is shown to the connection's [Sink].
//
// It is not a parser of requests: what it shows is a hint. The server still
// reads and judges every byte itself.
package lookahead

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxBuffered bounds the bytes read ahead of the server per connection:
	// some 250 of apt's requests.
	maxBuffered = 64 << 10

	// minRead is the room for which a read of the socket is worth its call.
	minRead = 4 << 10

	// maxHead bounds a request head that is put together from several reads.
	maxHead = 16 << 10
)

// A Sink is told what passes on one connection. Its methods must not block.
type Sink interface {
	// Seen is called for each request head, in order, as soon as its last byte
	// has been read; head is valid until Seen returns.
	Seen(head []byte)
	// Closed is called once when the connection is closed.
	Closed()
}

// Listener wraps accepted TCP connections.
type Listener struct {
	net.Listener
	// Sink makes the sink of a new connection.
	Sink func(net.Conn) Sink
}

// Accept implements net.Listener. Connections that are not TCP are passed
// through as they are, without look-ahead.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c, nil
	}
	return &Conn{TCPConn: tcp, Sink: l.Sink(tcp)}, nil
}

// Conn is a connection that reads ahead. It embeds the TCP connection, so that
// sendfile goes on working. Like the server, it has one reader at a time. The
// server must have a ReadHeaderTimeout.
type Conn struct {
	*net.TCPConn
	Sink Sink

	buf  []byte // read from the socket, not yet by the server
	err  error  // what ended the socket's stream, told once buf is empty
	scan scanner

	// inHead: a deadline is set, as the server does while it waits for a request
	// or reads its head, and not while a handler runs.
	inHead atomic.Bool

	closed sync.Once
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.inHead.Store(!t.IsZero())
	return c.TCPConn.SetReadDeadline(t)
}

// Read implements net.Conn. A read of one byte is the server's watch over the
// connection: it is held, reading ahead, until its deadline or the stream ends.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 1 && !c.inHead.Load() {
		return c.watch(p)
	}
	if len(c.buf) > 0 {
		return c.take(p), nil
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.TCPConn.Read(p)
	c.scan.feed(p[:n], c.Sink)
	return n, err
}

// watch reads ahead until the server ends the read, then returns at most one
// byte. What a timeout leaves in the buffer is for later reads.
func (c *Conn) watch(p []byte) (int, error) {
	for c.err == nil && maxBuffered-len(c.buf) >= minRead {
		if err := c.fill(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return 0, err
			}
			c.err = err
		}
	}
	if c.err != nil {
		// A client that has closed its side has gone, as net/http sees it, too;
		// what it had pipelined is wanted no more.
		c.buf = nil
		return 0, c.err
	}
	return c.take(p), nil
}

// fill reads what the socket has into buf.
func (c *Conn) fill() error {
	if cap(c.buf)-len(c.buf) < minRead {
		grown := make([]byte, len(c.buf), min(2*cap(c.buf)+minRead, maxBuffered))
		copy(grown, c.buf)
		c.buf = grown
	}
	n, err := c.TCPConn.Read(c.buf[len(c.buf):cap(c.buf)])
	c.scan.feed(c.buf[len(c.buf):len(c.buf)+n], c.Sink)
	c.buf = c.buf[:len(c.buf)+n]
	return err
}

// take moves buffered bytes to p.
func (c *Conn) take(p []byte) int {
	n := copy(p, c.buf)
	c.buf = c.buf[n:]
	if len(c.buf) == 0 {
		c.buf = nil
	}
	return n
}

// WriteTo implements io.WriterTo for a hijacked connection: first what was read
// ahead, then the socket.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(c.buf)
	c.buf = c.buf[n:]
	if err != nil || c.err != nil {
		return int64(n), errors.Join(err, notEOF(c.err))
	}
	m, err := c.TCPConn.WriteTo(w)
	return int64(n) + m, err
}

func notEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	err := c.TCPConn.Close()
	c.closed.Do(c.Sink.Closed)
	return err
}

// scanner cuts a stream into request heads.
type scanner struct {
	partial []byte // a head whose end has not come yet
	off     bool   // gave up: what follows may be no request
}

var endOfHead = []byte("\r\n\r\n")

// feed shows sink each head that ends in b.
func (s *scanner) feed(b []byte, sink Sink) {
	for len(b) > 0 && !s.off {
		end := s.findEnd(b)
		if end < 0 {
			s.keep(b)
			return
		}
		head := b[:end]
		if len(s.partial) > 0 {
			head = append(s.partial, b[:end]...)
		}
		s.partial = nil
		b = b[end:]
		s.show(head, sink)
	}
}

// findEnd finds the blank line, which may have begun in partial, and returns
// where it ends in b, -1 if it does not.
func (s *scanner) findEnd(b []byte) int {
	if n := min(len(s.partial), len(endOfHead)-1); n > 0 {
		var join [2 * 4]byte
		seam := append(append(join[:0], s.partial[len(s.partial)-n:]...), b[:min(len(b), len(endOfHead)-1)]...)
		if i := bytes.Index(seam, endOfHead); i >= 0 {
			return i + len(endOfHead) - n
		}
	}
	if i := bytes.Index(b, endOfHead); i >= 0 {
		return i + len(endOfHead)
	}
	return -1
}

func (s *scanner) keep(b []byte) {
	if len(s.partial)+len(b) > maxHead {
		s.off, s.partial = true, nil
		return
	}
	s.partial = append(s.partial, b...)
}

// show passes a head on. After a method that may carry a body, or that turns
// the connection into a tunnel, the stream is no longer cut.
func (s *scanner) show(head []byte, sink Sink) {
	if !bytes.HasPrefix(head, []byte("GET ")) {
		s.off = true
		return
	}
	sink.Seen(head)
}
