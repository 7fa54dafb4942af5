// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"math"
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
	sources []Source // mirrors; may be empty
	suspect bool     // all of them have sent wrong bytes of it lately
	entry   *entry   // its place among those who ask mirrors
	ctx     context.Context
	stop    context.CancelFunc

	// calm ends when a reader has waited for long enough for bytes that peers
	// have to prove first.
	calm  context.Context
	hurry context.CancelFunc

	growing atomic.Pointer[store.Growing] // nil: not open
	// trusted is the offset up to which the front is for everybody: beyond it
	// are peers' bytes that are not proven. [allTrusted]: there are none.
	trusted   atomic.Int64
	mirroring atomic.Bool // a mirror has been asked

	// first is open for the first reader, who may come after the end.
	first atomic.Pointer[store.Reader]

	// done is closed when the transfer has ended, and broke, if anything did, is set.
	done  chan struct{}
	broke error

	// For one goroutine at a time: the driver, or whom it waits for.
	head    Head // as the mirror told it, else as peers did
	asked   []string
	feeders []feeder
	lease   Lease
	strict  bool // peers' bytes that cannot be proven piece by piece are not wanted
	kept    bool // the beginning is a mirror's, kept from an earlier transfer
	abroad  bool // nodes on the internet have given some of it
	// restarts is how often anew has been called.
	restarts int

	mu       sync.Mutex    // guards following
	changed  chan struct{} // closed when view or growing change
	view     view
	followed bool // somebody has got bytes that are not proven

	// f.mu guards following
	readers   int
	lingering *time.Timer
}

const allTrusted = math.MaxInt64

// quickly is how much of a kept beginning is read again in no time, in bytes.
const quickly = 4 << 20

// A view is what those who want to read may know.
type view struct {
	head   Head
	source string
	begun  bool  // head and source are final: everybody may read
	alone  bool  // the answer is for one reader only
	flows  bool  // who may have unproven bytes can read some
	failed error // why nobody will ever read
}

// newTransferLocked makes want's transfer, at its place in the order of asking.
func (f *Fetcher) newTransferLocked(want Want) *transfer {
	sources, suspect := f.sourcesLocked(&want)
	t := &transfer{
		f: f, key: want.key(), want: want, sources: sources, suspect: suspect,
		entry: f.gate.enter(laneOf(&want), want.Size),
		done:  make(chan struct{}), changed: make(chan struct{}),
		strict: f.taints.whole(want.Digest, time.Now()),
	}
	t.trusted.Store(allTrusted)
	t.ctx, t.stop = context.WithCancel(f.ctx)
	t.calm, t.hurry = context.WithCancel(t.ctx)
	return t
}

// have is how many bytes have arrived at the front.
func (t *transfer) have() int64 {
	if g := t.growing.Load(); g != nil {
		return g.Len()
	}
	return 0
}

// total is have, and what has been proven of the tail.
func (t *transfer) total() int64 {
	g := t.growing.Load()
	if g == nil {
		return 0
	}
	n, size := g.Len(), g.Size()
	if size < 0 {
		return n
	}
	return n + size - max(g.Tail(), n)
}

func (t *transfer) stopLingering() {
	if t.lingering != nil {
		t.lingering.Stop()
	}
}

// run brings the file here and publishes it.
func (t *transfer) run() {
	stored, err := t.bring()
	if err != nil {
		t.fail(err)
	}
	t.endLease(stored)
	t.entry.leave()
	t.f.forget(t, stored)
	close(t.done)
	t.stop()
}

func (t *transfer) bring() (Digest, error) {
	if t.want.known() {
		if err := t.open(); err != nil {
			return Digest{}, err
		}
	}
	for {
		err := t.climb()
		if err == nil {
			var stored Digest
			if stored, err = t.publish(); err == nil {
				return stored, nil
			}
		}
		if !errors.Is(err, errPeersWrong) || !t.anew() {
			return Digest{}, err
		}
	}
}

// open begins the blob, or resumes it if its beginning came from one of want's
// own places, or from the local network. That one is not proven.
func (t *transfer) open() error {
	g, err := t.f.cfg.Store.Create(t.want.Digest, t.want.Size)
	if err != nil {
		return storageError{err}
	}
	origin := ""
	if g.Len() > 0 {
		origin = g.Origin()
		if origin != FromLAN && !slices.Contains(t.want.urls(), origin) {
			if g, err = t.recreate(g, nil); err != nil {
				return storageError{err}
			}
		}
	}
	if t.want.Start-g.Len() > ahead {
		g.Suspend()
		return errTooFar
	}
	t.entry.opened(g.Len() <= quickly)
	if err := g.Resume(); err != nil {
		g.Discard(err)
		return storageError{err}
	}
	switch {
	case g.Len() == 0:
	case origin == FromLAN:
		t.trusted.Store(0)
	default:
		t.kept = true
	}
	t.grow(g)
	return nil
}

func (t *transfer) recreate(g *store.Growing, cause error) (*store.Growing, error) {
	if err := g.Discard(cause); err != nil {
		return nil, err
	}
	return t.f.cfg.Store.Create(t.want.Digest, t.want.Size)
}

// grow makes g the file that readers follow.
func (t *transfer) grow(g *store.Growing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.growing.Store(g)
	t.changeLocked()
}

// anew throws away what peers have sent and begins again, if nobody has got any
// of it: false where somebody has, or that is not possible.
func (t *transfer) anew() bool {
	t.mu.Lock()
	if t.followed || t.view.begun {
		t.mu.Unlock()
		return false
	}
	t.view.flows = false
	g := t.growing.Swap(nil)
	t.changeLocked()
	t.mu.Unlock()
	t.endLease(Digest{})
	g, err := t.recreate(g, errPeersWrong)
	if err != nil {
		t.f.cfg.Log.Warn("a transfer cannot begin anew", "url", t.want.URL, "err", err)
		return false
	}
	t.trusted.Store(allTrusted)
	t.feeders, t.asked, t.head, t.strict, t.kept, t.abroad = nil, nil, Head{}, true, false, false
	t.restarts++
	t.grow(g)
	return true
}

// tellSource says where the bytes come from before anybody may read them.
func (t *transfer) tellSource(source string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view.source = source
}

// letIn lets everybody read.
func (t *transfer) letIn(source string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view.head, t.view.source, t.view.begun = t.head, source, true
	t.view.alone = !t.want.known() && !storable(t.head.Header)
	t.changeLocked()
}

// look is what a reader may know now; changed is closed when that is out of date.
func (t *transfer) look() (v view, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.view, t.changed
}

func (t *transfer) begun() bool {
	v, _ := t.look()
	return v.begun
}

func (t *transfer) changeLocked() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// why waits for the end of a transfer that is ending, and tells what broke it.
func (t *transfer) why() error {
	<-t.done
	return t.broke
}

// openFirst opens the file for the first reader.
func (t *transfer) openFirst() error {
	if t.first.Load() != nil {
		return nil
	}
	first, err := t.growing.Load().NewReader()
	if err != nil {
		return storageError{err}
	}
	t.first.Store(first)
	return nil
}

// closeFirst closes the reader that nobody has come for.
func (t *transfer) closeFirst() {
	if first := t.first.Swap(nil); first != nil {
		first.Close()
	}
}
