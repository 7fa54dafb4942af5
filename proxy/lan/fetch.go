// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"apt-dht/proxy/fetch"
	"apt-dht/store"
)

// Fetch implements fetch.LAN. The error wraps fetch.ErrNotHere where the peer
// answers, but does not give the blob; otherwise it could not be reached.
func (n *Node) Fetch(ctx context.Context, p fetch.Peer, d fetch.Digest, from, to int64) (*fetch.PeerBody, error) {
	ctx, cancel := context.WithCancel(ctx)
	r := newRequest(ctx, http.MethodGet, p.Addr, "blob/"+hex.EncodeToString(d[:]))
	if from > 0 || to >= 0 {
		r.Header["Range"] = []string{rangeOf(from, to)}
	}
	impatience := time.AfterFunc(patience, cancel)
	resp, err := n.transport.RoundTrip(r)
	if !impatience.Stop() {
		if err == nil {
			resp.Body.Close()
		}
		err = fmt.Errorf("no answer within %s: %w", patience, os.ErrDeadlineExceeded)
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("lan: blob %x of %s: %w", d, p.Addr, err)
	}
	body, err := readBlob(resp, from, to)
	if err != nil {
		cancel()
		resp.Body.Close()
		return nil, fmt.Errorf("lan: blob %x of %s: %w", d, p.Addr, err)
	}
	body.ReadCloser = &countedBody{
		ReadCloser: resp.Body,
		cancel:     cancel,
		totals:     []*atomic.Int64{&n.bytes.allFrom, counter(&n.bytes, &n.bytes.from, p.ID)},
	}
	return body, nil
}

func rangeOf(from, to int64) string {
	if to < 0 {
		return fmt.Sprintf("bytes=%d-", from)
	}
	return fmt.Sprintf("bytes=%d-%d", from, to-1)
}

var errOtherRange = errors.New("it gives another range than the one asked for")

// readBlob reads the head of an answer that must begin with the byte at from.
func readBlob(resp *http.Response, from, to int64) (*fetch.PeerBody, error) {
	body := &fetch.PeerBody{Size: resp.ContentLength, Growing: resp.Header.Get(growingField) != ""}
	switch resp.StatusCode {
	case http.StatusOK:
		if from > 0 {
			return nil, fmt.Errorf("%w: %w", fetch.ErrNotHere, errOtherRange)
		}
	case http.StatusPartialContent:
		first, size, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if !ok || first != from {
			return nil, fmt.Errorf("%w: %w", fetch.ErrNotHere, errOtherRange)
		}
		body.Size = size
	default:
		return nil, fmt.Errorf("%w: it answered %q", fetch.ErrNotHere, resp.Status)
	}
	if state, ok := parseHash(resp.Header.Get(stateField)); ok && from > 0 && from%store.PieceSize == 0 {
		body.State = &state
	}
	body.Modified, _ = http.ParseTime(resp.Header.Get("Last-Modified"))
	return body, nil
}

// parseContentRange reads bytes FIRST-LAST/SIZE; SIZE may be *, which is -1.
func parseContentRange(field string) (first, size int64, ok bool) {
	bounds, unit := strings.CutPrefix(field, "bytes ")
	bounds, whole, slash := strings.Cut(bounds, "/")
	begin, end, dash := strings.Cut(bounds, "-")
	if !unit || !slash || !dash {
		return 0, 0, false
	}
	start, err := strconv.ParseUint(begin, 10, 50)
	last, err2 := strconv.ParseUint(end, 10, 50)
	if err != nil || err2 != nil || last < start {
		return 0, 0, false
	}
	if whole == "*" {
		return int64(start), -1, true
	}
	total, err := strconv.ParseUint(whole, 10, 50)
	return int64(start), int64(total), err == nil && last < total
}

// countedBody counts what is read of a peer's answer.
type countedBody struct {
	io.ReadCloser
	cancel context.CancelFunc
	totals []*atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	for _, total := range b.totals {
		total.Add(int64(n))
	}
	return n, err
}

func (b *countedBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
