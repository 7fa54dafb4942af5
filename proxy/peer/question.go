// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// NewRequest asks the node at addr for a path, without a body.
func NewRequest(ctx context.Context, method string, addr netip.AddrPort, path string) *http.Request {
	r := &http.Request{
		Method:     method,
		URL:        &url.URL{Scheme: "http", Host: addr.String(), Path: path},
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     http.Header{"User-Agent": {"apt-dht"}},
	}
	return r.WithContext(ctx)
}

// NewQuestion puts a question, in JSON, to the node at addr. It must be one that
// may be repeated: if it meets a connection just being closed it is sent on
// another.
func NewQuestion(ctx context.Context, addr netip.AddrPort, path string, question any) (*http.Request, error) {
	body, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	r := NewRequest(ctx, http.MethodPost, addr, path)
	r.Header["Content-Type"] = []string{"application/json"}
	r.Header["Idempotency-Key"] = nil // so that net/http repeats it; the empty field itself is not sent
	r.ContentLength = int64(len(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, err = r.GetBody()
	return r, err
}

// ErrBusy: a node answers, but not this question now.
var ErrBusy = errors.New("it has too much to do")

// ReadAnswer reads what answers a question, of at most most bytes. The caller
// closes the answer's body.
func ReadAnswer(resp *http.Response, most int64) ([]byte, error) {
	if resp.StatusCode == http.StatusTooManyRequests {
		return nil, ErrBusy
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %q", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > most {
		return nil, fmt.Errorf("it answered more than %d bytes", most)
	}
	return body, nil
}

// retryAfter reads the seconds of a Retry-After field, of an hour at most; a date
// counts for nothing.
func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, time.Hour)
}

// NoWebPages refuses, and reports so, what a browser may send for a web page: one
// tells the page's origin, and cannot send JSON unasked.
func NoWebPages(w http.ResponseWriter, r *http.Request) (refused bool) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case kind != "application/json":
		http.Error(w, "a question is application/json", http.StatusUnsupportedMediaType)
	case r.Header.Get("Origin") != "":
		http.Error(w, "questions are not for web pages", http.StatusForbidden)
	default:
		return false
	}
	return true
}

const (
	// BodyTimeout is how long the body of a request may take to arrive.
	BodyTimeout = 5 * time.Second
	// takeTimeout is how long an answer may take to be taken.
	takeTimeout = 5 * time.Second
)

// NoBody refuses a request for a blob that announces a body: net/http would wait
// for it before it sends ours.
func NoBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(BodyTimeout))
		w.Header().Set("Connection", "close")
		http.Error(w, r.Method+" has no body", http.StatusBadRequest)
	})
}

// ReadQuestion reads the body of a question, of at most most bytes, within five
// seconds. Where there is none to be read it has answered.
func ReadQuestion(w http.ResponseWriter, r *http.Request, most int64) (body []byte, ok bool) {
	conn := http.NewResponseController(w)
	conn.SetReadDeadline(time.Now().Add(BodyTimeout)) // where it cannot be set, the body is bounded all the same
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		http.Error(w, fmt.Sprintf("a question has at most %d bytes", most), http.StatusRequestEntityTooLarge)
		return nil, false
	}
	if err != nil { // net/http ends the connection
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil, false
	}
	conn.SetReadDeadline(time.Time{})
	return body, true
}

// Answer writes an answer in JSON. Who does not take it within five seconds, or has
// gone, gets none.
func Answer(w http.ResponseWriter, answer any) {
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	conn := http.NewResponseController(w)
	conn.SetWriteDeadline(time.Now().Add(takeTimeout))
	w.Write(body)
	conn.Flush()
	conn.SetWriteDeadline(time.Time{})
}

// TooMany refuses what is beyond a bound, until after has passed, in whole seconds.
func TooMany(w http.ResponseWriter, after time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds())))
	http.Error(w, "too many at a time", http.StatusTooManyRequests)
}

// SourceOf is the address that a request came from, with its zone if it is
// link-local; the zero Addr where there is none.
func SourceOf(r *http.Request) netip.Addr {
	source, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return source.Addr().Unmap()
}
