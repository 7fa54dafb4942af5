// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"apt-dht/store"
)

// transfer is the one download of a file that is going on. It is driven by one
// goroutine, run; readers follow its growing file.
type transfer struct {
	f       *Fetcher
	key     string
	want    Want
	sources []Source
	ctx     context.Context
	stop    context.CancelFunc

	// ready is closed once head, source and alone are set, or failed is.
	ready  chan struct{}
	head   Head
	source string
	alone  bool  // the answer is for one reader only
	failed error // why there is no head

	growing atomic.Pointer[store.Growing]

	// first is open for the first reader, who may come after the end.
	first atomic.Pointer[store.Reader]

	asked []string // places whose bytes are in it

	// done is closed when the transfer has ended, and broke, if anything did, is set.
	done  chan struct{}
	broke error

	// f.mu guards following
	readers   int
	lingering *time.Timer
}

// startLocked makes the transfer and asks its first source, in the caller's
// turn: that order is the order on the wire.
func (f *Fetcher) startLocked(want Want) (*transfer, error) {
	sources := f.sourcesLocked(&want)
	if len(sources) == 0 {
		return nil, errAllDiffer
	}
	t := &transfer{f: f, key: want.key(), want: want, sources: sources, ready: make(chan struct{}), done: make(chan struct{})}
	if want.known() {
		g, err := f.createLocked(&want)
		if err != nil {
			return nil, storageError{err}
		}
		if want.Start-g.Len() > ahead {
			g.Suspend()
			return nil, errTooFar
		}
		t.growing.Store(g)
	} else if want.Start > ahead {
		return nil, errTooFar
	}
	t.ctx, t.stop = context.WithCancel(f.ctx)
	wait := t.sources[0].Ask(t.ctx, &t.want, t.have())
	f.wg.Go(func() { t.run(wait) })
	return t, nil
}

// createLocked begins the blob, or resumes it if its beginning came from one
// of want's own places.
func (f *Fetcher) createLocked(want *Want) (*store.Growing, error) {
	g, err := f.cfg.Store.Create(want.Digest, want.Size)
	if err != nil {
		return nil, err
	}
	if g.Len() == 0 || slices.Contains(want.urls(), g.Origin()) {
		return g, nil
	}
	if err := g.Discard(nil); err != nil {
		return nil, err
	}
	return f.cfg.Store.Create(want.Digest, want.Size)
}

// sourcesLocked is the ladder for want: the mirrors, without those that have
// sent wrong bytes of it, unless no other is left and nothing else will do.
func (f *Fetcher) sourcesLocked(want *Want) []Source {
	urls := f.untaintedLocked(want)
	if len(urls) == 0 && want.Exact {
		urls = want.urls() // one of them may have come to its senses
	}
	patience := time.Duration(0)
	if len(urls) > 1 {
		patience = nextMirror
	}
	var sources []Source
	for _, url := range urls {
		sources = append(sources, &mirrorSource{up: f.cfg.Upstream, url: url, patience: patience})
	}
	return sources
}

// have is how many bytes have arrived.
func (t *transfer) have() int64 {
	if g := t.growing.Load(); g != nil {
		return g.Len()
	}
	return 0
}

func (t *transfer) stopLingering() {
	if t.lingering != nil {
		t.lingering.Stop()
	}
}

// run brings the file here and publishes it.
func (t *transfer) run(wait func() (*Body, error)) {
	var stored Digest
	err := t.climb(wait)
	if err == nil {
		stored, err = t.publish()
	}
	if err != nil {
		t.fail(err)
	}
	t.f.forget(t, stored)
	close(t.done)
	t.stop()
}

// why waits for the end of a transfer that is ending, and tells what broke it.
func (t *transfer) why() error {
	<-t.done
	return t.broke
}

// climb takes the bytes from one source after the other until all are here.
func (t *transfer) climb(wait func() (*Body, error)) error {
	ladder := newLadder(len(t.sources))
	for {
		had := t.have()
		err := t.take(t.sources[ladder.at], wait)
		if err == nil {
			return nil
		}
		if t.ctx.Err() != nil || isStorage(err) {
			return err
		}
		pause, ok := ladder.next(err, t.have() > 0, t.have() > had)
		if !ok {
			return err
		}
		t.f.cfg.Log.Debug("source broke; going on with the next", "url", t.want.URL, "at", t.have(), "next", t.sources[ladder.at].String(), "err", err)
		if !sleep(t.ctx, pause) {
			return context.Cause(t.ctx)
		}
		wait = t.sources[ladder.at].Ask(t.ctx, &t.want, t.have())
	}
}

// take copies one source's answer to the end.
func (t *transfer) take(src Source, wait func() (*Body, error)) error {
	body, err := wait()
	if err != nil {
		return err
	}
	defer body.Close()
	if err := t.begin(src, body); err != nil {
		return err
	}
	t.asked = append(t.asked, src.String())
	return t.copy(&countedBody{body, &t.f.fromMirror})
}

// begin takes note of the first answer's head, and checks later ones against it.
func (t *transfer) begin(src Source, body *Body) error {
	if t.started() {
		if !t.want.known() && !sameFile(t.head, body.Head) {
			return fmt.Errorf("%s: the file changed while it was fetched: %w", src, ErrDiffers)
		}
		return nil
	}
	if t.growing.Load() == nil {
		g, err := t.f.cfg.Store.Create(Digest{}, body.Head.Size)
		if err != nil {
			return storageError{err}
		}
		t.growing.Store(g)
	}
	if body.Head.Size >= 0 {
		if err := t.growing.Load().SetSize(body.Head.Size); err != nil {
			return storageError{err}
		}
	}
	if t.want.known() && t.have() == 0 {
		t.growing.Load().SetOrigin(src.String())
	}
	first, err := t.growing.Load().NewReader()
	if err != nil {
		return storageError{err}
	}
	t.first.Store(first)
	t.head, t.source = body.Head, src.Kind()
	t.alone = !t.want.known() && !storable(t.head.Header)
	close(t.ready)
	return nil
}

func (t *transfer) started() bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

// sameFile tells whether two answers without a known hash are of one file.
func sameFile(a, b Head) bool {
	return a.Size == b.Size && a.Size >= 0 && a.Modified.Equal(b.Modified) && !a.Modified.IsZero() &&
		a.Header.Get("ETag") == b.Header.Get("ETag")
}

// buffers are for copying; 64 KiB is a socket's worth at LAN speed.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

func (t *transfer) copy(body io.Reader) error {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	g := t.growing.Load()
	for {
		n, err := body.Read(buf[:])
		if n > 0 {
			if _, werr := g.Write(buf[:n]); werr != nil {
				return writeError(t.want.URL, werr)
			}
		}
		switch {
		case err == io.EOF:
			return t.complete(g)
		case err != nil:
			return err
		}
	}
}

// writeError tells a full disk, which is ours, from a body too long, which is
// the mirror's fault.
func writeError(url string, err error) error {
	if errors.Is(err, store.ErrTooLong) {
		return fmt.Errorf("%s: %w: it sent more than its size", url, errWrong)
	}
	return storageError{err}
}

// complete checks that a body that ended has brought everything.
func (t *transfer) complete(g *store.Growing) error {
	if t.head.Size >= 0 && g.Len() < t.head.Size {
		return fmt.Errorf("%s: %w after %d of %d bytes", t.want.URL, io.ErrUnexpectedEOF, g.Len(), t.head.Size)
	}
	return nil
}

// publish puts the complete file into the store, unless it must not be kept.
func (t *transfer) publish() (Digest, error) {
	g := t.growing.Load()
	if t.alone {
		return Digest{}, g.Discard(io.EOF)
	}
	digest, err := g.Commit(store.Meta{
		Modified:    t.head.Modified,
		ContentType: t.head.Header.Get("Content-Type"),
		Origin:      t.want.URL,
		Keep:        t.want.Keep,
	})
	if err != nil {
		return Digest{}, t.commitError(err)
	}
	if t.f.cfg.Stored != nil {
		t.f.cfg.Stored(t.want, digest, t.head)
	}
	return digest, nil
}

// commitError takes note of a mirror whose bytes were wrong.
func (t *transfer) commitError(err error) error {
	var mismatch *store.MismatchError
	if !errors.As(err, &mismatch) {
		return storageError{err}
	}
	t.f.distrust(t.want.Digest, t.asked)
	t.f.cfg.Log.Warn("the mirror sent wrong bytes; they were not stored, and the answer was cut", "url", t.want.URL, "err", err)
	return fmt.Errorf("%s: %w: %w", t.want.URL, errWrong, err)
}

// fail tells readers why there is no more, and keeps what is worth keeping.
func (t *transfer) fail(err error) {
	t.broke = err
	if g := t.growing.Load(); g != nil {
		t.giveUp(g, err)
	}
	if !t.started() {
		t.failed = err
		close(t.ready)
	}
}

// giveUp keeps what may be the beginning of the right file.
func (t *transfer) giveUp(g *store.Growing, err error) {
	end := g.Suspend
	if errors.Is(err, errWrong) {
		end = func() error { return g.Discard(err) }
	}
	if err := end(); err != nil {
		t.f.cfg.Log.Warn("clearing up after a transfer", "url", t.want.URL, "err", err)
	}
}

// storageError marks a failure of our own disk, which must not become apt's.
type storageError struct{ error }

func (e storageError) Unwrap() error { return e.error }

func isStorage(err error) bool {
	return errors.As(err, new(storageError))
}

// sleep waits for d, or returns false as soon as ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// closeFirst closes the reader that nobody has come for.
func (t *transfer) closeFirst() {
	if first := t.first.Swap(nil); first != nil {
		first.Close()
	}
}
