// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 16 << 10

// greeted is a proxy that has answered.
type greeted struct {
	addr string // HOST:PORT
	node bool   // it is an apt-dht
	took time.Duration
}

// bestFirst orders proxies: each apt-dht, then the quickest. A link-local address
// comes last: it is of use only with its zone, and the same proxy may have others.
func bestFirst(a, b greeted) int {
	return cmp.Or(trueFirst(a.node, b.node), trueFirst(!isLinkLocal(a.addr), !isLinkLocal(b.addr)), cmp.Compare(a.took, b.took))
}

// trueFirst compares so that true comes before false.
func trueFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func isLinkLocal(addr string) bool {
	at, err := netip.ParseAddrPort(addr)
	return err == nil && at.Addr().IsLinkLocalUnicast()
}

// greet asks what listens at addr whether it is a proxy that serves us. apt-dht
// and apt-cacher-ng answer with a 406 of their own, squid with the Via or
// X-Cache field that a proxy's answers have (RFC 9110 §7.6.3).
func greet(ctx context.Context, addr string, patience time.Duration) (greeted, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	start := time.Now()
	answer, body, err := ask(ctx, addr, http.MethodGet, "/", addr)
	took := time.Since(start)
	if err != nil {
		return greeted{}, err
	}
	if refuses(answer.StatusCode) {
		return greeted{}, fmt.Errorf("%s answers %s", addr, answer.Status)
	}
	h := answer.Header
	if answer.StatusCode != http.StatusNotAcceptable && h.Get("Via") == "" && h.Get("X-Cache") == "" {
		return greeted{}, fmt.Errorf("%s answers %s, not as a proxy", addr, answer.Status)
	}
	return greeted{addr, bytes.Contains(body, []byte("apt-dht")), took}, nil
}

// refuses tells a proxy's unwillingness or inability from a mirror's answer
// that goes through it.
func refuses(status int) bool {
	unwilling := []int{http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusTooManyRequests}
	return slices.Contains(unwilling, status) || status >= 500 && status != http.StatusNotImplemented
}

// isMirrors tells whether a mirror's own 403 came through a proxy, as for a
// directory that it does not list. squid has Via in its own refusals too.
func isMirrors(answer *http.Response) bool {
	return answer.StatusCode == http.StatusForbidden && answer.Header.Get("Via") != "" && answer.Header.Get("X-Squid-Error") == ""
}

// tryURL asks a proxy for the target, or for a tunnel to it. It returns an
// error if the proxy refuses; sure is false if it has not said yet.
func tryURL(ctx context.Context, addr string, t target, patience time.Duration) (sure bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	method, uri, host := http.MethodHead, t.url, t.authority()
	if t.secure {
		method, uri = http.MethodConnect, host
	}
	answer, _, err := ask(ctx, addr, method, uri, host)
	switch {
	case err != nil && ctx.Err() != nil:
		return false, nil
	case err != nil:
		return true, err
	case !t.secure && isMirrors(answer):
	case refuses(answer.StatusCode), t.secure && answer.StatusCode != http.StatusOK:
		return true, fmt.Errorf("%s answers %s to %s %s", addr, answer.Status, method, uri)
	}
	return true, nil
}

// ask sends one request and returns the answer, of a GET with what there is of
// its body.
func ask(ctx context.Context, addr, method, uri, host string) (answer *http.Response, body []byte, err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: apt-dht/%s (detect)\r\nConnection: close\r\n\r\n", method, uri, host, versionString())
	if err != nil {
		return nil, nil, err
	}
	answer, err = http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), &http.Request{Method: method})
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer of %s: %w", addr, err)
	}
	if method == http.MethodGet {
		body, _ = io.ReadAll(answer.Body)
	}
	return answer, body, nil
}
