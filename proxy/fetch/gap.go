// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"apt-dht/store"
)

const (
	// maxFilling is how many gaps are held in memory at a time, of all transfers
	// together.
	maxFilling = 24

	// gapWait is how long a mirror may take for a gap before a node is asked as
	// well, and a node before another one is, if less than half has come; each
	// further one waits twice as long, up to maxUnder.
	gapWait  = time.Second
	maxUnder = 4
)

// A gap is what cannot be had in pieces between front and tail: a blob of no more
// than one, or the rest of the piece in which the front ends. It is fetched into
// memory, while the mirror may go on with the front: whoever is first wins.
type gap struct {
	under  []*filling // under way
	ended  chan *filling
	since  time.Time // since when there is nothing else missing; zero: there is
	misfit error     // a node's bytes did not fit the front's
}

// A filling is a gap being fetched from one node.
type filling struct {
	of       *holder
	from, to int64
	began    time.Time
	cancel   context.CancelFunc
	served   atomic.Bool // its turn has come
	data     []byte
	progress progress
	wrong    bool // the data is the whole blob's, and wrong
	date     time.Time
	err      error
}

// assignGap has the gap fetched, if there is one that the mirror leaves.
func (o *outing) assignGap(now time.Time) {
	if !o.isGap() {
		o.gap.since = time.Time{}
		return
	}
	if o.gap.since.IsZero() {
		o.gap.since = now
	}
	if o.mirrorFeeds(now) || !o.nodesAreSooner() && !o.frontStalls(now) || o.gap.misfit != nil && o.refused == nil {
		return
	}
	if h, idle := o.forGap(); h != nil && o.mayAsk(idle, now) {
		o.beginGap(h, now)
	}
}

// mayAsk tells whether a node, or one that is idle, may be asked for the gap. One
// that is asked already is left where its turn has not come.
func (o *outing) mayAsk(idle bool, now time.Time) bool {
	n := len(o.gap.under)
	switch {
	case n == 0:
		return true
	case n >= maxUnder:
		return false
	}
	f := o.gap.under[n-1]
	if !f.served.Load() && idle {
		f.cancel()
		return true
	}
	// Where more than half has come the rest is sooner there than the whole from
	// another one.
	return f.served.Load() && now.Sub(f.began) >= gapWait<<(n-1) && 2*f.progress.come(now) < f.to-f.from
}

// isGap tells whether nothing is missing but a gap.
func (o *outing) isGap() bool {
	return len(o.pieces) == 0 || o.low <= o.floor() && !o.whole()
}

// mirrorFeeds tells whether the gap is the mirror's: for gapWait, if it has begun
// to send at all.
func (o *outing) mirrorFeeds(now time.Time) bool {
	if o.front == nil {
		return false
	}
	if o.g.Len() == o.frontHad {
		return now.Sub(o.frontAt) < hastiness
	}
	return now.Sub(o.gap.since) < gapWait
}

// forGap is the node that is asked by the fewest, and whether it would give the gap
// at once; nil: there is none.
func (o *outing) forGap() (best *holder, idle bool) {
	fewest := 0
	for _, h := range o.peers {
		if !o.free(h) || slices.ContainsFunc(o.gap.under, func(f *filling) bool { return f.of == h }) {
			continue
		}
		if users := o.side.bodies.users(h.Peer); best == nil || users < fewest {
			best, fewest = h, users
		}
	}
	return best, fewest < o.side.bodies.most
}

// come is how much of a gap has come.
func (g *gap) come(now time.Time) (most int64) {
	for _, f := range g.under {
		most = max(most, f.progress.come(now))
	}
	return most
}

func (o *outing) beginGap(h *holder, now time.Time) {
	ctx, cancel := context.WithCancel(o.ctx)
	f := &filling{of: h, from: o.g.Len(), to: o.g.Tail(), began: now, cancel: cancel}
	o.gap.under = append(o.gap.under, f)
	turn := o.side.bodies.queue(h.Peer)
	f.served.Store(turn.next)
	o.work.Go(func() {
		f.err = o.fetch(ctx, f, turn)
		cancel()
		select {
		case o.gap.ended <- f:
		case <-o.ctx.Done():
		}
	})
}

// fetch brings a gap into memory, on a goroutine of its own.
func (o *outing) fetch(ctx context.Context, f *filling, turn ticket) error {
	release, err := turn.wait(ctx)
	if err != nil {
		return err
	}
	f.served.Store(true)
	body, err := o.t.openHolder(ctx, o.side, f.of.Peer, f.from, f.to, o.tally, release)
	if err != nil {
		return err
	}
	defer body.Close()
	select {
	case o.t.f.filling <- struct{}{}:
		defer func() { <-o.t.f.filling }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	f.date = body.Modified
	f.data = make([]byte, f.to-f.from)
	f.progress.Reader = body
	if _, err := io.ReadFull(&f.progress, f.data); err != nil {
		return err
	}
	f.wrong = f.from == 0 && f.to == o.t.want.Size && sha256.Sum256(f.data) != o.t.want.Digest
	return nil
}

// fill puts what a node has sent into the gap.
func (o *outing) fill(f *filling) error {
	o.gap.under = slices.DeleteFunc(o.gap.under, func(other *filling) bool { return other == f })
	switch {
	case f.err != nil:
		o.lose(f.of, f.err)
		return nil
	case f.wrong:
		o.liar(f.of)
		return nil
	}
	if err := o.stopMirrors(); err != nil || o.whole() {
		return err
	}
	err := o.g.Complete(bytes.NewReader(f.data[o.g.Len()-f.from:]))
	switch {
	case err == nil:
		o.modified = f.date
		o.side.shunned.clear(f.of.Peer)
	case !errors.As(err, new(*store.MismatchError)):
		return storageError{err}
	case o.g.Len() == 0:
		o.liar(f.of)
	default:
		o.gap.misfit = err // the node's bytes are wrong, or the front's
		o.drop(f.of)
		if o.refused == nil {
			o.askMirrors(time.Now())
		}
	}
	return nil
}

// liar sets a node aside that has sent a wrong blob.
func (o *outing) liar(h *holder) {
	o.side.Liar(h.Peer, o.t.want.Digest, "it does not have the hash")
	o.drop(h)
}
