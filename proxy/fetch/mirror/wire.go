// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"errors"
	"runtime"
	"time"
)

// keptWrite is how much of the buffer for requests is kept between writes.
const keptWrite = 4 << 10

var errHeaderTooLong = errors.New("its header is longer than 64 KiB")

// wire is the source of a connection's buffer.
type wire struct {
	conn  *conn
	first [1]byte // read while no buffer was held
	ahead bool    // first is filled
	limit int     // bytes that the header may still have; negative: not in a header
	body  bool    // in a body: each read has its own time
	stall time.Duration
	err   error // what ended the connection
}

func (w *wire) Read(p []byte) (int, error) {
	if w.limit == 0 {
		return 0, errHeaderTooLong
	}
	if w.ahead {
		w.ahead = false
		return copy(p, w.first[:]), nil
	}
	if w.limit > 0 {
		p = p[:min(len(p), w.limit)]
	}
	if w.body {
		w.conn.deadline.set(time.Now().Add(w.stall))
	}
	n, err := w.conn.nc.Read(p)
	if w.limit > 0 {
		w.limit -= n
	}
	w.err = err
	return n, err
}

// writeRequests sends what is queued, as much as there is with one write. An error ends the writing only: the
// mirror may have answered before it closed, and the reading side will see the end.
func (c *conn) writeRequests() {
	var buf []byte
	for {
		select {
		case <-c.killed:
			return
		case <-c.wake:
		}
		runtime.Gosched() // whoever is about to hand in a request gets it into the same write
		buf = c.takeUnsent(buf[:0])
		if len(buf) == 0 {
			continue
		}
		if _, err := c.nc.Write(buf); err != nil {
			c.noMore()
			return
		}
		if cap(buf) > keptWrite {
			buf = nil
		}
	}
}

func (c *conn) takeUnsent(buf []byte) []byte {
	c.pool.client.mu.Lock()
	defer c.pool.client.mu.Unlock()
	for _, ca := range c.queue {
		if !ca.sent {
			ca.sent = true
			buf = append(buf, ca.wire...)
		}
	}
	return buf
}

func (c *conn) noMore() {
	c.pool.client.mu.Lock()
	defer c.pool.client.mu.Unlock()
	c.closing = true
}
