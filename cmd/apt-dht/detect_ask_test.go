// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// fakeProxy answers as a proxy does, each request with the text for it.
type fakeProxy struct {
	addr string

	mu sync.Mutex // guards following
	// asked are the request lines.
	asked []string
}

// Answers of proxies, and of others.
const (
	nodesUsage = "HTTP/1.1 406 Usage Information\r\nContent-Length: 15\r\n\r\nThis is apt-dht"
	acngsUsage = "HTTP/1.1 406 Usage Information\r\nContent-Length: 21\r\n\r\n<title>Apt-Cacher NG<"
	squidsPage = "HTTP/1.1 400 Bad Request\r\nVia: 1.1 office (squid-deb-proxy/5.7)\r\nContent-Length: 0\r\n\r\n"
	webPage    = "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 2\r\n\r\nhi"
	forbidden  = "HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\napt-dht"
	found      = "HTTP/1.1 200 OK\r\n\r\n"
	silence    = ""
)

// newFakeProxy answers GET / with page, HEAD with head and CONNECT with tunnel.
// What it does not answer it keeps waiting.
func newFakeProxy(t testing.TB, page, head, tunnel string) *fakeProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &fakeProxy{addr: l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				line := make([]byte, 4096)
				n, _ := conn.Read(line)
				first, _, _ := strings.Cut(string(line[:n]), "\r\n")
				p.mu.Lock()
				p.asked = append(p.asked, first)
				p.mu.Unlock()
				method, _, _ := strings.Cut(first, " ")
				if answer := map[string]string{"GET": page, "HEAD": head, "CONNECT": tunnel}[method]; answer != silence {
					io.WriteString(conn, answer)
					return
				}
				conn.Read(line) // until the client leaves
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		serving.Wait()
	})
	return p
}

func (p *fakeProxy) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// testPatience is for those that do not answer; all others do within it, also on
// a busy machine.
const testPatience = 500 * time.Millisecond

func TestGreet(t *testing.T) {
	for _, tt := range []struct {
		who  string
		page string
		ok   bool
		node bool
	}{
		{"apt-dht", nodesUsage, true, true},
		{"apt-cacher-ng", acngsUsage, true, false},
		{"squid-deb-proxy", squidsPage, true, false},
		{"a web server", webPage, false, false},
		{"one that does not serve us", forbidden, false, false},
		{"one that wants a password", "HTTP/1.1 407 Proxy Authentication Required\r\nVia: x\r\n\r\n", false, false},
		{"one that is ill", "HTTP/1.1 503 Service Unavailable\r\nVia: x\r\n\r\n", false, false},
		{"a mail server", "220 mail.example ESMTP\r\n", false, false},
		{"endless fields", "HTTP/1.1 406 No\r\n" + strings.Repeat("A: b\r\n", 100000) + "\r\n", false, false},
		{"an endless body", "HTTP/1.1 406 No\r\n\r\n" + strings.Repeat("apt-dht", 100000), true, true},
		{"silence", silence, false, false},
		{"a broken answer", "HTTP/1.1 406", false, false},
	} {
		p := newFakeProxy(t, tt.page, "", "")
		by, err := greet(t.Context(), p.addr, testPatience)
		if (err == nil) != tt.ok || by.node != tt.node {
			t.Errorf("%s: %+v, %v", tt.who, by, err)
		}
	}
}

func TestTryURL(t *testing.T) {
	for _, tt := range []struct {
		head, tunnel string
		sure         bool
		plain, tls   bool // whether it is offered
	}{
		{found, found, true, true, true},
		{"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 404 Not Found\r\n\r\n", true, true, false},
		{"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "HTTP/1.1 302 Found\r\n\r\n", true, true, false},
		{"HTTP/1.1 401 Unauthorized\r\n\r\n", "HTTP/1.1 401 Unauthorized\r\n\r\n", true, true, false},
		{"HTTP/1.1 501 Not Implemented\r\n\r\n", "HTTP/1.1 501 Not Implemented\r\n\r\n", true, true, false},
		{forbidden, forbidden, true, false, false},
		{"HTTP/1.1 403 Forbidden\r\nVia: 1.1 node\r\n\r\n", "HTTP/1.1 403 Forbidden\r\nVia: 1.1 node\r\n\r\n", true, true, false}, // the mirror's
		{"HTTP/1.1 403 Forbidden\r\nVia: 1.1 squid\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n", forbidden, true, false, false},
		{"HTTP/1.1 502 Bad Gateway\r\n\r\n", "HTTP/1.1 504 Gateway Timeout\r\n\r\n", true, false, false},
		{"nonsense\r\n\r\n", "HTTP/1.1\r\n", true, false, false},
		{silence, silence, false, true, true},
	} {
		p := newFakeProxy(t, nodesUsage, tt.head, tt.tunnel)
		for url, offered := range map[string]bool{"http://deb.example/x": tt.plain, "https://deb.example/x": tt.tls} {
			parsed, err := parseTarget(url)
			if err != nil {
				t.Fatal(err)
			}
			sure, err := tryURL(t.Context(), p.addr, parsed, testPatience)
			if sure != tt.sure || (err == nil) != offered {
				t.Errorf("%s, answered with %q or %q: %v, %v", url, tt.head, tt.tunnel, sure, err)
			}
		}
	}
}

func TestBestFirst(t *testing.T) {
	const slow, quick = 9 * time.Millisecond, time.Millisecond
	want := []greeted{
		{"10.0.0.1:9977", true, quick},
		{"[fd00::1]:9977", true, slow},
		{"[fe80::1%eth0]:9977", true, quick},
		{"10.0.0.2:3142", false, quick},
		{"10.0.0.3:3142", false, slow},
		{"169.254.1.1:3142", false, quick},
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, bestFirst)
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

// pretend, as `pretend VAR KIND`, starts a server that answers as a node or as
// a web server does, and puts its address into VAR.
func pretend(ts *testscript.TestScript, neg bool, args []string) {
	page, known := map[string]string{"node": nodesUsage, "web": webPage}[args[1]]
	if !known {
		ts.Fatalf("unknown kind of server %q", args[1])
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, page)
	})}
	go server.Serve(l)
	ts.Defer(func() { server.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// detects, as `detects ANSWER [-stderr REGEXP] ARGS...`, runs apt-dht detect
// until its one line is that answer and standard error matches. On a busy machine
// a server can be too slow to be noticed, and the command for its own explanation.
func detects(ts *testscript.TestScript, neg bool, args []string) {
	want, args, told := args[0]+"\n", args[1:], regexp.MustCompile("^$")
	if args[0] == "-stderr" {
		told, args = regexp.MustCompile(args[1]), args[2:]
	}
	for end := time.Now().Add(30 * time.Second); ; {
		ts.Check(ts.Exec("apt-dht", append([]string{"detect"}, args...)...))
		if ts.ReadFile("stdout") == want && told.MatchString(ts.ReadFile("stderr")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("the answer stays so")
		}
	}
}
