// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
)

// drainMax is how much of an unwanted body is read to save its connection: about what is under way in a round
// trip anyway.
const drainMax = 256 << 10

// body is an answer's body. Its reader reads straight from the connection.
type body struct {
	conn *conn
	call *call
	br   *bufio.Reader // the connection's
	src  io.Reader     // net/http's framing, out of br
	size int64         // -1: not told
	done chan ending

	mu   sync.Mutex  // guards following; held while reading
	stop func() bool // ends the watch on the request's context
	read int64
	err  error // what Read returns from now on; nil: the body goes on
}

// ending says how the reading of a body ended: to its end (both zero), with so much left to drain, or so that
// the connection is of no more use.
type ending struct {
	drain int64
	err   error
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	b.conn.reading.Store(true)
	n, err := b.src.Read(p)
	b.conn.reading.Store(false)
	b.read += int64(n)
	b.conn.progress(n)
	if err != nil {
		b.endLocked(err)
	}
	return n, b.err
}

// Close ends the body; what is left of it is drained if it is little, else the connection is closed.
func (b *body) Close() error {
	b.abandon(http.ErrBodyReadAfterClose)
	return nil
}

func (b *body) abandon(cause error) {
	b.conn.deadline.cutShort(b, cause)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err == nil:
		b.endLocked(os.ErrDeadlineExceeded)
	case cause == http.ErrBodyReadAfterClose:
		b.err = failure("body", b.call.req.URL, cause)
	}
}

// endLocked settles what Read returns, for an error of the source, and lets the connection go on.
func (b *body) endLocked(err error) {
	end := ending{err: err}
	if err == io.EOF {
		b.err, end.err = err, nil
		b.conn.seal(b.br)
	} else {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			end, err = b.timedOutLocked()
		}
		if killed := b.conn.killedFor(); killed != nil {
			err = killed
		}
		b.err = failure("body", b.call.req.URL, cut(err))
	}
	b.stop()
	b.conn.deadline.end()
	b.done <- end
}

// timedOutLocked tells a reading that was cut short from a mirror that sent nothing.
func (b *body) timedOutLocked() (ending, error) {
	cause := b.conn.deadline.cutCause(b)
	if cause == nil {
		return ending{err: ErrStalled}, ErrStalled
	}
	if left := b.size - b.read; b.size >= 0 && left <= drainMax {
		return ending{drain: left}, cause
	}
	return ending{err: errAbandoned}, cause
}

// watch ends the body when its request's context does.
func (b *body) watch() {
	ctx := b.call.req.Context()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop = context.AfterFunc(ctx, func() { b.abandon(context.Cause(ctx)) })
}
