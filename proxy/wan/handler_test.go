// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
	"apt-dht/store"
)

// Pieces come with the state of the hash where they begin.
func TestPieces(t *testing.T) {
	d := newFakeDHT()
	states := []Digest{{1}, {2}, {3}}
	a := startNode(t, d, 1, nil)
	b := startNode(t, d, 2, func(cfg *Config) {
		cfg.Pieces = func(Digest) ([]Digest, error) { return states, nil }
	})
	body := bytesOf(0, 3<<20+17)
	blob := b.put(t, body)
	size := int64(len(body))
	for _, test := range []struct {
		from, to int64
		state    *Digest
	}{
		{0, -1, nil},
		{7, 20, nil},
		{store.PieceSize, 2 * store.PieceSize, &states[0]},
		{3 * store.PieceSize, size, &states[2]},
	} {
		head, got, err := a.get(b, blob, test.from, test.to)
		if err != nil {
			t.Fatal(err)
		}
		to := test.to
		if to < 0 {
			to = size
		}
		if !bytes.Equal(got, body[test.from:to]) || head.Size != size {
			t.Errorf("from %d up to %d came %d bytes of %d", test.from, to, len(got), head.Size)
		}
		if (head.State == nil) != (test.state == nil) || head.State != nil && *head.State != *test.state {
			t.Errorf("from %d the state is %x", test.from, head.State)
		}
	}
	if _, _, err := a.get(b, blob, size, -1); !errors.Is(err, fetch.ErrNotHere) {
		t.Errorf("beyond its end the error is %v", err)
	}
	if _, _, err := a.get(b, Digest{9}, 0, -1); !errors.Is(err, fetch.ErrNotHere) {
		t.Errorf("of what is not there the error is %v", err)
	}
	eventually(t, "no upload goes on", func() bool { return b.Status().Uploads == 0 })
}

// A peer that sends more, less, or something else.
func TestWrongAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		code   int
		fields []string
		body   string
		from   int64
		to     int64
		want   string
	}{
		"right":      {206, []string{"Content-Range", "bytes 2-4/9"}, "abc", 2, 5, "abc <nil>"},
		"more":       {206, []string{"Content-Range", "bytes 2-8/9"}, "abcdefg", 2, 5, "abc <nil>"},
		"less":       {206, []string{"Content-Range", "bytes 2-2/9"}, "a", 2, 5, "a unexpected EOF"},
		"less whole": {206, []string{"Content-Range", "bytes 2-2/9"}, "a", 2, -1, "a unexpected EOF"},
		"to its end": {206, []string{"Content-Range", "bytes 2-3/4"}, "ab", 2, 5, "ab <nil>"},
		"redirect":   {302, []string{"Location", "http://127.0.0.1:1/"}, "", 0, -1, "not here"},
		"growing":    {200, []string{peer.GrowingField, "1"}, "abc", 0, -1, "not here"},
		"refused":    {429, []string{"Retry-After", "7"}, "", 0, -1, "429"},
	} {
		t.Run(name, func(t *testing.T) {
			node := startNode(t, newFakeDHT(), 1, nil)
			other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for i := 0; i < len(test.fields); i += 2 {
					w.Header().Set(test.fields[i], test.fields[i+1])
				}
				w.WriteHeader(test.code)
				io.WriteString(w, test.body)
			}))
			defer other.Close()
			p := peerAt(netip.MustParseAddrPort(other.Listener.Addr().String()))
			body, err := node.Fetch(context.Background(), p, Digest{1}, test.from, test.to)
			got := fmt.Sprint(err)
			if err == nil {
				all, err := io.ReadAll(body)
				got = fmt.Sprintf("%s %v", all, err)
				body.Close()
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// What is still arriving is not given, nor what cannot be read.
func TestBlobsThatAreNotGiven(t *testing.T) {
	for want, open := range map[int]func(Digest) (*fetch.Shared, error){
		404: func(Digest) (*fetch.Shared, error) { return &fetch.Shared{Size: 5}, nil },
		503: func(Digest) (*fetch.Shared, error) { return nil, io.ErrUnexpectedEOF },
	} {
		node := startNode(t, newFakeDHT(), 1, func(cfg *Config) { cfg.Open = open })
		w := httptest.NewRecorder()
		node.Handler().ServeHTTP(w, httptest.NewRequest("GET", Prefix+"blob/"+strings.Repeat("0", 64), nil))
		if w.Code != want {
			t.Errorf("the answer is %d, want %d", w.Code, want)
		}
	}
}

// No site gets more than its share of the uploads, nor all together more than
// the limit can serve.
func TestUploadsAreRefusedEarly(t *testing.T) {
	d := newFakeDHT()
	giver := startNode(t, d, 1, func(cfg *Config) { cfg.UploadLimit = 300_000 })
	blob := giver.put(t, bytesOf(0, 1000))
	site := func(i byte) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 1, 1 + i}) }
	taker := startNode(t, d, 2, nil) // site 2
	for range maxUploadsEach {
		giver.uploads.Take(site(2))
	}
	_, _, err := taker.get(giver, blob, 0, -1)
	var refused *peer.RefusedError
	if !errors.Is(err, fetch.ErrNotHere) || !errors.As(err, &refused) || refused.Code != 429 || refused.RetryAfter != tryAgain {
		t.Errorf("a fifth is answered %v", err)
	}
	giver.uploads.Put(site(2))
	if _, got, err := taker.get(giver, blob, 0, -1); len(got) != 1000 {
		t.Errorf("the fourth is answered %v", err)
	}
	eventually(t, "it is over", func() bool { return giver.uploads.InUse() == maxUploadsEach-1 })
	for i := range byte(3) {
		giver.uploads.Take(site(10 + i))
	}
	if _, _, err := taker.get(giver, blob, 0, -1); !errors.As(err, &refused) {
		t.Errorf("beyond what 300 kB/s can serve the answer is %v", err)
	}
	for limit, want := range map[int64]int{1: 4, 500_000: 10, 1 << 40: 32} {
		if got := maxUploads(limit); got != want {
			t.Errorf("%d at a time at %d bytes per second, want %d", got, limit, want)
		}
	}
}

// What the node says to those it does not know.
func TestHandler(t *testing.T) {
	node := startNode(t, newFakeDHT(), 1, nil)
	hashes := strings.Repeat(`"`+strings.Repeat("0", 64)+`",`, maxBatch)
	for name, test := range map[string]struct {
		method, path, body, kind string
		want                     int
	}{
		"ping":             {"GET", Prefix + "ping", "", "", 200},
		"root":             {"GET", "/", "", "", 404},
		"proxy":            {"GET", "http://deb.debian.org/debian/dists/sid/InRelease", "", "", 404},
		"status":           {"GET", "/~/v1/status", "", "", 404},
		"LAN":              {"GET", "/~/v1/lan/ping", "", "", 404},
		"scanner":          {"GET", "/wp-login.php", "", "", 404},
		"tracker":          {"GET", "/announce?info_hash=x", "", "", 404},
		"other method":     {"DELETE", Prefix + "ping", "", "", 404},
		"get of have":      {"GET", Prefix + "have", "", "", 404},
		"no hash":          {"GET", Prefix + "blob/abc", "", "", 400},
		"upper case":       {"GET", Prefix + "blob/" + strings.Repeat("A", 64), "", "", 400},
		"blob":             {"GET", Prefix + "blob/" + strings.Repeat("0", 64), "", "", 404},
		"have":             {"POST", Prefix + "have", `{"v":1,"want":[]}`, "application/json", 200},
		"have of a form":   {"POST", Prefix + "have", `{"v":1,"want":[]}`, "text/plain", 415},
		"have too many":    {"POST", Prefix + "have", `{"v":1,"want":[` + hashes + hashes[:66] + `]}`, "application/json", 400},
		"have too long":    {"POST", Prefix + "have", strings.Repeat(" ", maxMessage+1), "application/json", 413},
		"other version":    {"POST", Prefix + "have", `{"v":2,"want":[]}`, "application/json", 400},
		"low port":         {"POST", Prefix + "reach", `{"v":1,"port":25,"nonce":"0123456789abcdef0123456789abcdef"}`, "application/json", 400},
		"nonce of letters": {"POST", Prefix + "reach", `{"v":1,"port":9978,"nonce":"../../../etc/passwd&x=0123456789"}`, "application/json", 400},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.path, strings.NewReader(test.body))
			r.RemoteAddr = "127.0.0.99:4711"
			if test.kind != "" {
				r.Header.Set("Content-Type", test.kind)
			}
			w := httptest.NewRecorder()
			node.Handler().ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("the answer is %d %s, want %d", w.Code, w.Body, test.want)
			}
		})
	}
	r := httptest.NewRequest("POST", Prefix+"have", strings.NewReader(`{"v":1,"want":[]}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", "http://evil.example")
	w := httptest.NewRecorder()
	if node.Handler().ServeHTTP(w, r); w.Code != 403 {
		t.Errorf("a web page gets %d", w.Code)
	}
	node.end()
	w = httptest.NewRecorder()
	if node.Handler().ServeHTTP(w, httptest.NewRequest("GET", Prefix+"ping", nil)); w.Code != 503 {
		t.Errorf("when the node has ended a ping gets %d", w.Code)
	}
}

// What is not HTTP is cut off without an answer, and without a wait.
func TestStrangersAreShruggedOff(t *testing.T) {
	node := startNode(t, newFakeDHT(), 1, nil)
	for name, hello := range map[string]string{
		"BitTorrent": "\x13BitTorrent protocol\x00\x00\x00\x00\x00\x10\x00\x05" + strings.Repeat("i", 20) + "-TR4000-abcdefghijkl",
		"TLS":        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"SSH":        "SSH-2.0-OpenSSH_9.7\r\n",
		"noise":      "\x00\xff\xfe",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", node.addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, hello)
			c.SetReadDeadline(time.Now().Add(headTimeout / 2))
			if answer, err := io.ReadAll(c); len(answer) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the answer is %q, %v", answer, err)
			}
		})
	}
	c, err := net.Dial("tcp", node.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET "+Prefix+"ping HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("one who speaks HTTP gets %v, %v", resp, err)
	}
}

// A body that is announced and does not come costs no place among those who are
// given a blob, and ends the connection.
func TestBodyThatDoesNotCome(t *testing.T) {
	node := startNode(t, newFakeDHT(), 1, func(c *Config) { c.UploadLimit = 1 })
	path := fmt.Sprintf("%sblob/%x", Prefix, node.put(t, bytesOf(1, 100_000)))
	var group sync.WaitGroup
	for _, request := range []string{"GET " + path, "HEAD " + path, "POST " + path, "GET /nothing", "POST /nothing"} {
		c, err := net.Dial("tcp", node.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		group.Go(func() {
			fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", request)
			c.SetReadDeadline(time.Now().Add(4 * peer.BodyTimeout))
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: the connection stays", request)
			}
		})
	}
	group.Wait()
	if !node.uploads.Take(siteOf(node.addr.Addr())) {
		t.Error("places are held by who sends no body")
	}
}

// One site cannot take all connections.
func TestConnectionsAreBounded(t *testing.T) {
	node := startNode(t, newFakeDHT(), 1, nil)
	alive := 0
	for range maxConnsEach + 6 {
		c, err := net.Dial("tcp", node.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET "+Prefix+"ping HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := c.Read(make([]byte, 1)); err == nil {
			alive++
		}
	}
	if alive != maxConnsEach {
		t.Errorf("%d connections of one site are served", alive)
	}
}

// Who takes nothing of a blob is cut off.
func TestReaderThatDoesNotRead(t *testing.T) {
	node, err := New(Config{DHT: seat{newFakeDHT(), netip.AddrPort{}}, Port: 1, IPv4: true})
	if err != nil {
		t.Fatal(err)
	}
	pace := node.pace(t.Context(), netip.Addr{})
	if rate := float64(pace.Step) / pace.Stall.Seconds(); rate != slowestReader || pace.Stall != 20*time.Second {
		t.Errorf("a reader must take %.0f bytes per second over %s", rate, pace.Stall)
	}
	// The same pace, in less time, on a connection whose other side does not read.
	d := newFakeDHT()
	giver := startNode(t, d, 1, nil)
	blob := giver.put(t, make([]byte, 32<<20))
	ended := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pace := giver.pace(r.Context(), netip.Addr{})
		pace.Stall = 100 * time.Millisecond
		shared, err := giver.open(blob)
		if err != nil {
			t.Error(err)
			return
		}
		defer shared.Close()
		out := peer.NewSender(w, pace)
		_, err = io.Copy(out, io.LimitReader(shared.File, shared.Size))
		ended <- err
	}))
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := <-ended; err == nil {
		t.Error("all was sent to one who does not read")
	}
}

// Where few files may be open, strangers leave most of them to others.
func TestConnsOf(t *testing.T) {
	for files, want := range map[uint64]int{64: 16, 256: 64, 600: 150, 1024: 256, 2048: maxConns, 65536: maxConns, math.MaxUint64: maxConns} {
		if got := connsOf(files); got != want {
			t.Errorf("of %d files strangers get %d", files, got)
		}
	}
	var files syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
	few := files
	few.Cur = min(256, files.Max)
	if err = errors.Join(err, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few)); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
	if got := connsAllowed(); got != connsOf(few.Cur) {
		t.Errorf("of %d files strangers get %d here", few.Cur, got)
	}
}
