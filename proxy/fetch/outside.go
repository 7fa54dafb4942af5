// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// errLost: another node has got the lease.
var errLost = errors.New("another node fetches the file now")

// outside takes the bytes from the internet's nodes, where they may be asked, and
// from mirrors. Where the lease is lost, it ends with errLost.
func (t *transfer) outside(ctx context.Context) error {
	ctx, stop := t.whileLeased(ctx)
	defer stop()
	if t.f.cfg.WAN == nil || t.want.Shareable == nil || !t.want.known() || t.want.Size <= 0 {
		return t.mirrors(ctx)
	}
	return newOuting(ctx, t).run()
}

// mirrors takes the bytes from one mirror after the other until all are here.
func (t *transfer) mirrors(ctx context.Context) error {
	if len(t.sources) == 0 {
		return errAllDiffer
	}
	t.mirroring.Store(true)
	defer t.mirroring.Store(false)
	var wait func() (*Body, error)
	t.entry.send(func() { wait = t.sources[0].Ask(ctx, &t.want, t.have()) })
	ladder := newLadder(len(t.sources))
	for {
		had := t.have()
		err := t.take(t.sources[ladder.at], wait)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if isStorage(err) || errors.Is(err, errPeersWrong) {
			return err
		}
		pause, ok := ladder.next(err, t.have() > 0, t.have() > had)
		if !ok {
			return err
		}
		t.f.cfg.Log.Debug("source broke; going on with the next", "url", t.want.URL, "at", t.have(), "next", t.sources[ladder.at].String(), "err", err)
		if !sleep(ctx, pause) {
			return context.Cause(ctx)
		}
		wait = t.sources[ladder.at].Ask(ctx, &t.want, t.have())
	}
}

// whileLeased is ctx until the transfer's lease, if it has one, is lost.
func (t *transfer) whileLeased(ctx context.Context) (leased context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if t.lease == nil {
		return ctx, func() { cancel(nil) }
	}
	lost := t.lease.Lost()
	t.f.wg.Go(func() {
		select {
		case <-lost:
			cancel(errLost)
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(nil) }
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
	if err := t.copy(&countedBody{body, &t.f.fromMirror}, t.tookOutside); err != nil {
		return err
	}
	return t.complete()
}

func (t *transfer) tookOutside(n int64) {
	if t.f.cfg.LAN == nil && t.f.cfg.WAN == nil {
		return
	}
	t.entry.took(n)
	if t.lease != nil {
		t.lease.Progress(t.have())
	}
	t.flow()
}

// begin takes note of the first answer's head, and checks later ones against it.
func (t *transfer) begin(src Source, body *Body) error {
	if t.begun() {
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
		t.grow(g)
	}
	g := t.growing.Load()
	if body.Head.Size >= 0 {
		if err := g.SetSize(body.Head.Size); err != nil {
			return t.sizeError(err)
		}
	}
	t.head = body.Head
	if t.trusted.Load() != allTrusted {
		return nil // it has a beginning that must prove right first
	}
	if t.want.known() && g.Len() == 0 {
		g.SetOrigin(src.String())
	}
	if err := t.openFirst(); err != nil {
		return err
	}
	t.letIn(src.Kind())
	return nil
}

// sizeError tells what it means that the mirror's file is shorter than what is
// here.
func (t *transfer) sizeError(err error) error {
	if t.trusted.Load() != allTrusted {
		return t.wrong(err)
	}
	return storageError{err}
}

// sameFile tells whether two answers without a known hash are of one file.
func sameFile(a, b Head) bool {
	return a.Size == b.Size && a.Size >= 0 && a.Modified.Equal(b.Modified) && !a.Modified.IsZero() &&
		a.Header.Get("ETag") == b.Header.Get("ETag")
}

// complete checks that a body that ended has brought everything.
func (t *transfer) complete() error {
	g := t.growing.Load()
	if size := g.Size(); size >= 0 && g.Len() < size {
		return fmt.Errorf("%s: %w after %d of %d bytes", t.want.URL, io.ErrUnexpectedEOF, g.Len(), size)
	}
	return nil
}

// wrong takes note of wrong bytes, and says whose they were.
func (t *transfer) wrong(err error) error {
	if t.trusted.Load() == allTrusted {
		t.f.distrust(t.want.Digest, t.asked)
		t.f.cfg.Log.Warn("the mirror sent wrong bytes; they were not stored, and the answer was cut", "url", t.want.URL, "err", err)
		return fmt.Errorf("%s: %w: %w", t.want.URL, errWrong, err)
	}
	t.blame()
	t.f.cfg.Log.Warn("wrong bytes came from other nodes; they were not stored", "url", t.want.URL, "err", err)
	return fmt.Errorf("%s: %w: %w", t.want.URL, errPeersWrong, err)
}
