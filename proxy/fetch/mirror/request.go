// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// notSent are the header fields that belong to one connection (RFC 9110 §7.6.1) or would frame a body; on a
// pipelined connection each of them could shift all later answers.
var notSent = map[string]bool{
	"Connection": true, "Content-Length": true, "Expect": true, "Host": true, "Keep-Alive": true,
	"Proxy-Authorization": true, "Proxy-Connection": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true,
}

// checkRequest refuses what could not be sent, or would be read as something else by the mirror.
func checkRequest(req *http.Request) error {
	if req.URL == nil {
		return &Error{Op: "request", Err: errors.New("it has no URL")}
	}
	refuse := func(format string, args ...any) error {
		return failure("request", req.URL, fmt.Errorf(format, args...))
	}
	switch {
	case req.Method != "" && req.Method != http.MethodGet:
		return refuse("method %q is not GET", req.Method)
	case req.Body != nil && req.Body != http.NoBody:
		return refuse("it has a body")
	case req.URL.Scheme != "http" && req.URL.Scheme != "https":
		return refuse("scheme %q is neither http nor https", req.URL.Scheme)
	case req.URL.Hostname() == "":
		return refuse("it names no host")
	case !plain(hostOf(req)):
		return refuse("malformed host %q", hostOf(req))
	case !strings.HasPrefix(target(req.URL), "/") || !plain(target(req.URL)):
		return refuse("malformed target %q", target(req.URL))
	}
	for name, values := range req.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return refuse("malformed header field name %q", name)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return refuse("malformed value of header field %s", name)
			}
		}
	}
	return nil
}

// plain tells whether s holds no blank and no control character.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != ""
}

func hostOf(req *http.Request) string {
	if req.Host != "" {
		return req.Host
	}
	return req.URL.Host
}

// target returns the origin form (RFC 9112 §3.2.1), verbatim where the URL holds it so.
func target(u *url.URL) string {
	rest, ok := strings.CutPrefix(u.Opaque, "//")
	if !ok {
		return u.RequestURI()
	}
	path := "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		path = rest[i:]
	}
	if path[0] == '?' {
		path = "/" + path
	}
	if u.RawQuery != "" && !strings.Contains(path, "?") {
		path += "?" + u.RawQuery
	}
	return path
}

// address returns the host and port that a URL is reached at.
func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// wireForm is the request as it is sent. It has passed checkRequest.
func wireForm(req *http.Request) []byte {
	b := make([]byte, 0, 512)
	b = append(b, "GET "...)
	b = append(b, target(req.URL)...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, hostOf(req)...)
	b = append(b, "\r\n"...)
	for name, values := range req.Header {
		if notSent[http.CanonicalHeaderKey(name)] {
			continue
		}
		for _, v := range values {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, v...)
			b = append(b, "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}
