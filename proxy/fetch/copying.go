// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"apt-dht/store"
)

// buffers are for copying; 64 KiB is a socket's worth at LAN speed.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// copy appends what a source sends to the front until it ends, telling took of
// each part.
func (t *transfer) copy(body io.Reader, took func(n int64)) error {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	g := t.growing.Load()
	for {
		n, err := body.Read(buf[:])
		if n > 0 {
			_, werr := g.Write(buf[:n])
			took(int64(n))
			switch {
			case errors.Is(werr, store.ErrMet):
				return nil
			case werr != nil:
				return t.writeError(werr)
			}
		}
		switch {
		case err == io.EOF, err != nil && t.isWhole():
			return nil
		case err != nil:
			return err
		}
	}
}

// writeError tells a full disk, which is ours, from wrong bytes, which are not.
func (t *transfer) writeError(err error) error {
	switch {
	case errors.Is(err, store.ErrTooLong):
		return t.wrong(fmt.Errorf("it sent more than its size: %w", err))
	case errors.As(err, new(*store.MismatchError)):
		return t.wrong(err)
	}
	return storageError{err}
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
