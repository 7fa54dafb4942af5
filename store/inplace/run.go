// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Run finds and hashes the files, and follows their changes, until ctx ends. It returns nil:
// whatever fails is logged, and tried again later.
func (s *Set) Run(ctx context.Context) error {
	var group errgroup.Group
	w, err := newWatcher(s.box)
	if err != nil {
		s.cfg.Log.Warn("inplace: changes are found by looking for them only", "dir", s.cfg.Dir, "error", err)
	} else {
		s.watch = w
		group.Go(func() error { w.run(); return nil })
	}
	group.Go(func() error {
		s.work(ctx)
		if w != nil {
			w.close()
		}
		return nil
	})
	return group.Wait()
}

// work does all that Run does, in one goroutine.
func (s *Set) work(ctx context.Context) {
	lowPriority()
	ticker := time.NewTicker(s.cfg.Rest)
	defer ticker.Stop()
	for ctx.Err() == nil {
		s.tick(ctx)
		s.hashAll(ctx)
		s.verifyDue(ctx)
		s.flush()
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// tick does, once in cfg.Rest, what is not to wait until something is hashed.
func (s *Set) tick(ctx context.Context) {
	if ctx.Err() != nil || time.Since(s.ticked) < s.cfg.Rest {
		return
	}
	s.ticked = time.Now()
	if s.scans.of != identify(s.cfg.Dir) {
		s.box.scan() // mounted, unmounted, or a link that was switched
	}
	s.settle(ctx)
	if s.scanDue() {
		s.scan(ctx)
	}
	s.tidyJournal()
	s.flush()
}

// An identity tells one directory from another that takes its place; zero: there is none.
type identity struct {
	dev, ino uint64
}

func identify(dir string) identity {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return identity{}
	}
	return identity{uint64(st.Dev), st.Ino}
}

// settle looks at the paths that were noted.
func (s *Set) settle(ctx context.Context) {
	paths := s.box.take()
	if len(paths) == 0 {
		return
	}
	root, err := os.OpenRoot(s.cfg.Dir)
	if err != nil {
		s.box.scan()
		return
	}
	defer root.Close()
	for rel := range paths {
		if ctx.Err() != nil {
			return
		}
		s.look(ctx, root, rel)
	}
}

// look brings what is known of one path up to date.
func (s *Set) look(ctx context.Context, root *os.Root, rel string) {
	m, err := lstat(root, rel)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		if !s.forget(rel) && s.scans.hidden {
			s.box.scan() // it may have been a link
		}
	case err != nil:
		s.complain(rel, err)
		s.forget(rel)
	case leftOutPath(rel):
		s.box.scan() // whether a link still leads here only a scan knows
	case m.kind() == unix.S_IFDIR:
		s.lookDir(ctx, root, rel, &m)
	case m.offered() && publicWay(root, rel):
		w := &walk{s: s, root: root, fresh: func(rel string, m *meta) error { s.enqueue(rel, m); return nil }}
		w.file(rel, &m) // enqueue returns nil
	default:
		s.forget(rel)
		s.lookLink(root, rel, &m)
		if m.private() && s.stats.Private == (Private{}) {
			s.box.scan() // the first one
		}
	}
}

// lookDir looks through a directory that has come, or may be entered now. Of one that is watched
// already, only something like its times was changed.
func (s *Set) lookDir(ctx context.Context, root *os.Root, rel string, m *meta) {
	if !m.publicDir() || !publicWay(root, rel) {
		s.box.scan()
		return
	}
	if s.watches(root, rel) {
		return
	}
	w := &walk{s: s, root: root, watch: true}
	w.fresh = func(rel string, _ *meta) error { s.box.note(rel); return nil }
	w.run(ctx, rel) // ends early with ctx alone
}

// watches reports whether a directory has been watched before, and watches it.
func (s *Set) watches(root *os.Root, rel string) bool {
	dir, err := root.Open(rel)
	if err != nil {
		return false
	}
	defer dir.Close()
	return s.watch != nil && s.watch.add(dir, rel)
}

// lookLink has the directory scanned if a link has come that leads to something hidden.
func (s *Set) lookLink(root *os.Root, rel string, m *meta) {
	if m.kind() != unix.S_IFLNK {
		return
	}
	real, _, err := resolve(root, rel)
	if s.scans.hidden || err == nil && leftOutPath(real) {
		s.box.scan()
	}
}
