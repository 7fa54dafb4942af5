// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// errNotAFile: the request's form names no file at an origin.
var errNotAFile = errors.New("not the name of a file at an origin")

// targetOf is the URL that a request means, its path byte for byte as sent:
// some archives hold files whose names contain '%'. Somebody who has set the
// proxy and also uses it as a prefix means the URL behind the prefix.
func targetOf(r *http.Request) (string, error) {
	uri := r.RequestURI
	if rest, ok := cutPrefixFold(uri, "http://"); ok {
		if host, path, ok := strings.Cut(rest, "/"); ok && isSelf(r, host) && strings.Contains(path, "/") {
			rest = path
		}
		return absoluteTarget(rest)
	}
	if _, ok := cutPrefixFold(uri, "https://"); ok {
		return checkURL("https", uri[len("https://"):])
	}
	rest, ok := strings.CutPrefix(uri, "/")
	if !ok || !strings.Contains(rest, "/") { // as in /favicon.ico
		return "", fmt.Errorf("%q: %w", withoutUser(uri), errNotAFile)
	}
	return absoluteTarget(rest)
}

// liftCredentials moves the user information of an absolute URI to the field in
// which mirrors want it: apt leaves that of a line in sources.list in the URI when
// it asks a proxy.
func liftCredentials(r *http.Request) {
	if r.URL.User == nil {
		return
	}
	scheme, rest, _ := strings.Cut(r.RequestURI, "://")
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	r.RequestURI = scheme + "://" + rest[strings.LastIndexByte(authority, '@')+1:]
	if !hasCredentials(r) {
		password, _ := r.URL.User.Password()
		r.SetBasicAuth(r.URL.User.Username(), password)
	}
}

// isSelf tells whether host, with its port, is the address at which the
// request came in, or this machine by the names that it has for itself.
func isSelf(r *http.Request, host string) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	name, port, err2 := net.SplitHostPort(host)
	if err != nil || err2 != nil || port != strconv.Itoa(int(at.Port())) {
		return false
	}
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && (ip.IsLoopback() || ip == at.Addr().Unmap())
}

// absoluteTarget reads host/path, or apt-cacher-ng's HTTPS///host/path.
func absoluteTarget(rest string) (string, error) {
	if secure, ok := strings.CutPrefix(rest, "HTTPS/"); ok {
		return checkURL("https", strings.TrimLeft(secure, "/"))
	}
	return checkURL("http", rest)
}

// checkURL puts a URL together from an authority and a path.
func checkURL(scheme, rest string) (string, error) {
	host, path := rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	if !validAuthority(host) {
		return "", fmt.Errorf("%q: %w", scheme+"://"+withoutUser(rest), errNotAFile)
	}
	if i := strings.IndexByte(path, '#'); i >= 0 {
		path = path[:i]
	}
	return scheme + "://" + strings.ToLower(host) + path, nil
}

// withoutUser hides what may be a password.
func withoutUser(rest string) string {
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		return "***" + rest[i:]
	}
	return rest
}

// validAuthority accepts host, host:port and [v6]:port; no user information, which
// is in a field of its own (see liftCredentials).
func validAuthority(host string) bool {
	if host == "" || len(host) > 262 || host[0] == '.' || host[0] == '-' {
		return false
	}
	for i := 0; i < len(host); i++ {
		if !isHostByte(host[i]) {
			return false
		}
	}
	return true
}

func isHostByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte(".-_:[]", c) >= 0
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// schemeOf is a URL's scheme with the slashes behind it.
func schemeOf(url string) string {
	return url[:strings.Index(url, "://")+len("://")]
}

// urlOf writes one of the index's names as a URL.
func urlOf(scheme, name string) string {
	host, path, _ := strings.Cut(name, "/")
	return scheme + host + (&url.URL{Path: "/" + path}).EscapedPath()
}

// hostOf is a URL's host with its port.
func hostOf(url string) string {
	rest := url[len(schemeOf(url)):]
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// stripPort is the host of host:port or [v6]:port.
func stripPort(host string) string {
	if strings.HasPrefix(host, "[") {
		inner, _, _ := strings.Cut(host[1:], "]")
		return inner
	}
	host, _, _ = strings.Cut(host, ":")
	return host
}
