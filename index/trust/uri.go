// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"errors"
	"runtime"
	"strings"
	"unicode"
)

// uri is a URI as apt understands it (apt-pkg/contrib/strutl.cc), which is laxer than RFC 3986.
type uri struct {
	scheme      string
	host        string // lower case, with the port unless it is the scheme's own
	path        string // verbatim, begins with '/'
	credentials bool   // it had a user
}

var errURI = errors.New("not a URI: need SCHEME://HOST/PATH")

func parseURI(s string) (uri, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || scheme == "" || strings.ContainsFunc(s, unicode.IsControl) {
		return uri{}, errURI
	}
	u := uri{scheme: strings.ToLower(scheme), path: rest}
	if authority, found := strings.CutPrefix(rest, "//"); found {
		var path string
		authority, path, _ = strings.Cut(authority, "/")
		u.path = "/" + path
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			u.credentials = true
			authority = authority[at+1:]
		}
		u.host = authority
	}
	u.scheme = strings.TrimPrefix(u.scheme, "tor+")
	u.host = normalHost(u.host, u.scheme)
	if u.host == "" && u.isRemote() {
		return uri{}, errURI
	}
	return u, nil
}

func (u uri) isRemote() bool {
	switch strings.TrimPrefix(u.scheme, "mirror+") {
	case "http", "https", "ftp", "mirror":
		return true
	}
	return false
}

// normalHost brings a host with its port to the form in which URLs are compared.
func normalHost(host, scheme string) string {
	host = strings.ToLower(host)
	switch scheme {
	case "http", "mirror", "mirror+http":
		return strings.TrimSuffix(host, ":80")
	case "https", "mirror+https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

func (u uri) String() string {
	if u.host == "" {
		return u.scheme + ":" + u.path
	}
	return u.scheme + "://" + u.host + u.path
}

// cleanPath removes "." segments and the slashes at the end.
func cleanPath(path string) string {
	segments := strings.Split(path, "/")
	kept := segments[:0]
	for _, s := range segments {
		if s != "." {
			kept = append(kept, s)
		}
	}
	return strings.TrimRight(strings.Join(kept, "/"), "/")
}

// unquote undoes percent-encoding as apt's DeQuoteString does: what is not %xx stays.
func unquote(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// substituteArch replaces the one variable of sources.list(5) by the name that Debian has for the
// architecture for which we were built.
func substituteArch(s string) string {
	return strings.ReplaceAll(s, "$(ARCH)", debianArch(runtime.GOARCH))
}

func debianArch(goarch string) string {
	switch goarch {
	case "386":
		return "i386"
	case "arm":
		return "armhf"
	case "mips64le":
		return "mips64el"
	case "mipsle":
		return "mipsel"
	case "ppc64le":
		return "ppc64el"
	}
	return goarch
}
