// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func init() {
	wanScenarios["PortServesTheWorldAlone"] = wanPortServesTheWorldAlone
	wanScenarios["PortIsScanned"] = wanPortIsScanned
	wanScenarios["PortIsFlooded"] = wanPortIsFlooded
}

// wanPortServesTheWorldAlone: nothing that is for apt, the LAN or the operator
// is to be had on the port that the world reaches.
func wanPortServesTheWorldAlone(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	m := in.node("--allow", "0.0.0.0/0")
	m.update()
	in.mirror.forget()
	stranger, _ := in.site().host("1")
	file := in.mirror.url() + "/dists/stable/InRelease"
	ask := func(h *lanHost, first string, more ...string) string {
		return exchange(t, h, m.wanAddr(), strings.Join(append([]string{first + " HTTP/1.1", "Connection: close"}, more...), "\r\n")+"\r\n\r\n")
	}
	host := "Host: " + m.wanAddr()
	for _, who := range []*lanHost{stranger, m.host} {
		for _, target := range []string{
			"/", "/~/v1/status", "/metrics", "/~/v1/find?name=hello", lanPing, lanBlobs + strings.Repeat("a", 64), "/~/v1/lan/root?name=x",
			"/" + strings.TrimPrefix(file, "http://"), file, "/debian/dists/stable/InRelease",
			"http://127.0.0.1:9977/~/v1/status", "//~/v1/status", "/~/v1/wan/../status", "/%7e/v1/status",
		} {
			if got := ask(who, "GET "+target, host); !strings.HasPrefix(got, "HTTP/1.1 404 ") {
				t.Errorf("GET %s: %.200q", target, got)
			}
		}
		for _, target := range []string{lanLookup, lanAnnounce, "/", "/~/v1/status"} {
			if got := ask(who, "POST "+target, host, "Content-Type: application/json", "Content-Length: 2", "", "{}"); !strings.HasPrefix(got, "HTTP/1.1 404 ") {
				t.Errorf("POST %s: %.200q", target, got)
			}
		}
		if got := ask(who, "GET "+wanPing, host); !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.Contains(got, `"v":1`) {
			t.Errorf("ping: %.200q", got)
		}
		if got := ask(who, "GET /InRelease", "Host: "+in.mirror.addr); !strings.HasPrefix(got, "HTTP/1.1 404 ") {
			t.Errorf("with a mirror's name: %.200q", got)
		}
		if got := ask(who, "CONNECT "+in.originAddr()+":443", host); strings.Contains(got, " 200 ") {
			t.Errorf("CONNECT: %.200q", got)
		}
	}
	wantNoPages(t, m, stranger)
	if asked := in.mirror.asked(""); len(asked) > 0 {
		t.Errorf("the mirror was asked: %v", asked)
	}
}

// wantNoPages asks as a script of a web page can.
func wantNoPages(t *testing.T, m *lanMachine, stranger *lanHost) {
	t.Helper()
	for what, header := range map[string]http.Header{
		"text":                  {"Content-Type": {"text/plain"}},
		"no type":               {},
		"another site's script": {"Content-Type": {"application/json"}, "Origin": {"http://evil.example"}},
	} {
		resp, body, err := stranger.request("POST", "http://"+m.wanAddr()+wanHave, header, `{"v":1,"want":[]}`)
		if check(t, err); resp.StatusCode < 400 || resp.StatusCode >= 500 {
			t.Errorf("%s: %s %s", what, resp.Status, body)
		}
	}
}

// exchange sends bytes and returns what comes back until the other side closes.
func exchange(t *testing.T, h *lanHost, addr, send string) string {
	t.Helper()
	conn, err := h.dial(t.Context(), "tcp", addr)
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(patience)))
	io.WriteString(conn, send) // it may be closed already
	got, err := io.ReadAll(conn)
	if err, ok := err.(net.Error); ok && err.Timeout() {
		t.Errorf("the connection was not closed after %.40q", send)
	}
	return string(got)
}

// wanPortIsScanned: whatever comes in there is closed, or answered with an error
// of HTTP, without harm.
func wanPortIsScanned(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	m := in.node()
	stranger, _ := in.site().host("1")
	for what, first := range map[string]string{
		"BitTorrent": "\x13BitTorrent protocol\x00\x00\x00\x00\x00\x10\x00\x05" + strings.Repeat("x", 40),
		"encrypted":  string(randomBytes(300, "mse")),
		"TLS":        "\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + strings.Repeat("x", 190),
		"SSH":        "SSH-2.0-OpenSSH_9.2\r\n",
		"zeros":      strings.Repeat("\x00", 1000),
		"CONNECT":    "CONNECT " + in.originAddr() + ":443 HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		began := time.Now()
		if got := exchange(t, stranger, m.wanAddr(), first); got != "" {
			t.Errorf("%s is answered with %.100q", what, got)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s is closed after %v", what, took)
		}
	}
	for what, first := range map[string]string{
		"a long line":   "GET /" + strings.Repeat("x", 100_000) + " HTTP/1.1\r\n\r\n",
		"a large head":  "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-More: "+strings.Repeat("x", 1000)+"\r\n", 30) + "\r\n",
		"no HTTP":       "GET\r\n\r\n",
		"a large body":  "POST " + wanHave + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\n\r\n" + strings.Repeat(" ", 200_000),
		"a wrong body":  "POST " + wanHave + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n{]}",
		"HTTP/2":        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"a wrong range": "GET " + wanBlobs + strings.Repeat("a", 64) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes=9-1\r\n\r\n",
	} {
		if got := exchange(t, stranger, m.wanAddr(), first); got != "" && !strings.HasPrefix(got, "HTTP/1.1 4") && !strings.HasPrefix(got, "HTTP/1.1 5") {
			t.Errorf("%s is answered with %.100q", what, got)
		}
	}
	wantSlowCut(t, m, stranger)
	m.update()
}

// wantSlowCut sends a request's head byte by byte.
func wantSlowCut(t *testing.T, m *lanMachine, stranger *lanHost) {
	t.Helper()
	conn, err := stranger.dial(t.Context(), "tcp", m.wanAddr())
	check(t, err)
	defer conn.Close()
	go io.Copy(io.Discard, conn)
	began := time.Now()
	for _, err = io.WriteString(conn, "GET / HTTP/1.1\r\nX-Slow: "); err == nil && time.Since(began) < patience; _, err = io.WriteString(conn, "x") {
		time.Sleep(100 * time.Millisecond)
	}
	wantWithin(t, "a slow head is cut", began, 8*time.Second)
}

// wanPortIsFlooded: hundreds of connections hold up neither apt nor, from
// another site, a peer.
func wanPortIsFlooded(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	m := in.node()
	m.update()
	one := w.packages["net-b-06"]
	m.download(one.name)
	flooder, _ := in.site().host("1")
	var conns []net.Conn
	for i := range 30 {
		ip := fmt.Sprintf("5.1.77.%d", i+1)
		ipBatch(t, flooder.name, "addr add "+ip+"/32 dev lo")
		ipBatch(t, in.core.name, "route add "+ip+"/32 via "+in.sites[1].network+"1")
		conns = append(conns, openFrom(t, flooder, ip, m.wanAddr(), 25)...)
	}
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	open := stillOpen(conns)
	t.Logf("%d of %d connections are open", open, len(conns))
	if open > 512 || open < 100 {
		t.Errorf("%d of %d connections are open, want at most 512", open, len(conns))
	}
	began := time.Now()
	m.update()
	m.download(namesOf(w.set("a"))...)
	wantWithin(t, "apt has what it wants meanwhile", began, 10*time.Second)

	for _, c := range conns {
		c.Close()
	}
	visitor, _ := in.site().host("1")
	eventually(t, "a peer is served after the flood", func() bool {
		resp, _, err := visitor.request("GET", "http://"+m.wanAddr()+wanBlobs+hex.EncodeToString(one.digest[:]), nil, "")
		return err == nil && resp.StatusCode == http.StatusOK
	})
}

// openFrom opens connections from one address of a host.
func openFrom(t *testing.T, h *lanHost, ip, to string, n int) (conns []net.Conn) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: patience}
	check(t, h.inside(func() error {
		for range n {
			conn, err := dialer.Dial("tcp", to)
			if err != nil {
				return err
			}
			if _, err := io.WriteString(conn, "GET / HT"); err == nil {
				conns = append(conns, conn)
			}
		}
		return nil
	}))
	return conns
}

// stillOpen is how many connections the other side has left open.
func stillOpen(conns []net.Conn) int {
	var open atomic.Int32
	var readers sync.WaitGroup
	for _, c := range conns {
		readers.Go(func() {
			c.SetReadDeadline(time.Now().Add(time.Second))
			_, err := c.Read(make([]byte, 1))
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				open.Add(1)
			}
		})
	}
	readers.Wait()
	return int(open.Load())
}
