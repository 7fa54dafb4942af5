// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A candidate is a complete file in Dir/partial that is to become a blob.
type candidate struct {
	file  *os.File // open
	path  string
	known bool // the digest was known beforehand
	want  Digest
	size  int64 // -1: was not known beforehand
	sum   Digest
	n     int64 // bytes hashed
	meta  Meta
}

// publish is the one way into the store: count, verify, stamp, rename. The file is removed if it
// fails. The error is a *MismatchError if the bytes are not what they should be. A blob that is here
// already stays shareable, and is still kept: its bytes are the same, wherever they came from this
// time.
func (s *Store) publish(c candidate) error {
	if err := c.check(); err != nil {
		os.Remove(c.path)
		return err
	}
	if err := stamp(c.file, c.meta); err != nil {
		os.Remove(c.path)
		return err
	}
	s.dropUnsound(c.sum)
	now := time.Now()
	e := entry{size: c.n, used: now.UnixNano(), verified: seconds(now), flags: c.meta.flags()}
	s.publishMu.Lock()
	defer s.publishMu.Unlock()
	if s.closed.Load() {
		os.Remove(c.path)
		return ErrClosed
	}
	if err := renameMaking(c.path, s.blobPath(c.sum)); err != nil {
		os.Remove(c.path)
		return fmt.Errorf("store: publish: %w", noSpace(err))
	}
	old, _ := s.table.get(c.sum)
	e.flags |= old.flags & (flagKeep | flagShareable)
	s.table.put(c.sum, e)
	return nil
}

// check counts and verifies: the file must have as many bytes as were hashed.
func (c candidate) check() error {
	st, err := fstat(c.file)
	if err != nil {
		return err
	}
	if c.size >= 0 && c.n != c.size || c.known && c.sum != c.want {
		return &MismatchError{Want: c.want, Got: c.sum, WantSize: c.size, GotSize: c.n}
	}
	if st.Size != c.n {
		return fmt.Errorf("store: %s: wrote %d bytes, the file has %d", c.path, c.n, st.Size)
	}
	return nil
}

// stamp puts into the file's mtime what must outlive the database: a Last-Modified of zero becomes the
// Unix epoch. It leaves alone what is right already: a hard link shares it with somebody else's file.
func stamp(f *os.File, m Meta) error {
	st, err := fstat(f)
	if err != nil {
		return err
	}
	if sec := max(unixOf(m.Modified), 0); st.Mtim.Sec != sec {
		tv := []unix.Timeval{{Sec: sec}, {Sec: sec}}
		if err := unix.Futimes(int(f.Fd()), tv); err != nil {
			return fmt.Errorf("store: set time of %s: %w", f.Name(), err)
		}
	}
	return nil
}

// renameMaking renames, making the directory of the new name if it is not there yet.
func renameMaking(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Mkdir(filepath.Dir(to), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Rename(from, to)
}

// dropUnsound drops a blob of which the file is not there as it was: nothing of it stays then.
func (s *Store) dropUnsound(d Digest) {
	if _, ok := s.table.get(d); !ok {
		return
	}
	if f, err := s.openSound(d); err == nil {
		f.Close()
	}
}

// record writes the rows of a blob that has been published, and makes room if it was too much. Rows
// that find no room are lost with this process; the blob is not.
func (s *Store) record(d Digest, m Meta, states []Digest) {
	if err := s.writeRows(d, m, states); err != nil {
		s.log.Debug("store: what is known of a blob is not recorded", "digest", hexOf(d), "error", err)
	}
	s.evictForQuota()
}

func (s *Store) writeRows(d Digest, m Meta, states []Digest) error {
	s.metaMu.Lock()
	defer s.metaMu.Unlock()
	e, ok := s.table.get(d)
	if !ok {
		return nil
	}
	m.Added = time.Now()
	s.keepKnown(d, &m, e)
	return s.rows.write(append([]row{encodeMeta(d, m), encodeTimes(d, e)}, stateRows(d, states)...))
}

// keepKnown leaves as it was what a blob that has been published again does not have anew: when it
// came, and the origin that made it shareable, by which the operator may exclude it. Of two that are
// published at the same time the shareable one has the last word, in whichever order their rows are
// written.
func (s *Store) keepKnown(d Digest, m *Meta, e entry) {
	known, _ := s.metaRow(d)
	if added := timeOf(known.Added); !added.IsZero() && added.Before(m.Added) {
		m.Added = added
	}
	if e.shareable() && !m.Shareable {
		m.Origin = known.Origin
	}
}
