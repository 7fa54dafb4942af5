// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"context"
	"crypto/sha256"
	"encoding"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"apt-dht/store"
)

// hashChunk divides store.PieceSize.
const hashChunk = 256 << 10

// sum hashes the first size bytes of f, at the pace's rate, with ticks in between. It returns the
// states between the pieces, one after the other.
func (s *Set) sum(ctx context.Context, f *os.File, size int64) (d Digest, states []byte, err error) {
	h := sha256.New()
	states = make([]byte, 0, statesLen(size))
	buf := make([]byte, min(hashChunk, size))
	r := gentleReader{f: f}
	var marshalled []byte
	for off := int64(0); off < size; {
		n, err := r.readAt(buf[:min(int64(len(buf)), size-off)], off)
		if err != nil {
			return d, nil, fmt.Errorf("inplace: read %s: %w", f.Name(), err)
		}
		h.Write(buf[:n])
		off += int64(n)
		if off%store.PieceSize == 0 && off < size {
			// 4 bytes of magic, then 8 big-endian words; it never fails for SHA-256.
			marshalled, _ = h.(encoding.BinaryAppender).AppendBinary(marshalled[:0])
			states = append(states, marshalled[4:4+stateLen]...)
		}
		s.tick(ctx)
		if err := s.pace.wait(ctx, int64(n)); err != nil {
			return d, nil, err
		}
	}
	h.Sum(d[:0])
	return d, states, nil
}

// A gentleReader reads without filling the page cache with what nobody else has asked for, where
// kernel (Linux 6.14) and file system can do that.
type gentleReader struct {
	f     *os.File
	plain bool
}

// readAt fills b; a file that has become shorter is an error.
func (r *gentleReader) readAt(b []byte, off int64) (n int, err error) {
	for n < len(b) && !r.plain {
		k, err := unix.Preadv2(int(r.f.Fd()), [][]byte{b[n:]}, off+int64(n), unix.RWF_DONTCACHE)
		switch {
		case err == unix.EINTR:
		case err != nil:
			r.plain = true // not to be had; what else is wrong shows below
		case k == 0:
			return n, io.ErrUnexpectedEOF
		default:
			n += k
		}
	}
	if n < len(b) {
		k, err := r.f.ReadAt(b[n:], off+int64(n))
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return n + k, err
	}
	return n, nil
}

// A pace bounds a rate in bytes a second. What was not used before is not made up for.
type pace struct {
	rate int64
	next time.Time
}

// minSleep spares timers; 10 ms of the default rate are 640 kB.
const minSleep = 10 * time.Millisecond

// wait returns when n bytes more may have been read, or with ctx's error.
func (p *pace) wait(ctx context.Context, n int64) error {
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	ahead := p.next.Sub(now)
	if ahead < minSleep {
		return context.Cause(ctx)
	}
	t := time.NewTimer(ahead)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const (
	// ioprio_set(2): IOPRIO_WHO_PROCESS, and IOPRIO_CLASS_IDLE in the upper bits.
	ioprioWhoProcess = 1
	ioprioIdle       = 3 << 13

	// niceness gives way to others, but not so much that those who wait for the Set's lock would
	// feel it on a busy machine.
	niceness = 5
)

// lowPriority gives this goroutine a thread of its own that comes last for the disk. The thread
// ends with the goroutine, which must not unlock it. That a sandbox refuses it is no error.
func lowPriority() {
	runtime.LockOSThread()
	unix.Setpriority(unix.PRIO_PROCESS, 0, niceness)
	unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, ioprioIdle)
}
