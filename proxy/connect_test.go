// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// tunnelled is an https origin behind an upstream proxy, which lets a test
// have one at port 443 without being root: what is asked for is noted, and
// the tunnel leads to serve.
func tunnelled(t *testing.T, serve func(net.Conn, *bufio.Reader)) *Egress {
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
				br := bufio.NewReader(c)
				r, err := http.ReadRequest(br)
				if err != nil || r.Method != http.MethodConnect {
					return
				}
				if r.Host != "origin.example:443" {
					io.WriteString(c, "HTTP/1.1 502 No\r\n\r\n")
					return
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
				serve(c, br)
			}()
		}
	}()
	return &Egress{Upstream: func(*url.URL) (*url.URL, error) {
		return &url.URL{Scheme: "http", Host: l.Addr().String()}, nil
	}}
}

const connectOrigin = "CONNECT origin.example:443 HTTP/1.1\r\nHost: origin.example:443\r\nUser-Agent: Debian APT-HTTP/1.3 (2.6.1)\r\n\r\n"

// established checks the only answer that apt takes for a yes. It must leave
// what follows to the tunnel.
func (c *client) established() {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: http.MethodConnect})
	check(c.t, err)
	if resp.StatusCode != 200 || len(resp.Header) > 0 {
		c.t.Fatalf("CONNECT was answered %s with %v", resp.Status, resp.Header)
	}
}

// Both sides send, each ends its own half, and all arrives.
func TestTunnel(t *testing.T) {
	toOrigin, toClient := random(1, 300_000), random(2, 300_000)
	received := make(chan string, 1)
	n := newNode(t, setup{egress: tunnelled(t, func(c net.Conn, br *bufio.Reader) {
		b, _ := io.ReadAll(br)
		received <- string(b)
		io.WriteString(c, toClient)
	})})
	conn := n.dial()
	conn.send(connectOrigin)
	conn.established()
	conn.send(toOrigin)
	check(t, conn.CloseWrite())
	if got := <-received; got != toOrigin {
		t.Errorf("%d bytes reached the origin, want %d", len(got), len(toOrigin))
	}
	if got, err := io.ReadAll(conn.r); err != nil || string(got) != toClient {
		t.Errorf("%d bytes came back, want %d: %v", len(got), len(toClient), err)
	}
}

func (n *node) tunnelCount() int {
	n.tunnels.mu.Lock()
	defer n.tunnels.mu.Unlock()
	return len(n.tunnels.open)
}

// What comes right behind the head of CONNECT, in the same segment, belongs to
// the tunnel.
func TestTunnelTakesWhatFollowsTheHead(t *testing.T) {
	n := newNode(t, setup{egress: tunnelled(t, func(c net.Conn, br *bufio.Reader) { io.Copy(c, br) })})
	for _, data := range []string{"x", "\x16\x03\x01 a client's hello", "GET http://h/ HTTP/1.1\r\n\r\n", random(1, 200_000)} {
		conn := n.dial()
		sent := make(chan error, 1)
		go func() {
			_, err := conn.Write([]byte(connectOrigin + data))
			sent <- err
		}()
		conn.established()
		got := make([]byte, len(data))
		if _, err := io.ReadFull(conn.r, got); err != nil || string(got) != data {
			t.Errorf("not all of %d bytes came back: %v", len(data), err)
		}
		check(t, <-sent)
		check(t, conn.CloseWrite())
		if rest, err := io.ReadAll(conn.r); err != nil || len(rest) > 0 {
			t.Errorf("%d more bytes came back: %v", len(rest), err)
		}
	}
	eventually(t, "all tunnels have ended", func() bool { return n.tunnelCount() == 0 })
}

// A tunnel of a connection that was used for requests before works as well.
func TestTunnelAfterRequests(t *testing.T) {
	n := newNode(t, setup{egress: tunnelled(t, func(c net.Conn, br *bufio.Reader) { io.Copy(c, br) })})
	conn := n.dial()
	conn.send(aptRequest("/~/v1/status") + aptRequest("/metrics") + connectOrigin + "hello")
	for range 2 {
		if got := conn.answer("GET"); got.StatusCode != 200 || got.cut != nil {
			t.Fatal(got.Status, got.cut)
		}
	}
	conn.established()
	b := make([]byte, 5)
	if _, err := io.ReadFull(conn.r, b); err != nil || string(b) != "hello" {
		t.Errorf("%q came back: %v", b, err)
	}
}

func TestConnectIsRefused(t *testing.T) {
	n := newNode(t, setup{egress: tunnelled(t, func(net.Conn, *bufio.Reader) {})})
	for target, code := range map[string]int{
		"origin.example:80":       403,
		"origin.example:22":       403,
		"origin.example:4433":     403,
		"origin.example:0443":     403,
		"origin.example":          403,
		"[::1]:22":                403,
		"user@origin.example:443": 403,
		"127.0.0.1:443":           403, // the policy
		"169.254.169.254:443":     403,
		"[fe80::1]:443":           403,
		"nowhere.example:443":     502, // by the upstream proxy
	} {
		c := n.dial()
		c.send("CONNECT " + target + " HTTP/1.1\r\nHost: origin.example\r\n\r\n")
		c.answer("GET").wantRefusal(t, code, "apt-dht")
	}
}

// The end of the node is the end of its tunnels.
func TestTunnelsEndAtShutdown(t *testing.T) {
	n := newNode(t, setup{egress: tunnelled(t, func(c net.Conn, br *bufio.Reader) { io.Copy(c, br) })})
	conn := n.dial()
	conn.send(connectOrigin)
	conn.established()
	eventually(t, "it is a tunnel", func() bool { return n.tunnelCount() == 1 })
	began := time.Now()
	check(t, n.stop())
	if took := time.Since(began); took >= shutdownGrace {
		t.Errorf("a tunnel that is idle delayed the end by %v", took)
	}
	if _, err := conn.r.ReadByte(); err == nil {
		t.Error("the tunnel is open still")
	}
}
