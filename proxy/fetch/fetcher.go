// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
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

	// elsewhere is how long a transfer from another mirror is waited for, about
	// as long as a small file takes.
	elsewhere = 300 * time.Millisecond

	// ahead is how far behind its start a reader joins a transfer, in bytes;
	// further on it asks the mirror for just the end that it needs.
	ahead = 4 << 20
)

// Config says what a Fetcher works with. All but Stored are required.
type Config struct {
	Store    *store.Store
	Upstream Upstream
	// Stored is told of every file that has entered the store, on the
	// transfer's goroutine. nil: nobody wants to know.
	Stored func(want Want, digest Digest, head Head)
	Log    *slog.Logger
}

// Fetcher runs transfers. Its methods may be called concurrently.
type Fetcher struct {
	cfg  Config
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	fromMirror atomic.Int64

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
	ctx, stop := context.WithCancel(context.Background())
	return &Fetcher{cfg: cfg, ctx: ctx, stop: stop, transfers: map[string]*transfer{}, recent: map[string]recentFile{}, taints: taints{}}
}

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

// Open returns the file's content once something is known of it: its size, its
// date, or that the mirror does not have it ([*StatusError]). The caller closes
// the content. ctx bounds the opening and all reading.
func (f *Fetcher) Open(ctx context.Context, want Want) (*Content, error) {
	if want.Since.IsZero() {
		want.Since = time.Now()
	}
	// Where bytes have been found wrong before anybody read them, the mirrors are
	// asked again, those that have not sent them first.
	for turns := len(want.Mirrors) + 2; ; turns-- {
		c, err := f.open(ctx, want)
		if !errors.Is(err, errWrong) || ctx.Err() != nil || turns == 0 {
			return c, err
		}
	}
}

func (f *Fetcher) open(ctx context.Context, want Want) (*Content, error) {
	if c := f.Stored(want.Digest); c != nil {
		return c, nil
	}
	if want.NoStore {
		return f.openDirect(ctx, want)
	}
	t, err := f.join(want)
	if just := (*justStored)(nil); errors.As(err, &just) {
		if c := f.Stored(just.digest); c != nil {
			return c, nil
		}
	}
	if errors.Is(err, ErrClosed) {
		return nil, err
	}
	if errors.Is(err, errElsewhere) {
		return f.openElsewhere(ctx, want, t)
	}
	if errors.Is(err, errTooFar) || errors.Is(err, errAllDiffer) {
		return f.openDirect(ctx, want)
	}
	if err != nil {
		return f.openUnstored(ctx, want)
	}
	select {
	case <-t.ready:
	case <-ctx.Done():
		f.leave(t)
		return nil, context.Cause(ctx)
	}
	if t.failed == nil {
		return f.follow(ctx, want, t)
	}
	f.leave(t)
	if errors.Is(t.failed, ErrDiffers) {
		return f.openDirect(ctx, want)
	}
	if isStorage(t.failed) {
		return f.openUnstored(ctx, want)
	}
	return nil, t.failed
}

// openElsewhere is for a file that somebody else is fetching from places that
// this asker has not named: it is waited for until it has proven right, but not
// for long.
func (f *Fetcher) openElsewhere(ctx context.Context, want Want, t *transfer) (*Content, error) {
	patience := time.NewTimer(elsewhere)
	defer patience.Stop()
	select {
	case <-t.done:
		if c := f.Stored(want.Digest); c != nil {
			return c, nil
		}
	case <-patience.C:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return f.openUnstored(ctx, want)
}

// follow is the content of a transfer that has begun. It takes over the join.
func (f *Fetcher) follow(ctx context.Context, want Want, t *transfer) (*Content, error) {
	reader, err := t.first.Swap(nil), error(nil)
	switch {
	case reader != nil:
	case t.alone:
		f.leave(t)
		return f.openDirect(ctx, want)
	default:
		reader, err = t.growing.Load().NewReader()
	}
	if err != nil { // it has just ended, badly or with its file evicted at once
		f.leave(t)
		if why := t.why(); errors.Is(why, errWrong) {
			return nil, why
		}
		return f.openUnstored(ctx, want)
	}
	return &Content{Head: t.head, Source: t.source, Digest: t.want.Digest, f: f, ctx: ctx, want: want, t: t, reader: reader}, nil
}

// Prefetch starts the transfer of a file that will be opened soon and returns
// a function that withdraws that interest, to be called once; nil where there
// is nothing to be fetched. It does not block on the network.
func (f *Fetcher) Prefetch(want Want) (release func()) {
	t, err := f.join(want)
	if err != nil {
		return nil
	}
	return func() { f.leave(t) }
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

// join finds or starts want's transfer and counts the caller as its reader.
// Errors mean that the store cannot take the file now.
func (f *Fetcher) join(want Want) (*transfer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	if f.taints.whole(want.Digest, time.Now()) {
		want.Start = 0 // it will be answered whole
	}
	if t := f.runningLocked(&want); t != nil {
		return t, f.joinLocked(t, want.URL, want.Start)
	}
	// One may have ended since the caller looked.
	if d, ok := f.justStoredLocked(&want); ok {
		return nil, &justStored{d}
	}
	t, err := f.startLocked(want)
	if err != nil {
		return nil, err
	}
	f.transfers[t.key] = t
	t.readers++
	return t, nil
}

// runningLocked is the transfer that serves want: that of its hash, or one of its
// URL that began before the hash became known.
func (f *Fetcher) runningLocked(want *Want) *transfer {
	if t := f.transfers[want.key()]; t != nil {
		return t
	}
	return f.transfers[want.urlKey()]
}

func (f *Fetcher) joinLocked(t *transfer, url string, start int64) error {
	switch {
	case t.ctx.Err() != nil:
		return errEnding
	case start-t.have() > ahead:
		return errTooFar
	case !slices.Contains(t.want.urls(), url):
		return errElsewhere
	}
	t.readers++
	t.stopLingering()
	return nil
}

// justStoredLocked tells what has been stored since the asker came.
func (f *Fetcher) justStoredLocked(want *Want) (Digest, bool) {
	if want.known() {
		_, ok := f.cfg.Store.Stat(want.Digest)
		return want.Digest, ok
	}
	file, ok := f.recent[want.urlKey()]
	return file.digest, ok && file.at.After(want.Since)
}

// justStored: the file need not be fetched, it has just come.
type justStored struct{ digest Digest }

func (*justStored) Error() string { return "the file has just been stored" }

var (
	errTooFar    = errors.New("only the end of the file is wanted")
	errEnding    = errors.New("a transfer of the file is just ending")
	errElsewhere = errors.New("the file is being fetched from elsewhere")
	errAllDiffer = errors.New("every mirror had other bytes than the index names")
)

// leave takes back one join.
func (f *Fetcher) leave(t *transfer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.readers--
	if t.readers > 0 {
		return
	}
	if f.transfers[t.key] != t { // it has ended
		t.closeFirst()
		return
	}
	t.lingering = time.AfterFunc(linger, func() { f.abandon(t) })
}

// abandon ends a transfer that nobody came back to.
func (f *Fetcher) abandon(t *transfer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.readers == 0 {
		t.stop()
	}
}

// forget takes an ended transfer off the list. Askers on their way find what it
// has stored, which is zero for nothing.
func (f *Fetcher) forget(t *transfer, stored Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !t.want.known() && stored != (Digest{}) {
		if len(f.recent) >= maxRecent {
			clear(f.recent)
		}
		f.recent[t.key] = recentFile{stored, time.Now()}
	}
	delete(f.transfers, t.key)
	t.stopLingering()
	if t.readers == 0 {
		t.closeFirst()
	}
}

// distrust takes note of URLs that gave wrong bytes of a blob.
func (f *Fetcher) distrust(d Digest, urls []string) {
	for _, place := range urls {
		if u, err := url.Parse(place); err == nil {
			f.cfg.Upstream.Distrust(u)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, place := range urls {
		f.taints.add(d, place, time.Now())
	}
}

// Transfer is a snapshot of a transfer for the status page.
type Transfer struct {
	URL     string `json:"url"`
	Size    int64  `json:"size"` // -1: not known yet
	Have    int64  `json:"have"`
	Readers int    `json:"readers"`
}

// Transfers lists what is going on.
func (f *Fetcher) Transfers() []Transfer {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]Transfer, 0, len(f.transfers))
	for _, t := range f.transfers {
		list = append(list, Transfer{URL: t.want.URL, Size: t.want.Size, Have: t.have(), Readers: t.readers})
	}
	return list
}
