// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Blob is a blob opened for reading. Its file is its own: sendfile and Seek disturb nobody.
type Blob struct {
	*os.File
	Digest    Digest
	Size      int64     // bytes
	Modified  time.Time // the origin's Last-Modified; zero: unknown
	Shareable bool      // as in Meta
}

// Get opens a blob; the caller closes it. ErrNotFound says that it is not here, or no longer: a file
// that is missing, has another size or has gone bad is dropped. Bytes that may have gone bad since
// they were verified last are verified first (verify.go).
func (s *Store) Get(d Digest) (*Blob, error) {
	s.table.use(d, time.Now())
	return s.Peek(d)
}

// Peek is Get for what is no use of the blob at this site, and so must not keep it from eviction.
func (s *Store) Peek(d Digest) (*Blob, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	e, ok := s.table.get(d)
	if !ok {
		return nil, ErrNotFound
	}
	f, st, err := openRegular(s.blobPath(d))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errNotRegular) {
		s.dropMissing(d, err)
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	b := &Blob{File: f, Digest: d, Size: e.size, Modified: timeOf(st.Mtim.Sec), Shareable: e.flags.has(flagShareable)}
	if err := s.trust(b, e, st.Size, st.Ctim.Sec, time.Now()); err != nil {
		f.Close()
		return nil, err
	}
	return b, nil
}

var errNotRegular = errors.New("not a regular file")

// openRegular opens a file for reading with one open and one fstat.
func openRegular(path string) (*os.File, unix.Stat_t, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, unix.Stat_t{}, fmt.Errorf("store: %s: %w", path, errNotRegular)
	}
	if err != nil {
		return nil, unix.Stat_t{}, fmt.Errorf("store: %w", err)
	}
	st, err := fstat(f)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = fmt.Errorf("store: %s: %w", path, errNotRegular)
	}
	if err != nil {
		f.Close()
		return nil, st, err
	}
	return f, st, nil
}

func fstat(f *os.File) (st unix.Stat_t, err error) {
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, fmt.Errorf("store: stat %s: %w", f.Name(), err)
	}
	return st, nil
}

// dropMissing forgets a blob whose file is gone or has been replaced by something else, which is
// left where it is.
func (s *Store) dropMissing(d Digest, cause error) {
	s.publishMu.Lock()
	st, err := os.Lstat(s.blobPath(d))
	var e entry
	ours := false
	if err != nil || !st.Mode().IsRegular() { // else published again meanwhile
		e, ours = s.table.remove(d) // nothing if it was evicted meanwhile
	}
	s.publishMu.Unlock()
	if ours {
		s.log.Warn("store: blob is gone", "digest", hexOf(d), "error", cause)
		s.rows.forget(d, e.size)
		s.tellGone()
	}
}

// dropBad removes the blob whose file is open as f, unless another file has taken its place.
func (s *Store) dropBad(d Digest, f *os.File, cause error) {
	bad, err := f.Stat()
	if err != nil {
		s.log.Error("store: bad blob", "digest", hexOf(d), "error", err)
		return
	}
	s.publishMu.Lock()
	now, err := os.Lstat(f.Name())
	if err != nil || !os.SameFile(bad, now) {
		s.publishMu.Unlock()
		return
	}
	e, err := s.unlinkLocked(d)
	s.publishMu.Unlock()
	s.log.Error("store: blob has gone bad and was dropped", "digest", hexOf(d), "cause", cause, "error", err)
	s.rows.forget(d, e.size)
	s.tellGone()
}

// unlinkLocked removes a blob's file and its entry. Whoever reads it keeps it open. It expects
// publishMu.
func (s *Store) unlinkLocked(d Digest) (entry, error) {
	err := os.Remove(s.blobPath(d))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("store: %w", err)
	} else {
		err = nil
	}
	e, _ := s.table.remove(d)
	return e, err
}

// tellGone tells which blobs have gone. It expects no lock of the store's to be held.
func (s *Store) tellGone() {
	for _, d := range s.table.takeGone() {
		if s.cfg.Gone != nil {
			s.cfg.Gone(d)
		}
	}
}

// remove takes a blob out of the store and returns its size. The caller ends with tellGone.
func (s *Store) remove(d Digest) (int64, error) {
	s.publishMu.Lock()
	if s.closed.Load() {
		s.publishMu.Unlock()
		return 0, ErrClosed
	}
	e, err := s.unlinkLocked(d)
	s.publishMu.Unlock()
	return e.size, errors.Join(err, s.rows.forget(d, e.size))
}
