// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// ways are the two ways that a request can take; each must behave like the other.
var ways = map[string]func(*Config){
	"pipelined": func(*Config) {},
	"net/http": func(c *Config) {
		c.Proxy = func(*url.URL) (*url.URL, error) { return url.Parse("http://proxy.test:3128") }
	},
}

func TestConformance(t *testing.T) {
	endless := "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Filler: "+strings.Repeat("x", 1000)+"\r\n", 100)
	tests := []struct {
		name   string
		answer string // all that the mirror sends before it closes or, with a silence, waits
		silent bool
		status int
		body   string
		op     string // of the error; "" if there is none
		cause  error
	}{
		{name: "length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", status: 200, body: "abc"},
		{name: "empty", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200},
		{name: "chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nX-T: v\r\n\r\n",
			status: 200, body: "abc"},
		{name: "until close", answer: "HTTP/1.1 200 OK\r\n\r\nabc", status: 200, body: "abc"},
		{name: "HTTP/1.0", answer: "HTTP/1.0 200 OK\r\n\r\nabc", status: 200, body: "abc"},
		{name: "not modified", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", status: 304},
		{name: "no content", answer: "HTTP/1.1 204 No Content\r\n\r\n", status: 204},
		{name: "not found", answer: "HTTP/1.1 404 Nix\r\nContent-Length: 3\r\n\r\nabc", status: 404, body: "abc"},
		{name: "redirect", answer: "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", status: 302},
		{name: "partial", answer: "HTTP/1.1 206 Partial\r\nContent-Range: bytes 1-3/9\r\nContent-Length: 3\r\n\r\nabc",
			status: 206, body: "abc"},
		{name: "encoded", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", status: 200, body: "abc"},
		{name: "interim", answer: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" +
			"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", status: 200, body: "abc"},

		{name: "interim without end", answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100), op: "first byte"},
		{name: "endless header", answer: endless, op: "first byte"},
		{name: "garbage", answer: "\x16\x03\x01 garbage\r\n\r\n", op: "first byte"},
		{name: "no status", answer: "HTTP/1.1\r\n\r\n", op: "first byte"},
		{name: "malformed field", answer: "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", op: "first byte"},
		{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", op: "first byte"},
		{name: "negative length", answer: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", op: "first byte"},
		{name: "nothing", answer: "", op: "first byte", cause: io.EOF},
		{name: "half a header", answer: "HTTP/1.1 200 OK\r\nContent-Le", op: "first byte"},
		{name: "no answer", silent: true, op: "first byte", cause: ErrStalled},
		{name: "header stalls", answer: "HTTP/1.1 200 O", silent: true, op: "first byte", cause: ErrStalled},

		{name: "short", answer: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
			status: 200, body: "abc", op: "body", cause: io.ErrUnexpectedEOF},
		{name: "chunk cut", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
			status: 200, body: "abc", op: "body", cause: io.ErrUnexpectedEOF},
		{name: "chunk malformed", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
			status: 200, body: "abc", op: "body", cause: io.ErrUnexpectedEOF},
		{name: "body stalls", answer: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", silent: true,
			status: 200, body: "abc", op: "body", cause: ErrStalled},
		{name: "chunk stalls", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", silent: true,
			status: 200, body: "abc", op: "body", cause: ErrStalled},
	}
	for way, change := range ways {
		for _, tt := range tests {
			t.Run(way+"/"+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := &origin{play: func(s *session) {
						if s.next() == nil || !s.say("%s", tt.answer) || !tt.silent {
							return
						}
						io.Copy(io.Discard, s)
					}}
					cl := newClient(t, o, change)
					start := time.Now()
					req := get(background, host+"/x")
					resp, err := cl.RoundTrip(req)
					if (resp != nil) != (tt.status != 0) {
						t.Fatalf("answer %v, error %v", resp, err)
					}
					if resp != nil {
						var body string
						if body, err = body2string(resp, nil); body != tt.body || resp.StatusCode != tt.status || resp.Request != req {
							t.Errorf("status %d, body %q, request %v", resp.StatusCode, body, resp.Request)
						}
					}
					if tt.op == "" && err != nil {
						t.Error(err)
					}
					if tt.op != "" {
						wantError(t, err, tt.op, tt.cause)
					}
					if took := time.Since(start); tt.silent && took != 15*time.Second {
						t.Errorf("gave up after %v", took)
					}
				})
			})
		}
	}
}

func TestTheRequestAsTheMirrorSeesIt(t *testing.T) {
	for way, change := range ways {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got *http.Request
				o := &origin{play: func(s *session) {
					for req := s.next(); req != nil; req = s.next() {
						got = req
						s.answer("ok")
					}
				}}
				cl := newClient(t, o, change)
				for _, target := range []string{"/a%2bb%7ec%253ad", "/~a+b", "//twice//x", "/a?b=%2f&c", "/?", "/"} {
					req := get(background, host)
					req.URL.Opaque = "//mirror.test" + target
					req.Host = "front.test"
					req.Header = http.Header{"Range": {"bytes=3-"}, "X-Two": {"a", "b"},
						"Content-Length": {"5"}, "Transfer-Encoding": {"chunked"}, "Connection": {"close"}}
					if _, err := body2string(cl.RoundTrip(req)); err != nil {
						t.Fatal(err)
					}
					if sent := strings.TrimPrefix(got.RequestURI, host); sent != target {
						t.Errorf("%s was sent as %s", target, sent)
					}
					if got.Host != "front.test" && way == "pipelined" {
						t.Errorf("host %q", got.Host)
					}
					want := http.Header{"Range": {"bytes=3-"}, "X-Two": {"a", "b"}}
					if len(got.Header) != len(want) || got.Header.Get("Range") != "bytes=3-" || len(got.Header["X-Two"]) != 2 {
						t.Errorf("header %v, want %v", got.Header, want)
					}
				}
			})
		})
	}
}

func TestContextEndsRequestAndBody(t *testing.T) {
	for way, change := range ways {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &origin{play: func(s *session) {
					if req := s.next(); strings.HasSuffix(req.RequestURI, "/body") {
						s.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
					}
					io.Copy(io.Discard, s)
				}}
				cl := newClient(t, o, change)
				for path, op := range map[string]string{"/header": "first byte", "/body": "body"} {
					ctx, cancel := contextWithCause(time.Second, errEnough)
					_, err := body2string(cl.RoundTrip(get(ctx, host+path)))
					wantError(t, err, op, errEnough)
					cancel()
				}
			})
		})
	}
}

func TestProxyErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("no proxy today")
		cl := newClient(t, &origin{}, func(c *Config) {
			c.Proxy = func(*url.URL) (*url.URL, error) { return nil, bad }
		})
		_, err := fetch(cl, "/")
		wantError(t, err, "request", bad)
	})
}
