// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"apt-dht/store"
)

// A Set is the blobs of a directory. All methods may be called at any time from any goroutine, but
// for Run, which is called once.
type Set struct {
	cfg  Config
	lock *os.File
	seed maphash.Seed
	box  *inbox

	mu      sync.RWMutex // guards following; Run's goroutine alone changes them, and reads them without
	table   *table
	journal *journal
	stats   Stats
	closed  bool

	worker // Run's goroutine alone
}

// A worker is what only Run's goroutine uses.
type worker struct {
	garbage     int64 // bytes of the journal that are no entry's record
	compactNext time.Time
	changes     changes
	watch       *watcher // nil: the kernel tells nothing
	pace        pace
	told        map[uint64]struct{} // paths that a complaint has been logged of
	full        bool                // it has been logged that there are too many files
	ticked      time.Time           // when tick did its work last
	scans       scans
	queue       []string // paths that have been looked at and are to be hashed
	verify      verifier
}

// Stats says what a Set has.
type Stats struct {
	Files        int   // files that can be given out, several of which may be the same blob
	Blobs        int   // what Each yields
	Bytes        int64 // of these blobs
	Waiting      int   // files found by the last scan that are still to be hashed
	WaitingBytes int64
	Scanned      bool    // the whole directory has been looked through at least once
	Empty        bool    // the last scan found no file to offer, be it hashed or not
	Private      Private // what the last scan left out
}

// Private is what is not offered because not everybody on this machine may read it.
type Private struct {
	Files int    // without those in Dirs
	Dirs  int    // which have not been looked into
	First string // the path, beneath Config.Dir, of one of them; empty if there is none
}

// note counts the file or directory at a path.
func (p *Private) note(rel string, count *int) {
	if p.First == "" {
		p.First = rel
	}
	*count++
}

// Open reads the cache, but not the directory: until Run has found files there, there are no blobs.
// The caller calls Close. store.ErrLocked says that another process has the cache.
func Open(cfg Config) (*Set, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("inplace: cache: %w", err)
	}
	s := &Set{
		cfg:   cfg,
		seed:  maphash.MakeSeed(),
		box:   newInbox(),
		table: newTable(),
		worker: worker{
			told: make(map[uint64]struct{}),
			pace: pace{rate: cfg.Rate},
		},
	}
	if s.lock, err = lockCache(filepath.Join(cfg.Cache, "lock")); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		s.lock.Close()
		return nil, err
	}
	return s, nil
}

func lockCache(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("inplace: cache: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = store.ErrLocked
		}
		return nil, fmt.Errorf("inplace: %s: %w: stop the process that has it or choose another cache", path, err)
	}
	return f, nil
}

// load fills the table with what the journal knows. All of it is missing until a scan finds it.
func (s *Set) load() (err error) {
	var live int64
	j, skipped, err := openJournal(s.journalPath(), func(r record, p place) {
		key := s.pathKey(r.path)
		if old := s.table.byPath(key); old != 0 {
			s.table.drop(old)
			live -= r.length() // as good as that of the older record
		}
		if s.table.entries < s.cfg.MaxFiles {
			s.table.add(s.entryOf(&r, p), r.stamp.telling())
			live += r.length()
		}
	})
	if err != nil {
		return err
	}
	if skipped > 0 {
		s.cfg.Log.Warn("inplace: the cache was damaged; what is lost is hashed again", "cache", s.cfg.Cache, "bytes", skipped)
		s.box.repair()
	}
	s.journal = j
	s.garbage = j.end - live
	return nil
}

func (s *Set) journalPath() string { return filepath.Join(s.cfg.Cache, "files") }

// Close ends the use of the cache; it is called after Run has returned. Blobs that were given out
// stay open. It may be called again.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.journal.f.Close(), s.lock.Close())
}

// Stats returns what there is now.
func (s *Set) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	stats := s.stats
	stats.Files = s.table.present
	return stats
}

// The keys differ from start to start, so that nobody can choose paths that collide.
func (s *Set) pathKey(path string) uint64  { return maphash.String(s.seed, path) }
func (s *Set) stampKey(stamp stamp) uint32 { return uint32(maphash.Comparable(s.seed, stamp)) }

func (s *Set) entryOf(r *record, p place) entry {
	return entry{path: s.pathKey(r.path), digest: digestKey(r.digest), stamp: s.stampKey(r.stamp), place: p}
}
