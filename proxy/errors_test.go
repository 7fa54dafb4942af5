// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"apt-dht/proxy/fetch"
	"apt-dht/proxy/fetch/mirror"
)

// What the mirror answers instead of a file is the client's to know: apt has a
// way with each (404 on by-hash makes it try the plain name).
func TestMirrorsErrorsPass(t *testing.T) {
	for _, code := range []int{400, 401, 403, 404, 410, 429, 451, 500, 503} {
		for _, path := range []string{"pool/x.deb", "file", "dists/stable/" + byHash("")} {
			t.Run(fmt.Sprint(code, " ", path), func(t *testing.T) {
				t.Parallel()
				a := newArchive(t, answering(code, "the mirror says no", "Content-Type: text/x-no", "Retry-After: 120", "X-Own: 1"))
				n := newNode(t, setup{})
				n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": "data"}})
				got := n.get(a.url(path))
				got.want(t, code, "the mirror says no")
				got.wantField(t, "Content-Type", "text/x-no")
				got.wantField(t, "Retry-After", "120")
				got.wantField(t, "X-Own", "")
				got.wantField(t, "X-Apt-Dht-Source", "mirror")
				if code < 500 && code != 429 {
					a.wantRequests(t, 1) // its answer is final
				}
			})
		}
	}
}

// rawMirror answers each connection with the same bytes, then does then.
func rawMirror(t *testing.T, raw string, then func(net.Conn)) *server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					return
				}
				io.WriteString(c, raw)
				then(c)
			}()
		}
	}()
	return serverAt(l)
}

// A mirror that fails is our own error to tell: with a body, so that apt tries
// again, and never 404.
func TestMirrorsFaults(t *testing.T) {
	ended := func(net.Conn) {}
	silent := func(c net.Conn) { io.Copy(io.Discard, c) }
	for _, c := range []struct {
		name, raw string
		then      func(net.Conn)
		code      int
	}{
		{"hangs up", "", ended, 502},
		{"is silent", "", silent, 504},
		{"stops in its head", "HTTP/1.1 200 OK\r\nServer: x\r\n", silent, 504},
		{"is no HTTP server", "220 mail.example ESMTP\r\n", ended, 502},
		{"has a head without an end", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 100_000), silent, 502},
		{"resets", "", func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }, 502},
	} {
		for _, path := range []string{"pool/x.deb", "file", inRelease} {
			t.Run(c.name+" "+path, func(t *testing.T) {
				t.Parallel()
				a := &archive{server: rawMirror(t, c.raw, c.then)}
				n := newNode(t, setup{mirror: mirror.Config{FirstByte: 100 * time.Millisecond, Stall: 100 * time.Millisecond}})
				n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": "data"}})
				n.get(a.url(path)).wantRefusal(t, c.code, a.host())
			})
		}
	}
}

// A body that breaks is resumed where it broke; one that cannot be had to its
// end is cut, not ended.
func TestBrokenBodies(t *testing.T) {
	data := random(1, 100_000)
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nLast-Modified: %s\r\nContent-Length: %d\r\n\r\n", dated, len(data))
	short := rawMirror(t, head+data[:60_000], func(net.Conn) {})
	n := newNode(t, setup{})
	got := n.get(short.url("file"))
	if got.StatusCode != 200 || got.cut == nil || got.ContentLength != 100_000 || !strings.HasPrefix(data, got.body) {
		t.Errorf("a body that breaks each time: %s, %d of %d bytes, %v", got.Status, len(got.body), got.ContentLength, got.cut)
	}
	if blobs, _, _ := n.store.Usage(); blobs != 0 {
		t.Error("it is stored")
	}

	tries := 0
	a := newArchive(t, func(w http.ResponseWriter, r *http.Request) {
		if tries++; tries > 1 {
			serving(data)(w, r)
			return
		}
		w.Header().Set("Content-Length", "100000")
		w.Header().Set("Last-Modified", dated)
		io.WriteString(w, data[:60_000])
		panic(http.ErrAbortHandler)
	})
	n.get(a.url("file")).want(t, 200, data)
	if from := a.last().Header.Get("Range"); !strings.HasPrefix(from, "bytes=") || from == "bytes=0-" {
		t.Errorf("resumed with Range %q", from)
	}
}

// 1xx other than 100 is a hard error in apt, so none may get through.
func TestInformationalAnswersAreSwallowed(t *testing.T) {
	m := rawMirror(t, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndata", func(net.Conn) {})
	n := newNode(t, setup{})
	for _, path := range []string{"file", "pool/x"} {
		got := n.get(m.url(path))
		got.want(t, 200, "data")
		got.wantField(t, "Link", "")
	}
}

// Apt shows the status line alone, and whoever chooses a URL must not choose
// header fields with it.
func TestReasonsAreOneLine(t *testing.T) {
	n := newNode(t, setup{})
	for _, target := range []string{
		"http://h.example/%0d%0aX-Evil:%201%0d%0a%0d%0a<script>", "/h.example/%0aX-Evil:%201/x", "/h\u00e9.example/x",
		"http://h.example/\xff\xfe/../x", "/%0d%0aX-Evil:/x", "/h.example/" + strings.Repeat("%0d%0aX-Evil: 1", 1)[:6] + strings.Repeat("x", 3000),
	} {
		c := n.dial()
		c.send(aptRequest(target))
		raw, err := io.ReadAll(c.r)
		check(t, err)
		head, _, _ := strings.Cut(string(raw), "\r\n\r\n")
		lines := strings.Split(head, "\r\n")
		if strings.Contains(strings.Join(lines[1:], "\n"), "X-Evil") || strings.ContainsAny(strings.Join(lines, ""), "\r\n") {
			t.Errorf("%q wrote header fields: %q", target, head)
		}
		if len(lines[0]) > maxReason+len("HTTP/1.1 400 ") {
			t.Errorf("a status line of %d bytes", len(lines[0]))
		}
		for _, b := range []byte(lines[0]) {
			if b < ' ' || b > '~' {
				t.Errorf("the status line %q holds %q", lines[0], b)
			}
		}
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"plain":                  "plain",
		"a\r\nX-Evil: 1\r\n\r\n": "a  X-Evil: 1    ",
		"tab\tnul\x00del\x7f":    "tab nul del ",
		"é":                      " ",
		"\xff\xfe":               "  ",
		"\u2028x":                " x",
		strings.Repeat("é", 500): strings.Repeat(" ", maxReason),
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}

// Whatever fails here, it is not that the file does not exist.
func TestCodeOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{errors.New("anything"), 502},
		{io.ErrUnexpectedEOF, 502},
		{&net.DNSError{IsNotFound: true}, 502},
		{&net.DNSError{IsTimeout: true}, 504},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, 504},
		{mirror.ErrStalled, 504},
		{context.DeadlineExceeded, 504},
		{fetch.ErrClosed, 503},
		{&originError{"private"}, 403},
	} {
		if got := codeOf(fmt.Errorf("asking: %w", c.err)); got != c.code {
			t.Errorf("%v: %d, want %d", c.err, got, c.code)
		}
	}
}

// A policy's refusal and a host that does not exist are told at once.
func TestRefusalsAreQuick(t *testing.T) {
	n := newNode(t, setup{egress: &Egress{}})
	began := time.Now()
	n.get("http://127.0.0.1:1/x").wantRefusal(t, 403, "--allow-origin")
	if took := time.Since(began); took > time.Second {
		t.Errorf("a refusal took %v", took)
	}
}
