// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"encoding/hex"
	"io"

	"apt-dht/store"
)

// OpenShared opens a blob for another node: one that is stored, or one that is
// being fetched, which has a reader as long as it is open. It does not wait. The
// error is [ErrNotHere] where there is neither. The caller closes it.
func (f *Fetcher) OpenShared(_ context.Context, d Digest) (*Shared, error) {
	if s := f.lendStored(d); s != nil {
		return s, nil
	}
	if t := f.joinShared(d); t != nil {
		a := &arriving{t: t}
		v, _ := t.look()
		return &Shared{Size: t.size(), Modified: v.head.Modified, Arriving: a, Release: a.release}, nil
	}
	if s := f.lendStored(d); s != nil { // it has just come
		return s, nil
	}
	return nil, ErrNotHere
}

// OpenPublic opens a blob for a node on the internet: one that is stored and may
// be given to the world, never one that is still arriving. What the world asks for
// is evicted no later for that. The error is [ErrNotHere] where there is none. The
// caller closes it.
func (f *Fetcher) OpenPublic(d Digest) (*Shared, error) {
	if f.cfg.Store.Shareable(d) { // from memory: strangers ask for much that is not here
		if s := lend(f.cfg.Store.Peek(d)); s != nil {
			return s, nil
		}
	}
	return nil, ErrNotHere
}

func (f *Fetcher) lendStored(d Digest) *Shared { return lend(f.cfg.Store.Get(d)) }

// lend is nil where there is no blob.
func lend(blob *store.Blob, err error) *Shared {
	if err != nil {
		return nil
	}
	return &Shared{Size: blob.Size, Modified: blob.Modified, File: blob.File, Release: func() { blob.Close() }}
}

// joinShared counts another node as a reader of a blob's transfer; nil: there is
// none.
func (f *Fetcher) joinShared(d Digest) *transfer {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.transfers[hex.EncodeToString(d[:])]
	if t == nil || t.ctx.Err() != nil {
		return nil
	}
	t.readers++
	t.stopLingering()
	return t
}

// size is the file's, as far as it is known by now; -1 where it is not.
func (t *transfer) size() int64 {
	if g := t.growing.Load(); g != nil {
		return g.Size()
	}
	return t.want.Size
}

// arriving is the front of a transfer's file, as other nodes may have it: up to
// the last byte that has been written. It implements [Arriving].
type arriving struct {
	t      *transfer
	reader *store.Reader // nil: not open yet
}

// Wait implements Arriving.
func (a *arriving) Wait(ctx context.Context, off int64) (int64, error) {
	if a.reader == nil {
		if err := a.open(ctx); err != nil {
			return 0, err
		}
	}
	return a.reader.WaitWritten(ctx, off)
}

// open waits for the file.
func (a *arriving) open(ctx context.Context) error {
	for {
		v, changed := a.t.look()
		if v.failed != nil {
			return v.failed
		}
		if g := a.t.growing.Load(); g != nil {
			reader, err := g.NewReader()
			a.reader = reader
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ReadAt implements io.ReaderAt.
func (a *arriving) ReadAt(p []byte, off int64) (int, error) {
	if a.reader == nil {
		return 0, io.EOF
	}
	return a.reader.ReadWrittenAt(p, off)
}

func (a *arriving) release() {
	if a.reader != nil {
		a.reader.Close()
	}
	a.t.f.leave(a.t)
}
