// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// dialTunnel connects to an https origin, through the upstream proxy where
// there is one.
func (e *Egress) dialTunnel(ctx context.Context, realm, addr string) (net.Conn, error) {
	via, err := e.Proxy(&url.URL{Scheme: "https", Host: addr})
	if err != nil {
		return nil, err
	}
	if via == nil {
		return e.Dial(ctx, realm, "tcp", addr)
	}
	if via.Scheme != "http" {
		return nil, fmt.Errorf("upstream proxy %s: CONNECT goes through http proxies only", via.Redacted())
	}
	conn, err := e.dialUpstream(ctx, "tcp", hostPort(via))
	if err != nil {
		return nil, fmt.Errorf("upstream proxy %s: %w", via.Redacted(), err)
	}
	if err := connectThrough(ctx, conn, via, addr); err != nil {
		conn.Close()
		return nil, fmt.Errorf("upstream proxy %s: %w", via.Redacted(), err)
	}
	return conn, nil
}

// connectThrough asks the proxy at conn for a tunnel (RFC 9110 §9.3.6). A
// proxy that sends bytes of the origin's together with its answer breaks TLS's
// rule that the client speaks first, and is refused.
func connectThrough(ctx context.Context, conn net.Conn, via *url.URL, addr string) error {
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
		defer conn.SetDeadline(time.Time{})
	}
	head := "CONNECT " + addr + " HTTP/1.1\r\nHost: " + addr + "\r\n"
	if user := via.User; user != nil {
		password, _ := user.Password()
		head += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := conn.Write([]byte(head + "\r\n")); err != nil {
		return err
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return fmt.Errorf("answering CONNECT %s: %w", addr, err)
	}
	switch {
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("it answered CONNECT %s with %s", addr, resp.Status)
	case br.Buffered() > 0:
		return fmt.Errorf("it sent bytes before the client has, through the tunnel to %s", addr)
	}
	return nil
}

// hostPort is a proxy's address with its port.
func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
