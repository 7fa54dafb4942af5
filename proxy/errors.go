// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"apt-dht/proxy/fetch"
	"apt-dht/proxy/fetch/mirror"
)

// fail answers with what went wrong with url. What a mirror answered goes on
// as it is. An answer of our own has a body, which makes apt try again where
// its status says that this may help (apt's BaseHttpMethod), and tells the
// reason in its status line, the only part that apt shows.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, url string, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	var status *fetch.StatusError
	if errors.As(err, &status) && (status.Code != http.StatusNotModified || isConditional(r)) {
		s.relay(w, status)
		return
	}
	s.log.Warn("a request failed", "url", url, "client", r.RemoteAddr, "err", err)
	code := codeOf(err)
	if refused := (*originError)(nil); errors.As(err, &refused) {
		err = refused // how we came to ask is of no interest
	}
	refuse(w, r, code, fmt.Sprintf("%s (apt-dht: %v)", http.StatusText(code), err))
}

// codeOf chooses the status for a failure of our own or of reaching a mirror.
// Never 404: for apt that means that the file is not there, and is final.
func codeOf(err error) int {
	var timeout net.Error
	switch {
	case errors.As(err, new(*originError)):
		return http.StatusForbidden
	case errors.Is(err, fetch.ErrClosed):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, mirror.ErrStalled),
		errors.As(err, &timeout) && timeout.Timeout():
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// relayed are the fields of a mirror's error that concern the client.
var relayed = []string{"Content-Type", "Content-Range", "Retry-After", "Www-Authenticate", "Last-Modified", "Etag"}

// relay passes on what a mirror answered instead of the file.
func (s *Server) relay(w http.ResponseWriter, status *fetch.StatusError) {
	h := w.Header()
	for _, k := range relayed {
		if v := status.Header[k]; v != nil {
			h[k] = v
		}
	}
	h.Set("X-Apt-Dht-Source", fetch.FromMirror)
	h.Set("Via", s.via)
	disarm(h)
	w.WriteHeader(status.Code)
	if status.Code != http.StatusNotModified {
		w.Write(status.Body)
	}
}

// maxReason bounds a status line's text: apt prints it on one line.
const maxReason = 300

// refuse answers with a status line of our own words, which net/http cannot
// write, and ends the connection.
func refuse(w http.ResponseWriter, r *http.Request, code int, reason string) {
	refuseWith(w, r, code, reason, reason+"\n")
}

func refuseWith(w http.ResponseWriter, r *http.Request, code int, reason, body string) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, body, code)
		return
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		http.Error(w, body, code)
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", code, oneLine(reason), len(body))
	if r.Method != http.MethodHead {
		io.WriteString(conn, body)
	}
}

// oneLine makes text fit for a status line: what came from elsewhere must not
// write header fields (CVE-2017-7443 did that to apt-cacher-ng).
func oneLine(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return ' '
		}
		return c
	}, s)
	return s[:min(len(s), maxReason)]
}
