// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"net"
	"net/http"
	"net/netip"
)

// allows tells whether a client is served.
func (s *Server) allows(client netip.Addr) bool {
	return client.IsValid() && s.cfg.Allows(client)
}

// clientOf is the address a request came from, IPv4 in its own form. The zero
// Addr, which nobody allows, where there is none.
func clientOf(r *http.Request) netip.Addr {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return clientAt(r.RemoteAddr, local)
}

// clientAt is the client of a connection. One from the very address that it
// came in at is this machine's, whatever name or address led here.
func clientAt(remote string, local net.Addr) netip.Addr {
	client := addrOf(remote)
	if local != nil && client.IsValid() && client == addrOf(local.String()) {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return client
}

func addrOf(hostport string) netip.Addr {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// Realms keep connections to mirrors apart by what their askers may reach.
const (
	realmLocal  = "local"  // clients on this machine may reach origins on it
	realmRemote = "remote" // all others may not
)

func realmOf(client netip.Addr) string {
	if client.IsLoopback() {
		return realmLocal
	}
	return realmRemote
}
