// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"time"
)

const (
	// elsewhere is how long a transfer from another mirror is waited for, about
	// as long as a small file takes.
	elsewhere = 300 * time.Millisecond

	// proofWait is how long a reader waits for peers' bytes to prove right before
	// a mirror feeds the file, or it gets them unproven.
	proofWait = 5 * time.Second
)

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
	switch just := (*justStored)(nil); {
	case errors.As(err, &just):
		if c := f.Stored(just.digest); c != nil {
			return c, nil
		}
	case errors.Is(err, ErrClosed):
		return nil, err
	case errors.Is(err, errElsewhere):
		return f.openElsewhere(ctx, want, t)
	case errors.Is(err, errTooFar):
		return f.openDirect(ctx, want)
	}
	if err != nil {
		return f.openUnstored(ctx, want)
	}
	w := &waiter{f: f, ctx: ctx, want: want, t: t}
	defer w.end()
	return w.wait()
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

// A waiter waits for a transfer that it has joined until its asker may read. It
// takes over the join.
type waiter struct {
	f    *Fetcher
	ctx  context.Context
	want Want
	t    *transfer

	impatient bool            // it has waited for proofWait
	own       chan ownContent // a mirror's answer for this asker alone; nil: none was asked
	endOwn    context.CancelFunc
}

type ownContent struct {
	*Content
	err error
}

func (w *waiter) wait() (*Content, error) {
	proofs, patience := w.timers()
	for {
		v, changed := w.t.look()
		switch {
		case v.begun:
			return w.f.follow(w.ctx, w.want, w.t, v)
		case v.failed != nil:
			return w.failed(v.failed)
		case v.flows && w.impatient && w.want.Unproven && w.want.Start == 0:
			if c, err := w.f.followUnproven(w.ctx, w.want, w.t); c != nil || err != nil {
				return c, err
			}
			continue
		}
		select {
		case <-changed:
		case <-proofs:
			w.impatient = true
			if !w.want.Background {
				w.t.hurry()
			}
		case <-patience:
			patience = w.askOwn()
		case own := <-w.own:
			w.own = nil
			if own.err == nil {
				own.stop, w.endOwn = w.endOwn, nil
				w.f.leave(w.t)
				return own.Content, nil
			}
		case <-w.ctx.Done():
			w.f.leave(w.t)
			return nil, context.Cause(w.ctx)
		}
	}
}

// timers tell when the waiter gets impatient, and when it asks for itself. A
// transfer from mirrors alone has its own bounds.
func (w *waiter) timers() (proofs, patience <-chan time.Time) {
	if w.f.cfg.LAN == nil && w.f.cfg.WAN == nil {
		return nil, nil
	}
	return time.After(proofWait), time.After(lanPatience)
}

// askOwn asks a mirror for this asker alone, unless the transfer is just waiting
// for one that would do; then it is looked at again when the returned channel
// says so.
func (w *waiter) askOwn() <-chan time.Time {
	if w.t.mirroring.Load() && w.t.trusted.Load() == allTrusted {
		return time.After(time.Second)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	own := make(chan ownContent, 1)
	w.own, w.endOwn = own, cancel
	go func() {
		c, err := w.f.openUnstored(ctx, w.want)
		own <- ownContent{c, err}
	}()
	return nil
}

// end gives up what was asked of a mirror and is not needed.
func (w *waiter) end() {
	if w.endOwn == nil {
		return
	}
	w.endOwn()
	if w.own == nil {
		return
	}
	if own := <-w.own; own.Content != nil {
		own.Close()
	}
}

// failed is for a transfer that nobody can read from.
func (w *waiter) failed(err error) (*Content, error) {
	w.f.leave(w.t)
	switch {
	case errors.Is(err, errTooFar) && w.want.Start <= ahead: // it was for somebody else
		<-w.t.done
		return w.f.open(w.ctx, w.want)
	case errors.Is(err, ErrDiffers), errors.Is(err, errAllDiffer), errors.Is(err, errTooFar):
		return w.f.openDirect(w.ctx, w.want)
	case isStorage(err):
		return w.f.openUnstored(w.ctx, w.want)
	case errors.Is(err, errWrong):
		<-w.t.done // so that the next one is another
	}
	return nil, err
}

// follow is the content of a transfer that has begun. It takes over the join.
func (f *Fetcher) follow(ctx context.Context, want Want, t *transfer, v view) (*Content, error) {
	if want.Start-t.have() > ahead {
		f.leave(t)
		return f.openDirect(ctx, want)
	}
	reader, err := t.first.Swap(nil), error(nil)
	switch {
	case reader != nil:
	case v.alone:
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
	return &Content{Head: v.head, Source: v.source, Digest: t.want.Digest, f: f, ctx: ctx, want: want, t: t, reader: reader}, nil
}

// followUnproven is the content of a transfer of which there are only unproven
// bytes. It takes over the join, unless both results are nil because that has
// just changed.
func (f *Fetcher) followUnproven(ctx context.Context, want Want, t *transfer) (*Content, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.view.begun || t.view.failed != nil || !t.view.flows {
		return nil, nil
	}
	reader, err := t.growing.Load().NewReader()
	if err != nil {
		return nil, nil // it is just ending
	}
	t.followed = true
	return &Content{Head: Head{Size: t.want.Size}, Source: FromLAN, f: f, ctx: ctx, want: want, t: t, reader: reader, unproven: true}, nil
}
