// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import "slices"

// What is here is called by Run's goroutine alone, which needs mu only to change the table.

// see compares a file with what is known of its path. It reports whether the file is known as it is.
func (s *Set) see(rel string, m *meta) bool {
	i := s.table.byPath(s.pathKey(rel))
	if i == 0 {
		return false
	}
	e := *s.table.at(i)
	there := s.table.stateOf(i).present()
	same := e.stamp == s.stampKey(m.stamp)
	if there && same {
		s.mark(i)
		return true
	}
	r, err := s.journal.read(e.place)
	switch {
	case err != nil || r.path != rel:
	case same && r.stamp == m.stamp:
		s.enter(i, &r)
		return true
	case there && r.stamp.size == m.stamp.size && r.stamp.mtime == m.stamp.mtime:
		s.mark(i) // chmod or a new link most likely: Get refuses it, but it is no news until it is hashed
		return false
	}
	if there {
		s.leave(i)
	}
	return false
}

func (s *Set) mark(i id) {
	if s.table.stateOf(i) == seen {
		return
	}
	s.mu.Lock()
	s.table.setState(i, seen)
	s.mu.Unlock()
}

// adopt takes over what is known of the same inode under another path: a hard link, or a directory
// that was moved.
func (s *Set) adopt(rel string, m *meta) bool {
	if !m.stamp.telling() {
		return false
	}
	var room [maxPlaces]place
	for _, p := range s.table.byStamp(s.stampKey(m.stamp), room[:0]) {
		r, err := s.journal.read(p)
		if err != nil || r.stamp != m.stamp || r.dev != m.dev {
			continue
		}
		states, err := s.journal.states(p, &r)
		if err != nil {
			continue
		}
		r.path = rel
		if err := s.record(&r, states); err != nil {
			s.trouble(err)
			return false
		}
		return true
	}
	return false
}

// record notes what a file's bytes are, in place of what was known of its path.
func (s *Set) record(r *record, states []byte) error {
	old := s.table.byPath(s.pathKey(r.path))
	if old == 0 && s.table.entries >= s.cfg.MaxFiles {
		s.complainFull()
		return nil
	}
	p, err := s.journal.append(r, states)
	if err != nil {
		return err
	}
	s.mu.Lock()
	i := s.table.add(s.entryOf(r, p), r.stamp.telling())
	s.mu.Unlock()
	s.enter(i, r)
	if old != 0 {
		s.remove(old)
	}
	return nil
}

func (s *Set) enter(i id, r *record) {
	s.mu.Lock()
	added := s.table.enter(i)
	if added {
		s.stats.Blobs++
		s.stats.Bytes += r.stamp.size
	}
	s.mu.Unlock()
	if added {
		s.tell(&s.changes.added, &s.changes.gone, r.digest)
	}
}

// leave notes that an entry's file is not there any more. What is known of it is kept for a while.
func (s *Set) leave(i id) {
	r, err := s.journal.read(s.table.at(i).place)
	s.mu.Lock()
	gone := s.table.leave(i)
	if gone {
		s.stats.Blobs--
		s.stats.Bytes -= r.stamp.size
	}
	s.mu.Unlock()
	if gone && err == nil {
		s.tell(&s.changes.gone, &s.changes.added, r.digest)
	}
}

// remove forgets an entry altogether.
func (s *Set) remove(i id) {
	if s.table.stateOf(i).present() {
		s.leave(i)
	}
	if r, err := s.journal.read(s.table.at(i).place); err == nil {
		s.garbage += r.length()
	}
	s.mu.Lock()
	s.table.drop(i)
	s.mu.Unlock()
}

// forget is told that there is nothing to offer at a path. It reports whether there was.
func (s *Set) forget(rel string) bool {
	i := s.table.byPath(s.pathKey(rel))
	if i == 0 {
		return false
	}
	if s.table.stateOf(i).present() {
		s.leave(i)
	}
	return true
}

// maxTold bounds a call of Changed.
const maxTold = 512

// changes are what Changed has not been told yet. No digest is in both lists.
type changes struct{ added, gone []Digest }

func (s *Set) tell(list, other *[]Digest, d Digest) {
	if s.cfg.Changed == nil {
		return
	}
	if len(*list) == maxTold || slices.Contains(*other, d) {
		s.flush()
	}
	*list = append(*list, d)
}

func (s *Set) flush() {
	c := &s.changes
	if len(c.added)+len(c.gone) == 0 {
		return
	}
	s.cfg.Changed(c.added, c.gone)
	c.added, c.gone = c.added[:0], c.gone[:0]
}

// maxComplaints bounds the paths of which it is remembered that a complaint was logged.
const maxComplaints = 1024

// complain logs what is wrong with a path, once.
func (s *Set) complain(rel string, err error) {
	key := s.pathKey(rel)
	if _, told := s.told[key]; told || len(s.told) >= maxComplaints {
		return
	}
	s.told[key] = struct{}{}
	s.cfg.Log.Warn("inplace: left out what cannot be read", "dir", s.cfg.Dir, "path", rel, "error", err)
	if len(s.told) == maxComplaints {
		s.cfg.Log.Warn("inplace: there is more that cannot be read", "dir", s.cfg.Dir)
	}
}

func (s *Set) complainFull() {
	if !s.full {
		s.full = true
		s.cfg.Log.Warn("inplace: too many files; some are left out", "dir", s.cfg.Dir, "most", s.cfg.MaxFiles)
	}
}
