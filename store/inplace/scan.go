// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// keepScans is for how many scans it is kept what was known of a file that is gone: a disk that
	// is mounted again, or a directory that is moved back, is not hashed again.
	keepScans = 24
	// maxGone bounds them, beside as many as there are files.
	maxGone = 64 << 10
	// scanShare bounds the time spent on scans to a twentieth.
	scanShare = 20
)

// scans is what is known of the scans so far.
type scans struct {
	of       identity      // the directory that was scanned last
	ended    time.Time     // zero: none yet
	took     time.Duration // the last one
	interval time.Duration
	hidden   bool      // links lead to what a walk would not come by, or may do so
	waiting  bool      // files are still to be hashed
	retry    time.Time // after what went wrong with the cache, nothing is hashed until then
	told     bool      // it has been logged that the directory has to be scanned often
}

// scanDue reports whether it is time for a scan. The first is due at once.
func (s *Set) scanDue() bool {
	if s.scans.ended.IsZero() {
		return true
	}
	pause := s.scans.interval
	if s.box.scanWanted() {
		pause = s.cfg.Rest
	}
	return time.Since(s.scans.ended) >= max(pause, scanShare*s.scans.took)
}

// scan goes through the whole directory without hashing: what is gone is gone soon, and what there
// is to hash is counted.
func (s *Set) scan(ctx context.Context) {
	start := time.Now()
	s.box.startScan()
	s.scans.of, s.scans.hidden = identify(s.cfg.Dir), false
	s.unsee()
	if s.watch != nil {
		s.watch.begin()
	}
	var files int
	var bytes int64
	w, err := s.walkAll(ctx, true, func(_ string, m *meta) error {
		files++
		bytes += m.stamp.size
		return nil
	})
	if err != nil {
		return // ctx has ended
	}
	s.conclude(w.found > 0)
	s.setFound(w)
	s.setWaiting(files, bytes)
	s.scans.interval = s.nextScan()
	s.scans.waiting = s.scans.waiting || files > 0
	s.scans.ended, s.scans.took = time.Now(), time.Since(start)
	s.cfg.Log.Debug("inplace: scanned", "dir", s.cfg.Dir, "files", w.found, "private", w.private, "to_hash", files, "took", s.scans.took)
}

// walkAll walks all of Dir. A Dir that is not there has no files.
func (s *Set) walkAll(ctx context.Context, watch bool, fresh func(string, *meta) error) (w *walk, err error) {
	root, err := os.OpenRoot(s.cfg.Dir)
	if err != nil {
		s.cfg.Log.Warn("inplace: the directory cannot be opened", "dir", s.cfg.Dir, "error", err)
		return new(walk), nil
	}
	defer root.Close()
	w = &walk{s: s, root: root, watch: watch, fresh: fresh}
	return w, w.run(ctx, "")
}

// unsee prepares for a scan: whatever it does not come by is gone.
func (s *Set) unsee() {
	for _, c := range s.table.chunks {
		s.mu.Lock()
		for i, st := range c.states {
			if st == seen {
				c.states[i] = unseen
			}
		}
		s.mu.Unlock()
	}
}

// conclude ends a scan. One that found nothing at all is most likely of a disk that is not mounted.
func (s *Set) conclude(counts bool) {
	tooMany := s.table.entries-s.table.present > s.table.present+maxGone
	for i := id(1); i <= s.table.used; i++ {
		switch st := s.table.stateOf(i); {
		case st == unseen:
			s.leave(i)
		case st < missing || !counts:
		case st >= missing+keepScans || tooMany:
			s.remove(i)
		default:
			s.mu.Lock()
			s.table.setState(i, st+1)
			s.mu.Unlock()
		}
	}
}

func (s *Set) setWaiting(files int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Waiting, s.stats.WaitingBytes, s.stats.Scanned = files, bytes, true
}

func (s *Set) setFound(w *walk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Empty, s.stats.Private = w.found == 0, w.private
}

// nextScan returns when the next scan is due that nothing has asked for.
func (s *Set) nextScan() time.Duration {
	unwatched := s.watch == nil || s.watch.end(s.scans.hidden) || onNetwork(s.cfg.Dir)
	if unwatched && !s.scans.told {
		s.scans.told = true
		s.cfg.Log.Info("inplace: the kernel does not tell of every change: scanning instead",
			"dir", s.cfg.Dir, "hint", "a network file system, or fs.inotify.max_user_watches is too small")
	}
	switch {
	case s.cfg.Rescan > 0:
		return s.cfg.Rescan
	case unwatched:
		return rescanUnwatched
	}
	return rescanWatched
}

// onNetwork reports whether a directory is on a file system that others can change unnoticed.
func onNetwork(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && remote(uint32(st.Type))
}

func remote(magic uint32) bool {
	switch magic {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC,
		unix.FUSE_SUPER_MAGIC, unix.V9FS_MAGIC, unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC, unix.CODA_SUPER_MAGIC,
		unix.OCFS2_SUPER_MAGIC:
		return true
	}
	return false
}
