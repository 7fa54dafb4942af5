// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"net"
	"net/netip"
	"strings"
)

// unprefixed undoes the forms in which sources name a repository through a proxy on this machine:
// "http://localhost:9977/deb.debian.org/debian", and "http://HTTPS///deb.debian.org/debian" with or without such a
// prefix. What is judged and looked up is the repository itself.
func (u uri) unprefixed() uri {
	if u.scheme != "http" {
		return u
	}
	if host, path, ok := behindPrefix(u.host, u.path); ok {
		u.host, u.path = normalHost(host, u.scheme), path
	}
	if u.host == "https" {
		host, path, _ := strings.Cut(strings.TrimLeft(u.path, "/"), "/")
		u.scheme, u.host, u.path = "https", normalHost(host, "https"), "/"+path
	}
	return u
}

// BehindPrefix returns the name behind a prefix of this machine's: "deb.debian.org/debian" for
// "localhost:9977/deb.debian.org/debian". Other names are returned as they are.
func BehindPrefix(name string) string {
	host, path, _ := strings.Cut(name, "/")
	inner, rest, ok := behindPrefix(host, "/"+path)
	if !ok {
		inner, rest = host, "/"+path
	}
	if strings.EqualFold(inner, "https") {
		return strings.TrimLeft(rest, "/")
	}
	return inner + rest
}

// behindPrefix takes the first segment of a path for the host, where host is a port of this machine and the
// segment can be a host.
func behindPrefix(host, path string) (inner, rest string, ok bool) {
	if !isLocalPort(host) {
		return "", "", false
	}
	inner, rest, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if inner != "HTTPS" && !strings.ContainsAny(inner, ".:") {
		return "", "", false
	}
	return inner, "/" + rest, true
}

func isLocalPort(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil || port == "" {
		return false
	}
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && ip.IsLoopback()
}
