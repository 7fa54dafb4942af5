// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"apt-dht/store"
)

const (
	// linger is how long a transfer outlives its last reader: apt comes back
	// for a broken answer after one second.
	linger = 2 * time.Second

	// taintFor is how long a blob of which wrong bytes went out is answered
	// whole only, and its wrong mirror left alone.
	taintFor = 24 * time.Hour

	// nextMirror is how long a mirror may be silent where another one has the file.
	nextMirror = 2 * time.Second

	// ahead is how far behind its start a reader joins a transfer, in bytes;
	// further on it asks the mirror for just the end that it needs.
	ahead = 4 << 20
)

// Config says what a Fetcher works with. All but Stored, LAN and WAN are required.
type Config struct {
	Store    *store.Store
	Upstream Upstream
	// Stored is told of every file that has entered the store, on the
	// transfer's goroutine. nil: nobody wants to know.
	Stored func(want Want, digest Digest, head Head)
	// LAN is the local network. nil: there is none.
	LAN LAN
	// WAN is the internet's nodes. nil: there are none.
	WAN WAN
	Log *slog.Logger
}

// Fetcher runs transfers. Its methods may be called concurrently.
type Fetcher struct {
	cfg  Config
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	fromMirror atomic.Int64
	lan, wan   side

	gate       *gate
	completing chan struct{} // a slot each for completeFrom
	filling    chan struct{} // and for outing.fetch
	barred     places        // nodes of the local network, for unfinished blobs

	mu        sync.Mutex // guards following
	closed    bool
	transfers map[string]*transfer
	recent    map[string]recentFile // by urlKey
	taints    taints
}

// recentFile is what a transfer without a known hash has brought lately.
type recentFile struct {
	digest Digest
	at     time.Time
}

// maxRecent bounds the memory of recent files.
const maxRecent = 1024

// ErrClosed: the node is shutting down.
var ErrClosed = errors.New("apt-dht is shutting down")

// New returns a Fetcher that runs until Close.
func New(cfg Config) *Fetcher {
	f := &Fetcher{
		cfg:        cfg,
		lan:        side{Peers: cfg.LAN, silence: peerSilence, slowRate: slowRate, slowPiece: slowPiece, flying: maxFlying, bodies: semaphores{most: maxBodies}},
		wan:        side{Peers: cfg.WAN, silence: silenceWAN, slowRate: slowRateWAN, slowPiece: slowPieceWAN, flying: maxFlyingWAN, levels: true, bodies: semaphores{most: maxBodiesWAN}},
		completing: make(chan struct{}, maxCompleting),
		filling:    make(chan struct{}, maxFilling),
		transfers:  map[string]*transfer{},
		recent:     map[string]recentFile{},
		taints:     taints{},
	}
	f.ctx, f.stop = context.WithCancel(context.Background())
	f.gate = newGate(f.alone)
	return f
}

// alone tells that there are no other nodes to ask, or to leave anything to.
func (f *Fetcher) alone() bool { return f.cfg.LAN == nil || f.cfg.LAN.Alone() }

// Close ends all transfers, keeping what they have for a later one, and waits
// for them.
func (f *Fetcher) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.stop()
	f.wg.Wait()
}

// BytesFromMirror is how many body bytes mirrors have sent.
func (f *Fetcher) BytesFromMirror() int64 { return f.fromMirror.Load() }

// BytesFromLAN is how many body bytes other nodes of the local network have sent.
func (f *Fetcher) BytesFromLAN() int64 { return f.lan.received.Load() }

// BytesFromWAN is how many body bytes nodes on the internet have sent.
func (f *Fetcher) BytesFromWAN() int64 { return f.wan.received.Load() }

// A Hold keeps a transfer going for somebody who will open its file soon.
type Hold struct{ t *transfer }

// Release withdraws that interest. It is to be called once.
func (h *Hold) Release() { h.t.f.leave(h.t) }

// Source is where the bytes come from, as in Content, empty while nobody knows.
func (h *Hold) Source() string {
	v, _ := h.t.look()
	return v.source
}

// Prefetch starts the transfer of a file that will be opened soon; nil where
// there is nothing to be fetched. It does not block on the network.
func (f *Fetcher) Prefetch(want Want) *Hold {
	t, err := f.join(want)
	if err != nil {
		return nil
	}
	return &Hold{t}
}

// Get asks the mirror for want.URL with want.Header and returns its answer,
// whatever it is, past the store and without sharing it. The caller closes the
// body.
func (f *Fetcher) Get(ctx context.Context, want Want) (*http.Response, error) {
	resp, err := start(ctx, f.cfg.Upstream, want.URL, want.Header, &want)()
	if err == nil {
		resp.Body = &countedBody{resp.Body, &f.fromMirror}
	}
	return resp, err
}

// countedBody counts what is read of a mirror's answer.
type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// WholeOnly tells whether the blob must be answered whole, whatever range is
// asked: a client may hold wrong bytes of it.
func (f *Fetcher) WholeOnly(d Digest) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taints.whole(d, time.Now())
}

// Stored opens a blob that the store has; nil where it has not. The caller
// closes the content.
func (f *Fetcher) Stored(d Digest) *Content {
	if (d == Digest{}) {
		return nil
	}
	blob, err := f.cfg.Store.Get(d)
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) {
			f.cfg.Log.Warn("a stored file cannot be read; fetching it again", "digest", hex.EncodeToString(d[:]), "err", err)
		}
		return nil
	}
	return &Content{Head: Head{Size: blob.Size, Modified: blob.Modified}, Source: FromStore, Digest: d, f: f, blob: blob}
}
