// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"apt-dht/store"
)

// maxPlaces is how many files of the same bytes are tried.
const maxPlaces = 16

// A Blob is an open file.
type Blob struct {
	*store.Blob
	stamp stamp
}

// Unchanged says why what has been read of the file until now may not be the blob's bytes: it has
// been written to. One that has been replaced or removed keeps its bytes for who has it open.
func (b *Blob) Unchanged() error {
	m, err := fstat(b.File)
	if err == nil && (m.stamp.size != b.stamp.size || m.stamp.mtime != b.stamp.mtime) {
		err = errChanged
	}
	return err
}

// Get opens a blob; the caller closes it. Its file has the stamp with which it was hashed: one that
// has been changed since is not given out, and is hashed anew. Modified is the file's mtime;
// Shareable is true. The error is store.ErrNotFound if there is no such file (any more), or
// store.ErrClosed.
func (s *Set) Get(d Digest) (blob *Blob, err error) {
	err = s.try(d, func(_ *journal, _ place, r *record) error {
		blob, err = s.open(r)
		return err
	})
	return blob, err
}

// Stat returns a blob's size.
func (s *Set) Stat(d Digest) (size int64, ok bool) {
	err := s.try(d, func(_ *journal, _ place, r *record) error {
		size = r.stamp.size
		return nil
	})
	return size, err == nil
}

// Modified returns the mtime that a blob's file had when it was hashed. Errors are as Get's.
func (s *Set) Modified(d Digest) (mtime time.Time, err error) {
	err = s.try(d, func(_ *journal, _ place, r *record) error {
		mtime = time.Unix(0, r.stamp.mtime)
		return nil
	})
	return mtime, err
}

// Pieces returns the chaining states of SHA-256 after each piece of store.PieceSize bytes of the
// blob, but for the last; none for a blob of one piece. Errors are as Get's.
func (s *Set) Pieces(d Digest) (states []Digest, err error) {
	err = s.try(d, func(j *journal, p place, r *record) error {
		b, err := j.states(p, r)
		for ; len(b) > 0; b = b[stateLen:] {
			states = append(states, Digest(b))
		}
		return err
	})
	return states, err
}

// try calls fn with the records of a digest until it returns nil.
func (s *Set) try(d Digest, fn func(*journal, place, *record) error) error {
	for {
		var room [maxPlaces]place
		s.mu.RLock()
		j, closed := s.journal, s.closed
		places := s.table.byDigest(d, room[:0])
		s.mu.RUnlock()
		if closed {
			return store.ErrClosed
		}
		err := s.tryPlaces(d, j, places, fn)
		if !errors.Is(err, os.ErrClosed) {
			return err
		}
		// Another journal has taken the place of this one.
	}
}

func (s *Set) tryPlaces(d Digest, j *journal, places []place, fn func(*journal, place, *record) error) error {
	for _, p := range places {
		r, err := j.read(p)
		if err == nil && r.digest == d {
			err = fn(j, p, &r)
			if err == nil {
				return nil
			}
		}
		if errors.Is(err, os.ErrClosed) {
			return err
		}
		if errors.Is(err, errDamaged) {
			s.box.repair()
		}
	}
	return store.ErrNotFound
}

// open opens the file of a record if it is still the one that was hashed; otherwise it is looked at
// again.
func (s *Set) open(r *record) (*Blob, error) {
	root, err := os.OpenRoot(s.cfg.Dir)
	if err != nil {
		s.box.hint(r.path)
		return nil, fmt.Errorf("%w: %v", store.ErrNotFound, err)
	}
	defer root.Close()
	f, m, err := openFile(root, r.path)
	if err == nil && m.stamp != r.stamp {
		f.Close()
		err = errChanged
	}
	if err != nil {
		s.box.hint(r.path)
		return nil, fmt.Errorf("%w: %v", store.ErrNotFound, err)
	}
	blob := &store.Blob{File: f, Digest: r.digest, Size: m.stamp.size, Modified: time.Unix(0, m.stamp.mtime), Shareable: true}
	return &Blob{blob, r.stamp}, nil
}

var (
	errChanged    = errors.New("inplace: the file has been changed")
	errNotOffered = errors.New("inplace: not a file that is offered")
)

// openFile opens a file beneath root for reading, if it is one that may be offered. Nothing waits
// for the other end of a pipe.
func openFile(root *os.Root, path string) (*os.File, meta, error) {
	f, err := root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, meta{}, err
	}
	m, err := fstat(f)
	if err == nil && !m.offered() {
		err = errNotOffered
	}
	if err != nil {
		f.Close()
		return nil, meta{}, err
	}
	return f, m, nil
}

// Each calls yield for each blob and its size in bytes until it returns false. What comes or goes
// meanwhile may be left out. It reads the cache: a million blobs take a second or two.
func (s *Set) Each(yield func(d Digest, size int64) bool) {
	for i := id(1); ; {
		j, p, ok := s.nth(i)
		if !ok {
			return
		}
		if p == 0 {
			i++
			continue
		}
		r, err := j.read(p)
		if errors.Is(err, os.ErrClosed) {
			continue // another journal has taken its place
		}
		if errors.Is(err, errDamaged) {
			s.box.repair()
		}
		if err == nil && !yield(r.digest, r.stamp.size) {
			return
		}
		i++
	}
}

// nth returns the place of an entry that stands for its digest; 0 if it does not; not ok if there
// are no more.
func (s *Set) nth(i id) (j *journal, p place, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed || i > s.table.used {
		return nil, 0, false
	}
	if s.table.stateOf(i).present() && s.table.first(s.table.at(i).digest) == i {
		p = s.table.at(i).place
	}
	return s.journal, p, true
}
