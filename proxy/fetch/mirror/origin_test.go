// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// origin is a mirror whose connections are played by a function each. Its network is net.Pipe, so it works in
// synctest bubbles.
type origin struct {
	play func(*session)
	wg   sync.WaitGroup

	mu    sync.Mutex // guards following
	addrs []string   // dialled, in order
}

// session is one connection as the origin sees it.
type session struct {
	net.Conn
	br *bufio.Reader
	n  int // 0: the origin's first connection
}

func (o *origin) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &session{Conn: theirs, br: bufio.NewReader(theirs), n: len(o.addrs)}
	o.addrs = append(o.addrs, addr)
	o.wg.Go(func() {
		defer theirs.Close()
		o.play(s)
	})
	return ours, nil
}

// dialled returns how many connections there have been.
func (o *origin) dialled() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.addrs)
}

// next reads a request; nil at the connection's end.
func (s *session) next() *http.Request {
	req, err := http.ReadRequest(s.br)
	if err != nil {
		return nil
	}
	return req
}

// say writes and returns false at the connection's end.
func (s *session) say(format string, args ...any) bool {
	_, err := fmt.Fprintf(s.Conn, format, args...)
	return err == nil
}

// answer gives body with a length.
func (s *session) answer(body string) bool {
	return s.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// echo answers each request with its target.
func (s *session) echo() {
	for req := s.next(); req != nil && s.answer(req.RequestURI); req = s.next() {
	}
}

func get(ctx context.Context, url string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	return req
}

const host = "http://mirror.test"

// newClient returns a client of the origin, and ends both with the test.
func newClient(t *testing.T, o *origin, change ...func(*Config)) *Client {
	cfg := Config{Dial: o.dial}
	for _, f := range change {
		f(&cfg)
	}
	cl := New(cfg)
	t.Cleanup(func() {
		cl.Close()
		o.wg.Wait()
	})
	return cl
}

// fetch returns the body of a path.
func fetch(cl *Client, path string) (string, error) {
	return body2string(cl.RoundTrip(get(context.Background(), host+path)))
}

func body2string(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func mustFetch(t *testing.T, cl *Client, path string) {
	t.Helper()
	if got, err := fetch(cl, path); err != nil || got != path {
		t.Fatalf("GET %s = %q, %v", path, got, err)
	}
}

// result is what a request came to.
type result struct {
	body string
	err  error
}

// startAll starts requests for the paths, in order, and reads each body as it comes.
func startAll(ctx context.Context, cl *Client, paths ...string) []chan result {
	var results []chan result
	for _, p := range paths {
		wait, done := cl.Start(get(ctx, host+p)), make(chan result, 1)
		go func() {
			body, err := body2string(wait())
			done <- result{body, err}
		}()
		results = append(results, done)
	}
	return results
}

// wantBodies waits for all results; each body must be its path.
func wantBodies(t *testing.T, results []chan result, paths ...string) {
	t.Helper()
	for i, done := range results {
		if got := <-done; got.err != nil || got.body != paths[i] {
			t.Fatalf("GET %s = %q, %v", paths[i], got.body, got.err)
		}
	}
}

func paths(n int) []string {
	var ps []string
	for i := range n {
		ps = append(ps, fmt.Sprintf("/%d", i))
	}
	return ps
}

// wantError demands an *Error of that Op which wraps the cause.
func wantError(t *testing.T, err error, op string, cause error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Op != op || cause != nil && !errors.Is(err, cause) {
		t.Fatalf("error %v, want %s: %v", err, op, cause)
	}
	if !strings.Contains(err.Error(), e.URL) || !strings.HasPrefix(e.URL, "http") {
		t.Errorf("error %q does not name the URL", err)
	}
}

func poolsOf(cl *Client) int {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return len(cl.pools)
}

func contextWithCause(d time.Duration, cause error) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), d, cause)
}
