// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// tunnelIdle ends a tunnel through which nothing has gone for that long.
const tunnelIdle = 5 * time.Minute

// serveConnect tunnels to port 443: apt speaks TLS with https origins itself
// (RFC 9110 §9.3.6).
func (s *Server) serveConnect(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.RequestURI)
	if err != nil || !validAuthority(host) || port != "443" {
		refuse(w, r, http.StatusForbidden, fmt.Sprintf("Forbidden (apt-dht: CONNECT goes to port 443 only, not to %q)", r.RequestURI))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), dialTimeout)
	origin, err := s.cfg.Egress.dialTunnel(ctx, realmOf(clientOf(r)), net.JoinHostPort(host, port))
	cancel()
	if err != nil {
		s.fail(w, r, "https://"+r.RequestURI, err)
		return
	}
	defer origin.Close()
	client, pending, err := w.(http.Hijacker).Hijack()
	if err != nil {
		s.log.Error("cannot take over a connection for CONNECT", "err", err)
		return
	}
	defer client.Close()
	client.SetDeadline(time.Time{})
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	s.tunnels.run(client, io.MultiReader(io.LimitReader(pending, int64(pending.Reader.Buffered())), client), origin)
}
