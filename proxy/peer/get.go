// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"apt-dht/proxy/fetch"
	"apt-dht/store"
)

// The fields of a blob's answer: the state of its hash before the first byte,
// and that it is still arriving.
const (
	StateField   = "X-Apt-Dht-State"
	GrowingField = "X-Apt-Dht-Growing"
)

// Get asks for the bytes of a blob from offset from up to to, -1 for the end, as
// fetch.Peers' Fetch does: r names the blob, patience is how long the answer's
// head may take, count is told of each read. The error wraps fetch.ErrNotHere
// where the peer answers, and does not give them.
func Get(t http.RoundTripper, r *http.Request, from, to int64, patience time.Duration, count func(n int)) (*fetch.PeerBody, error) {
	ctx, cancel := context.WithCancel(r.Context())
	if from > 0 || to >= 0 {
		r.Header["Range"] = []string{formatRange(from, to)}
	}
	impatience := time.AfterFunc(patience, cancel)
	resp, err := t.RoundTrip(r.WithContext(ctx))
	if !impatience.Stop() {
		if err == nil {
			resp.Body.Close()
		}
		err = fmt.Errorf("no answer within %s: %w", patience, os.ErrDeadlineExceeded)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	answer, err := readHead(resp, from)
	if err != nil {
		cancel()
		resp.Body.Close()
		return nil, err
	}
	answer.ReadCloser = &body{ReadCloser: resp.Body, at: from, end: end(to, answer.Size), most: to, cancel: cancel, count: count}
	return answer, nil
}

// end is where the bytes that were asked for end, -1: that is not known.
func end(to, size int64) int64 {
	if to < 0 || size >= 0 && size < to {
		return size
	}
	return to
}

// RefusedError is a peer's answer without bytes. It wraps fetch.ErrNotHere, and
// fetch.ErrBusy where the peer would give them at another time.
type RefusedError struct {
	Status string // as HTTP has it, such as "404 Not Found"
	Code   int
	// RetryAfter is when the peer wants to be asked again. 0: it does not say.
	RetryAfter time.Duration
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s: it answered %q", fetch.ErrNotHere, e.Status)
}

// Unwrap returns fetch.ErrBusy, which is a fetch.ErrNotHere, or that.
func (e *RefusedError) Unwrap() error {
	if e.Code == http.StatusTooManyRequests {
		return fetch.ErrBusy
	}
	return fetch.ErrNotHere
}

var errOtherRange = fmt.Errorf("%w: it gives another range than the one asked for", fetch.ErrNotHere)

// readHead reads the head of an answer that must begin with the byte at from.
func readHead(resp *http.Response, from int64) (*fetch.PeerBody, error) {
	answer := &fetch.PeerBody{Size: resp.ContentLength, Growing: resp.Header.Get(GrowingField) != ""}
	switch resp.StatusCode {
	case http.StatusOK:
		if from > 0 {
			return nil, errOtherRange
		}
	case http.StatusPartialContent:
		first, size, ok := fetch.ParseContentRange(resp.Header.Get("Content-Range"))
		if !ok || first != from {
			return nil, errOtherRange
		}
		answer.Size = size
	default:
		return nil, &RefusedError{Status: resp.Status, Code: resp.StatusCode, RetryAfter: retryAfter(resp)}
	}
	if state, ok := ParseHash(resp.Header.Get(StateField)); ok && from > 0 && from%store.PieceSize == 0 {
		answer.State = &state
	}
	answer.Modified, _ = http.ParseTime(resp.Header.Get("Last-Modified"))
	return answer, nil
}

// body is a peer's answer: no more than was asked for, and not less without an
// error.
type body struct {
	io.ReadCloser
	at     int64 // offset of the next byte
	end    int64 // of the last one and one, -1: not known
	most   int64 // no byte from here on was asked for, -1: all were
	cancel context.CancelFunc
	count  func(n int)
}

func (b *body) Read(p []byte) (int, error) {
	if b.most >= 0 {
		if b.at >= b.most {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), b.most-b.at)]
	}
	n, err := b.ReadCloser.Read(p)
	b.at += int64(n)
	b.count(n)
	if errors.Is(err, io.EOF) && b.at < b.end {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *body) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
