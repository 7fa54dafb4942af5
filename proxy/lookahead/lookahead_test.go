// SPDX-License-Identifier: GPL-2.0-or-later

package lookahead

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// record is a Sink that remembers.
type record struct {
	mu     sync.Mutex
	heads  []string
	closed int
	more   chan struct{} // gets a token for each head
}

func newRecord() *record { return &record{more: make(chan struct{}, 1000)} }

func (r *record) Seen(head []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heads = append(r.heads, string(head))
	r.more <- struct{}{}
}

func (r *record) Closed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed++
}

// await waits until n heads in all have been seen.
func (r *record) await(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		select {
		case <-r.more:
		case <-time.After(10 * time.Second):
			t.Fatalf("only %d of %d request heads were seen", i, n)
		}
	}
}

// startServer serves handler behind a look-ahead listener.
func startServer(t *testing.T, handler http.HandlerFunc) (addr string, sink *record) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sink = newRecord()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 20 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(&Listener{Listener: tcp, Sink: func(net.Conn) Sink { return sink }})
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return tcp.Addr().String(), sink
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func requests(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "GET http://mirror.example/pool/%d_%s.deb HTTP/1.1\r\nHost: mirror.example\r\nUser-Agent: Debian APT-HTTP/1.3 (2.6.1)\r\n\r\n", i, strings.Repeat("x", 100))
	}
	return b.String()
}

// The server must know all that is pipelined before it has answered the first.
func TestSeesPipelinedRequestsWhileAnswering(t *testing.T) {
	for _, n := range []int{2, 10, 200} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			release := make(chan struct{})
			addr, sink := startServer(t, func(w http.ResponseWriter, r *http.Request) {
				<-release
				io.WriteString(w, r.RequestURI)
			})
			c := dial(t, addr)
			io.WriteString(c, requests(0, 1))
			sink.await(t, 1)
			io.WriteString(c, requests(1, n))
			sink.await(t, n-1)
			close(release)
			checkAnswers(t, c, n)
		})
	}
}

// What comes while a long answer is being given is seen at once, too.
func TestSeesWhatComesInBursts(t *testing.T) {
	step := make(chan struct{})
	addr, sink := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		<-step
		io.WriteString(w, r.RequestURI)
	})
	c := dial(t, addr)
	io.WriteString(c, requests(0, 3))
	sink.await(t, 3)
	for i := 3; i < 40; i++ {
		io.WriteString(c, requests(i, i+1))
		sink.await(t, 1)
	}
	close(step)
	checkAnswers(t, c, 40)
}

func checkAnswers(t *testing.T, c net.Conn, n int) {
	t.Helper()
	br := bufio.NewReader(c)
	for i := range n {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		body, err := io.ReadAll(resp.Body)
		if want := fmt.Sprintf("http://mirror.example/pool/%d_", i); err != nil || !strings.HasPrefix(string(body), want) {
			t.Fatalf("answer %d is %.60q, %v", i, body, err)
		}
	}
}

// A client that has gone must still end its request's context.
func TestNoticesThatTheClientHasGone(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn){
		"close": func(c *net.TCPConn) { c.Close() },
		"reset": func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			gone := make(chan struct{})
			addr, sink := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				close(gone)
			})
			c := dial(t, addr)
			io.WriteString(c, requests(0, 1))
			sink.await(t, 1)
			leave(c)
			select {
			case <-gone:
			case <-time.After(10 * time.Second):
				t.Fatal("the request went on")
			}
		})
	}
}

// A head that leaves the server's buffer one byte of room must not be taken for
// its watch over the connection.
func TestLongHead(t *testing.T) {
	addr, _ := startServer(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Long")) })
	c := dial(t, addr)
	head := "GET / HTTP/1.1\r\nHost: h\r\nX-Long: "
	long := strings.Repeat("x", 6000)
	io.WriteString(c, head+long[:4095-len(head)])
	time.Sleep(50 * time.Millisecond) // so that the server gets it in two parts
	io.WriteString(c, long[4095-len(head):]+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != long {
		t.Fatalf("%d bytes, %v", len(body), err)
	}
}

func TestClosedIsToldOnce(t *testing.T) {
	addr, sink := startServer(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close") })
	c := dial(t, addr)
	io.WriteString(c, requests(0, 1))
	io.ReadAll(c)
	deadline := time.Now().Add(10 * time.Second)
	for {
		sink.mu.Lock()
		n := sink.closed
		sink.mu.Unlock()
		if n == 1 {
			return
		}
		if n > 1 || time.Now().After(deadline) {
			t.Fatalf("Closed was called %d times", n)
		}
		time.Sleep(time.Millisecond)
	}
}

// A hijacked connection gives what was read ahead before what comes later.
func TestHijackedConnectionLosesNothing(t *testing.T) {
	got := make(chan string, 1)
	ready, hijacked := make(chan struct{}), make(chan struct{})
	addr, sink := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		<-ready
		conn, rw, err := w.(http.Hijacker).Hijack()
		close(hijacked)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		var all bytes.Buffer
		io.CopyN(&all, rw, int64(rw.Reader.Buffered()))
		conn.(io.WriterTo).WriteTo(&all)
		got <- all.String()
	})
	c := dial(t, addr)
	early := requests(1, 60)
	io.WriteString(c, requests(0, 1)+early)
	sink.await(t, 60)
	close(ready)
	<-hijacked // an end before that is taken for the client's leaving
	io.WriteString(c, "later")
	c.CloseWrite()
	if s := <-got; s != early+"later" {
		t.Fatalf("got %d bytes, want %d", len(s), len(early)+len("later"))
	}
}

// sendfile needs the connection's own ReadFrom.
func TestFilesAreSentByTheConnection(t *testing.T) {
	var c net.Conn = &Conn{}
	if _, ok := c.(io.ReaderFrom); !ok {
		t.Fatal("Conn hides TCPConn.ReadFrom")
	}
	name := t.TempDir() + "/f"
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Fatal(err)
	}
	addr, _ := startServer(t, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) })
	resp, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// However the stream is cut into reads, the same heads are shown.
func FuzzScanner(f *testing.F) {
	f.Add([]byte(requests(0, 3)), 7)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"), 1)
	f.Add([]byte("GET /\r\n\r\r\n\r\n"), 2)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		if len(stream) > 4<<10 {
			return
		}
		whole, cut := newRecord(), newRecord()
		var a, b scanner
		a.feed(stream, whole)
		step = max(1, min(step, len(stream)))
		for i := 0; i < len(stream); i += step {
			b.feed(stream[i:min(i+step, len(stream))], cut)
		}
		if fmt.Sprint(whole.heads) != fmt.Sprint(cut.heads) {
			t.Fatalf("whole: %q\nby %d: %q", whole.heads, step, cut.heads)
		}
		for _, h := range whole.heads {
			if !strings.HasPrefix(h, "GET ") || strings.Index(h, "\r\n\r\n") != len(h)-4 {
				t.Fatalf("shown as a head: %q", h)
			}
		}
	})
}
