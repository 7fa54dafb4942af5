// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"errors"
	"io"

	"apt-dht/store"
)

// publish puts the complete file into the store, unless it must not be kept.
func (t *transfer) publish() (Digest, error) {
	g := t.growing.Load()
	if v, _ := t.look(); v.alone {
		return Digest{}, g.Discard(io.EOF)
	}
	if err := t.openFirst(); err != nil {
		return Digest{}, err
	}
	if !t.begun() {
		t.tellSource(t.cameFrom()) // who finds the file in the store may ask at once
	}
	digest, err := g.Commit(store.Meta{
		Modified:    t.head.Modified,
		ContentType: t.head.Header.Get("Content-Type"),
		Origin:      t.want.URL,
		Shareable:   t.want.known() && !Personal(t.head.Header) && t.shareable(t.ctx, maxPublishing),
		Keep:        t.want.Keep,
	})
	if errors.As(err, new(*store.MismatchError)) {
		if !t.begun() {
			t.closeFirst()
		}
		return Digest{}, t.wrong(err)
	}
	t.trusted.Store(allTrusted)
	if !t.begun() {
		t.head.Size = g.Size()
		t.letIn(t.cameFrom())
	}
	if err != nil {
		return Digest{}, storageError{err}
	}
	if t.f.cfg.Stored != nil {
		t.f.cfg.Stored(t.want, digest, t.head)
	}
	return digest, nil
}

// cameFrom is where the bytes of a file that is complete came from: a mirror, if
// one has begun to give any of it; the internet's nodes, if they have given some.
func (t *transfer) cameFrom() string {
	switch {
	case len(t.asked) > 0, t.abroad && t.kept:
		return FromMirror
	case t.abroad:
		return FromWAN
	}
	return FromLAN
}

// fail tells readers why there is no more, and keeps what is worth keeping.
func (t *transfer) fail(err error) {
	t.broke = err
	if g := t.growing.Load(); g != nil {
		t.giveUp(g, err)
	}
	t.mu.Lock()
	if !t.view.begun {
		t.view.failed = err
	}
	t.changeLocked()
	followed := t.followed
	t.mu.Unlock()
	if followed && errors.Is(err, errPeersWrong) {
		t.f.taint(t.want.Digest)
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
