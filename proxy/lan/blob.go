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
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"

	"apt-dht/proxy/fetch"
	"apt-dht/store"
)

const (
	stateField   = "X-Apt-Dht-State"
	growingField = "X-Apt-Dht-Growing"

	// readerStall is how long a node may take no byte of a blob before it is cut
	// off. At most sendStep is sent in that time.
	readerStall = 30 * time.Second
	sendStep    = 1 << 20
)

// serveBlob gives a blob that is stored, or what has arrived of it and what still
// arrives.
func (n *Node) serveBlob(w http.ResponseWriter, r *http.Request) {
	d, ok := parseHash(mux.Vars(r)["hash"])
	if !ok {
		http.Error(w, errHash.Error(), http.StatusBadRequest)
		return
	}
	source := sourceOf(r)
	if !n.inflight.take(source) {
		tooMany(w)
		return
	}
	defer n.inflight.put(source)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	shared, err := n.blobs.OpenShared(ctx, d)
	if err != nil {
		n.refuseBlob(w, r, err)
		return
	}
	defer shared.Close()
	out := newSender(w, &n.bytes.allTo, counter(&n.bytes, &n.bytes.to, source.WithZone("")))
	defer out.end()
	w.Header().Set("Content-Type", "application/octet-stream")
	if shared.File != nil {
		n.serveStored(out, r, d, shared)
		return
	}
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

// serveStored gives a stored blob or a range of it, and the state of its hash
// where the range begins.
func (n *Node) serveStored(w *sender, r *http.Request, d Digest, s *fetch.Shared) {
	from, _, err := parseRange(r.Header.Get("Range"))
	if err != nil {
		r.Header.Del("Range")
	}
	if state, ok := n.stateAt(d, from); ok {
		w.Header().Set(stateField, hex.EncodeToString(state[:]))
	}
	http.ServeContent(w, r, "", s.Modified, s.File)
}

// stateAt is the chaining state of a blob's hash at the border of pieces at
// offset. There is none at 0, where it is a constant.
func (n *Node) stateAt(d Digest, offset int64) (state Digest, ok bool) {
	if n.cfg.Pieces == nil || offset == 0 || offset%store.PieceSize != 0 {
		return state, false
	}
	states, err := n.cfg.Pieces(d)
	if err != nil {
		n.cfg.Log.Debug("the states of a blob cannot be told", slog.String("digest", hex.EncodeToString(d[:])), slog.Any("err", err))
		return state, false
	}
	if i := offset/store.PieceSize - 1; i < int64(len(states)) {
		return states[i], true
	}
	return state, false
}

var errRange = errors.New("not one range of bytes with a beginning")

// parseRange reads what nodes ask for, bytes=FROM- and bytes=FROM-LAST; to is one
// beyond the last byte, -1 for the end.
func parseRange(field string) (from, to int64, err error) {
	if field == "" {
		return 0, -1, nil
	}
	bounds, ok := strings.CutPrefix(field, "bytes=")
	first, last, dash := strings.Cut(bounds, "-")
	if !ok || !dash {
		return 0, -1, errRange
	}
	start, err := strconv.ParseUint(first, 10, 50)
	if err != nil {
		return 0, -1, errRange
	}
	if last == "" {
		return int64(start), -1, nil
	}
	end, err := strconv.ParseUint(last, 10, 50)
	if err != nil || end < start {
		return 0, -1, errRange
	}
	return int64(start), int64(end) + 1, nil
}

// serveArriving gives a blob from where the asker wants it on, as it arrives. The
// head goes out at once, so that the asker knows that it is here.
func (n *Node) serveArriving(ctx context.Context, w *sender, r *http.Request, s *fetch.Shared) {
	h := w.Header()
	h.Set(growingField, "1")
	if !s.Modified.IsZero() {
		h.Set("Last-Modified", s.Modified.UTC().Format(http.TimeFormat))
	}
	from, to, err := parseRange(r.Header.Get("Range"))
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
	w.flush()
	if err := w.follow(ctx, s.Arriving, from, to); err != nil {
		panic(http.ErrAbortHandler) // it must not look complete
	}
}

// sender writes a body to a node that must go on reading, and counts it.
type sender struct {
	http.ResponseWriter
	conn   *http.ResponseController
	totals []*atomic.Int64
}

func newSender(w http.ResponseWriter, totals ...*atomic.Int64) *sender {
	return &sender{ResponseWriter: w, conn: http.NewResponseController(w), totals: totals}
}

// arm gives the node readerStall to take what is written next.
func (s *sender) arm() { s.conn.SetWriteDeadline(time.Now().Add(readerStall)) }

// end frees the connection's next answer from the deadline.
func (s *sender) end() { s.conn.SetWriteDeadline(time.Time{}) }

func (s *sender) flush() {
	s.arm()
	s.conn.Flush() // an error shows at the next write
}

func (s *sender) count(n int64) {
	for _, total := range s.totals {
		total.Add(n)
	}
}

func (s *sender) Write(p []byte) (int, error) {
	s.arm()
	n, err := s.ResponseWriter.Write(p)
	s.count(int64(n))
	return n, err
}

// ReadFrom implements io.ReaderFrom: a file goes to the connection by sendfile,
// in steps that each have their time.
func (s *sender) ReadFrom(src io.Reader) (sent int64, err error) {
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		return io.Copy(struct{ io.Writer }{s}, src)
	}
	if _, ok = limited.R.(*os.File); !ok {
		return io.Copy(struct{ io.Writer }{s}, src)
	}
	for limited.N > 0 {
		step := min(limited.N, sendStep)
		s.arm()
		n, err := io.CopyN(s.ResponseWriter, limited.R, step)
		limited.N -= n
		sent += n
		s.count(n)
		if err == io.EOF {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// buffers are for copying what is arriving.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// follow sends what arrives from from up to to, -1 for the end.
func (s *sender) follow(ctx context.Context, blob fetch.Arriving, from, to int64) error {
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
		if err := s.send(blob, from, until); err != nil {
			return err
		}
		from = until
	}
	return nil
}

// send sends what has arrived between two offsets.
func (s *sender) send(blob fetch.Arriving, from, until int64) error {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	for from < until {
		p := buf[:min(until-from, int64(len(buf)))]
		n, err := blob.ReadAt(p, from)
		if n < len(p) {
			return fmt.Errorf("only %d of %d bytes that have arrived can be read: %w", n, len(p), err)
		}
		if _, err := s.Write(p); err != nil {
			return err
		}
		from += int64(n)
	}
	s.flush()
	return nil
}
