// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
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
	return addrOf(r.RemoteAddr)
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
