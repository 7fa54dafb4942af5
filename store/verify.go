// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"sync"
	"time"
)

const (
	// verifyAge is how old a blob's last verification may be when it is given out.
	verifyAge = 24 * time.Hour
	// verifyFirst is the largest blob that is verified anew before it is given out: 45 ms at
	// 1.4 GB/s, 200 ms without SHA instructions. Larger ones are verified afterwards, by Run.
	verifyFirst = 64 << 20
)

func seconds(t time.Time) uint32 { return uint32(min(max(t.Unix(), 1), math.MaxUint32)) }

// fresh reports whether the last verification is recent. One in the future, from a clock that was
// wrong then, is not.
func (e entry) fresh(now time.Time) bool {
	age := now.Unix() - int64(e.verified)
	return age >= 0 && age < int64(verifyAge/time.Second)
}

// publishSlack is how many seconds may lie between a blob's verification and the last change that publishing
// makes to its inode.
const publishSlack = 2

// trust decides whether b may be given out, verifying it first where that is due. changedAt is the
// file's ctime in seconds: whoever writes into it cannot hide that, but within publishSlack, where the
// mtime, which is that of the origin, tells. A blob that was
// never verified (the row is lost, or the machine may have lost the bytes: see adopt) always is.
func (s *Store) trust(b *Blob, e entry, fileSize, changedAt int64, now time.Time) error {
	if fileSize != e.size {
		s.dropBad(b.Digest, b.File, &MismatchError{Want: b.Digest, WantSize: e.size, GotSize: fileSize})
		return ErrNotFound
	}
	written := b.Modified.Unix() - int64(e.verified)
	changed := changedAt > int64(e.verified)+publishSlack || -1 <= written && written <= publishSlack
	if e.fresh(now) && !changed {
		return nil
	}
	if !changed && e.verified != 0 && e.size > verifyFirst {
		s.scrubLater(b.Digest)
		return nil
	}
	return s.verifyOnce(context.Background(), b.Digest, b.File)
}

func (s *Store) scrubLater(d Digest) {
	select {
	case s.scrub <- d:
	default: // the next Get asks again
	}
}

// verifyOnce verifies an open blob; those who ask for it at the same time share the work.
func (s *Store) verifyOnce(ctx context.Context, d Digest, f *os.File) error {
	_, err, _ := s.verifying.Do(string(d[:]), func() (any, error) {
		return nil, s.verifyFile(ctx, d, f)
	})
	return err
}

// verifyFile hashes an open blob. A bad one is dropped; the error is then ErrNotFound too.
func (s *Store) verifyFile(ctx context.Context, d Digest, f *os.File) error {
	sum, n, err := hashFile(ctx, f)
	if ctx.Err() != nil {
		return err
	}
	if err == nil && sum != d {
		err = &MismatchError{Want: d, Got: sum, WantSize: -1, GotSize: n}
	}
	if err != nil {
		s.dropBad(d, f, err)
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	s.table.change(d, func(e *entry) { e.verified = seconds(time.Now()) })
	return nil
}

var hashBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// hashFile hashes a whole file with pread, so that its offset stays.
func hashFile(ctx context.Context, f *os.File) (sum Digest, n int64, err error) {
	buf := hashBuffers.Get().(*[256 << 10]byte)
	defer hashBuffers.Put(buf)
	h := sha256.New()
	for ctx.Err() == nil {
		k, err := f.ReadAt(buf[:], n)
		h.Write(buf[:k])
		n += int64(k)
		if err == io.EOF {
			h.Sum(sum[:0])
			return sum, n, nil
		}
		if err != nil {
			return sum, n, fmt.Errorf("store: %w", err)
		}
	}
	return sum, n, context.Cause(ctx)
}

// Verify hashes every blob and drops the bad ones. It calls report after each, with nil for a good
// one. The error is ctx's alone.
func (s *Store) Verify(ctx context.Context, report func(Digest, error)) error {
	for _, d := range s.table.digests() {
		err := s.verifyBlob(ctx, d)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		report(d, err)
	}
	return nil
}

func (s *Store) verifyBlob(ctx context.Context, d Digest) error {
	f, err := s.openSound(d)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.verifyOnce(ctx, d, f)
}

// openSound opens a blob's file, and drops the blob if it is gone or has another length.
func (s *Store) openSound(d Digest) (*os.File, error) {
	f, st, err := openRegular(s.blobPath(d))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errNotRegular) {
		s.dropMissing(d, err)
	}
	if err != nil {
		return nil, err
	}
	if e, ok := s.table.get(d); ok && e.size != st.Size {
		err := &MismatchError{Want: d, WantSize: e.size, GotSize: st.Size}
		s.dropBad(d, f, err)
		f.Close()
		return nil, err
	}
	return f, nil
}

// scrubLoop verifies what Get gave out unverified.
func (s *Store) scrubLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-s.scrub:
			if e, ok := s.table.get(d); !ok || e.fresh(time.Now()) {
				continue
			}
			if err := s.verifyBlob(ctx, d); err != nil && ctx.Err() == nil {
				s.log.Warn("store: verifying in the background", "digest", hexOf(d), "error", err)
			}
		}
	}
}

// hexOf is a log value that is written out only if the line is.
type hexOf Digest

func (h hexOf) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf("%x", h[:])) }
