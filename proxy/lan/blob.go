// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/mux"

	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
)

const (
	// readerStall is how long a node may take no byte of a blob before it is cut
	// off. At most sendStep is sent in that time.
	readerStall = 30 * time.Second
	sendStep    = 1 << 20

	// maxBlobs bounds the blobs that are given at a time, and maxBlobsEach one
	// address's share: a few nodes' may be behind it, which take fewer each.
	maxBlobs     = 512
	maxBlobsEach = 128
)

// serveBlob gives a blob that is stored, or what has arrived of it and what still
// arrives.
func (n *Node) serveBlob(w http.ResponseWriter, r *http.Request) {
	d, ok := peer.ParseHash(mux.Vars(r)["hash"])
	if !ok {
		http.Error(w, peer.ErrHash.Error(), http.StatusBadRequest)
		return
	}
	source := peer.SourceOf(r)
	if !n.inflight.Take(source) {
		peer.TooMany(w, time.Second)
		return
	}
	defer n.inflight.Put(source)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	shared, err := n.blobs.OpenShared(ctx, d)
	if err != nil {
		n.refuseBlob(w, r, err)
		return
	}
	defer shared.Close()
	total := counter(&n.bytes, &n.bytes.to, source.WithZone(""))
	out := newSender(w, func(sent int64) {
		n.bytes.allTo.Add(sent)
		total.Add(sent)
	})
	defer out.End()
	if shared.File != nil {
		if err := peer.ServeStored(out, r, d, shared, n.cfg.Pieces); err != nil {
			n.cfg.Log.Debug("the states of a blob cannot be told", slog.String("digest", hex.EncodeToString(d[:])), slog.Any("err", err))
		}
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	n.serveArriving(ctx, out, r, shared)
}

func (n *Node) refuseBlob(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, fetch.ErrNotHere) {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	n.cfg.Log.Debug("a blob cannot be given to another node", slog.String("node", r.RemoteAddr), slog.Any("err", err))
	http.Error(w, "the blob cannot be read", http.StatusServiceUnavailable)
}

func newSender(w http.ResponseWriter, sent func(int64)) *peer.Sender {
	return peer.NewSender(w, peer.Pace{Step: sendStep, Stall: readerStall, Sent: sent})
}

// serveArriving gives a blob from where the asker wants it on, as it arrives. The
// head goes out at once, so that the asker knows that it is here.
func (n *Node) serveArriving(ctx context.Context, w *peer.Sender, r *http.Request, s *fetch.Shared) {
	h := w.Header()
	h.Set(peer.GrowingField, "1")
	if !s.Modified.IsZero() {
		h.Set("Last-Modified", s.Modified.UTC().Format(http.TimeFormat))
	}
	from, to, err := peer.ParseRange(r.Header.Get("Range"))
	code := http.StatusOK
	switch {
	case err != nil || s.Size < 0: // the whole: a range of it could not be named
		from, to = 0, s.Size
	case from > s.Size || from == s.Size && from > 0:
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", s.Size))
		http.Error(w, "the blob ends before that", http.StatusRequestedRangeNotSatisfiable)
		return
	case to < 0 || to > s.Size:
		to = s.Size
		fallthrough
	default:
		if from > 0 || to < s.Size {
			code = http.StatusPartialContent
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, s.Size))
		}
	}
	if to >= 0 {
		h.Set("Content-Length", strconv.FormatInt(to-from, 10))
	}
	w.WriteHeader(code)
	if r.Method == http.MethodHead {
		return
	}
	w.Flush()
	if err := follow(ctx, w, s.Arriving, from, to); err != nil {
		panic(http.ErrAbortHandler) // it must not look complete
	}
}

// buffers are for copying what is arriving.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// follow sends what arrives from from up to to, -1 for the end.
func follow(ctx context.Context, w *peer.Sender, blob fetch.Arriving, from, to int64) error {
	for to < 0 || from < to {
		until, err := blob.Wait(ctx, from)
		if err == io.EOF && to < 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if to >= 0 {
			until = min(until, to)
		}
		if err := sendArrived(w, blob, from, until); err != nil {
			return err
		}
		from = until
	}
	return nil
}

// sendArrived sends what has arrived between two offsets.
func sendArrived(w *peer.Sender, blob fetch.Arriving, from, until int64) error {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	for from < until {
		p := buf[:min(until-from, int64(len(buf)))]
		n, err := blob.ReadAt(p, from)
		if n < len(p) {
			return fmt.Errorf("only %d of %d bytes that have arrived can be read: %w", n, len(p), err)
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		from += int64(n)
	}
	w.Flush()
	return nil
}
