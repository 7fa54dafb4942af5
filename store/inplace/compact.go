// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import "time"

const (
	// minGarbage is not worth the rewriting.
	minGarbage = 1 << 20
	// compactPause is how long it is left alone after it failed, of a full disk most likely.
	compactPause = 10 * time.Minute
)

// tidyJournal rewrites the journal if half of it is garbage, or if a damaged record was met.
func (s *Set) tidyJournal() {
	wasteful := s.garbage > minGarbage && s.garbage > s.journal.end/2
	if time.Now().Before(s.compactNext) || !wasteful && !s.box.damaged() {
		return
	}
	s.compactNext = time.Now().Add(compactPause)
	if err := s.compact(); err != nil {
		s.cfg.Log.Warn("inplace: the cache could not be rewritten", "cache", s.cfg.Cache, "error", err)
	}
}

// compact writes a new journal without garbage and damage.
func (s *Set) compact() error {
	places := make([]place, s.table.used)
	for i := range places {
		if s.table.stateOf(id(i+1)) != free {
			places[i] = s.table.at(id(i + 1)).place
		}
	}
	next, moved, err := s.journal.copyTo(s.journalPath(), places)
	if err != nil {
		return err
	}
	s.mu.Lock()
	old := s.journal
	s.journal = next
	for i, p := range moved {
		s.table.at(id(i + 1)).place = p
	}
	s.mu.Unlock()
	old.f.Close()
	s.garbage = 0
	s.box.repaired()
	s.dropLost()
	return nil
}

// dropLost forgets the entries that have lost their records. What they were of is not known any
// more; the scan that follows finds the files, and has them hashed.
func (s *Set) dropLost() {
	lost := 0
	for i := id(1); i <= s.table.used; i++ {
		if s.table.stateOf(i) != free && s.table.at(i).place == 0 {
			s.remove(i)
			lost++
		}
	}
	if lost == 0 {
		return
	}
	s.cfg.Log.Warn("inplace: the cache was damaged; what is lost is hashed again", "cache", s.cfg.Cache, "files", lost)
	var bytes int64
	s.Each(func(_ Digest, size int64) bool { bytes += size; return true })
	s.mu.Lock()
	s.stats.Bytes = bytes
	s.mu.Unlock()
	s.box.scan()
}
