// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"encoding/hex"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"apt-dht/proxy/fetch"
	"apt-dht/proxy/lookahead"
)

// respond answers with the content: whole, a range of it, or 304.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, a *ask, c *fetch.Content) {
	h := w.Header()
	h["X-Apt-Dht-Source"] = sourceField(c.Source)
	h["Via"] = s.viaField
	h["Content-Type"] = []string{contentType(a.name, c)}
	disarm(h)
	if (c.Digest != fetch.Digest{}) {
		h["Etag"] = []string{etag(c.Digest)}
	}
	if a.known() && s.cfg.Fetch.WholeOnly(a.entry.Digest) {
		r.Header.Del("Range")
	}
	if c.Direct() && strings.Contains(r.Header.Get("Range"), ",") {
		r.Header.Del("Range") // each of many ranges would be a question to the mirror
	}
	out := &meter{ResponseWriter: w, total: s.counters.to(c.Source)}
	switch {
	case c.Size < 0:
		stream(out, r, c)
	case c.File() != nil:
		widen(r, c.Size)
		http.ServeContent(out, r, "", c.Modified, c.File())
	default:
		http.ServeContent(out, r, "", c.Modified, c)
	}
	s.logAnswer(r, a.url, c.Source, out.n)
}

// sendBuffer is the kernel's buffer for a large file, in bytes: with the few
// that it starts with, sendfile has to be called anew for each, which costs a
// fifth of the rate on a fast LAN. The kernel grants no more than
// net.core.wmem_max.
const sendBuffer = 1 << 20

// widen prepares the request's connection for a file of that size.
func widen(r *http.Request, size int64) {
	if c, ok := r.Context().Value(connKey{}).(*lookahead.Conn); ok && size > sendBuffer {
		c.SetWriteBuffer(sendBuffer) // as well as the kernel lets us
	}
}

// logAnswer is the access log, at level debug.
func (s *Server) logAnswer(r *http.Request, url, source string, sent int64) {
	if s.log.Enabled(r.Context(), slog.LevelDebug) {
		s.log.Debug("answered", "client", r.RemoteAddr, "url", url, "source", source, "bytes", sent, "range", r.Header.Get("Range"))
	}
}

// stream passes on an answer whose length the mirror did not tell. One that
// breaks must not look complete.
func stream(w *meter, r *http.Request, c *fetch.Content) {
	if !c.Modified.IsZero() {
		w.Header().Set("Last-Modified", c.Modified.UTC().Format(http.TimeFormat))
	}
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.follow(c); err != nil {
		abort(w, r)
	}
}

// abort ends the connection so that the client cannot take the answer for
// complete: HTTP/1.0 has no other sign of it than a reset.
func abort(w http.ResponseWriter, r *http.Request) {
	if r.ProtoAtLeast(1, 1) {
		panic(http.ErrAbortHandler)
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if c, ok := conn.(interface{ SetLinger(int) error }); ok {
		c.SetLinger(0)
	}
	conn.Close()
}

// Fields that all answers share; nobody may change them.
var (
	storeField  = []string{fetch.FromStore}
	lanField    = []string{fetch.FromLAN}
	wanField    = []string{fetch.FromWAN}
	mirrorField = []string{fetch.FromMirror}
	sandbox     = []string{"sandbox; default-src 'none'"}
	noSniffing  = []string{"nosniff"}
)

func sourceField(source string) []string {
	switch source {
	case fetch.FromStore:
		return storeField
	case fetch.FromWAN:
		return wanField
	case fetch.FromLAN:
		return lanField
	}
	return mirrorField
}

// disarm keeps a browser that has been led here from running what a mirror
// sends as if it were ours: by the prefix form all hosts share our origin. What
// is declared as a package or an archive no browser runs.
func disarm(h http.Header) {
	switch h.Get("Content-Type") {
	case typeDeb, typeXz, typeGzip:
		return
	}
	h["Content-Security-Policy"] = sandbox
	h["X-Content-Type-Options"] = noSniffing
}

// Types of the files that apt asks for most.
const (
	typeDeb  = "application/vnd.debian.binary-package"
	typeXz   = "application/x-xz"
	typeGzip = "application/gzip"
)

// etag is the same wherever the blob comes from.
func etag(d [32]byte) string {
	b := make([]byte, 0, 2+2*len(d))
	b = append(b, '"')
	b = hex.AppendEncode(b, d[:])
	return string(append(b, '"'))
}

// contentType is the mirror's word where it has just answered, else what the
// name says. apt looks at neither; people with browsers do.
func contentType(name string, c *fetch.Content) string {
	if t := c.Header.Get("Content-Type"); t != "" {
		return t
	}
	switch ext := path.Ext(name); ext {
	case ".deb", ".udeb", ".ddeb":
		return typeDeb
	case ".xz":
		return typeXz
	case ".gz":
		return typeGzip
	default:
		if t := mime.TypeByExtension(ext); t != "" {
			return t
		}
	}
	return "application/octet-stream"
}

// meter counts the body bytes that go out. It hands files to the connection
// whole, for sendfile.
type meter struct {
	http.ResponseWriter
	total *atomic.Int64
	n     int64 // sent so far
}

// Unwrap lets an http.ResponseController find the connection.
func (m *meter) Unwrap() http.ResponseWriter { return m.ResponseWriter }

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.ResponseWriter.Write(p)
	m.count(int64(n))
	return n, err
}

// ReadFrom implements io.ReaderFrom.
func (m *meter) ReadFrom(src io.Reader) (int64, error) {
	limited, ok := src.(*io.LimitedReader)
	if ok {
		if _, ok = limited.R.(*os.File); ok {
			n, err := io.Copy(m.ResponseWriter, limited)
			m.count(n)
			return n, err
		}
	}
	return m.follow(src)
}

// buffers are for copying what is still arriving.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// follow passes on bytes as they arrive: a mirror that sends little at a time
// must not look silent to apt.
func (m *meter) follow(src io.Reader) (sent int64, err error) {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			written, werr := m.Write(buf[:n])
			sent += int64(written)
			if werr != nil {
				return sent, werr
			}
		}
		switch {
		case err == io.EOF:
			return sent, nil
		case err != nil:
			return sent, err
		case n < len(buf):
			http.NewResponseController(m.ResponseWriter).Flush()
		}
	}
}

func (m *meter) count(n int64) {
	m.n += n
	m.total.Add(n)
}
