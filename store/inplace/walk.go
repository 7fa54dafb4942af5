// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// readBatch is how many names of a directory are held at a time.
const readBatch = 1024

// maxTargets bounds the hidden directories that links lead to.
const maxTargets = 16 << 10

// A walk goes through directories beneath root, and compares what it meets with what is known. What
// is new it gives to fresh.
type walk struct {
	s       *Set
	root    *os.Root
	fresh   func(rel string, m *meta) error
	between func() error // called between files if it is not nil; an error ends the walk
	watch   bool         // watch the directories

	dirs    []string        // still to be read
	targets map[string]bool // hidden directories that links lead to
	found   int             // files that may be offered
	private Private         // files and directories that may not
}

// run walks the directory rel, "" for root itself, and all below.
func (w *walk) run(ctx context.Context, rel string) error {
	w.dirs = append(w.dirs, rel)
	for len(w.dirs) > 0 && ctx.Err() == nil {
		next := w.dirs[len(w.dirs)-1]
		w.dirs = w.dirs[:len(w.dirs)-1]
		if err := w.dir(ctx, next); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func (w *walk) dir(ctx context.Context, rel string) error {
	dir, err := w.root.Open(cmp.Or(rel, "."))
	if err != nil {
		w.s.skip(rel, err)
		return nil
	}
	defer dir.Close()
	if m, err := fstat(dir); err != nil || rel != "" && !m.publicDir() {
		return nil // it was public a moment ago
	}
	if w.watch && w.s.watch != nil {
		w.s.watch.add(dir, rel)
	}
	for {
		names, err := dir.Readdirnames(readBatch)
		if err := w.batch(ctx, dir, rel, names); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			w.s.skip(rel, err)
			return nil
		}
	}
}

type found struct {
	rel string
	meta
}

// batch handles some names of a directory, in the order in which a disk most likely has the files.
func (w *walk) batch(ctx context.Context, dir *os.File, rel string, names []string) error {
	batch := make([]found, 0, len(names))
	stay := inodesStay(dir)
	for _, name := range names {
		if leftOut(name) || len(rel)+1+len(name) > maxPath {
			continue
		}
		if m, err := lstatIn(dir, stay, name); err == nil {
			batch = append(batch, found{path.Join(rel, name), m})
		} else {
			w.s.skip(path.Join(rel, name), err)
		}
	}
	slices.SortFunc(batch, func(a, b found) int { return cmp.Compare(a.stamp.ino, b.stamp.ino) })
	for i := range batch {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.meet(batch[i].rel, &batch[i].meta); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) meet(rel string, m *meta) error {
	switch m.kind() {
	case unix.S_IFREG:
		return w.file(rel, m)
	case unix.S_IFDIR:
		if !m.publicDir() {
			w.private.note(rel, &w.private.Dirs)
			return nil
		}
		w.dirs = append(w.dirs, rel)
	case unix.S_IFLNK:
		return w.link(rel)
	}
	return nil
}

func (w *walk) file(rel string, m *meta) error {
	if m.private() {
		w.private.note(rel, &w.private.Files)
	}
	if !m.offered() {
		return nil
	}
	w.found++
	if !w.s.see(rel, m) && !w.s.adopt(rel, m) {
		if err := w.fresh(rel, m); err != nil {
			return err
		}
	}
	if w.between == nil {
		return nil
	}
	return w.between()
}

// link follows a link to what the walk would not come by otherwise: what is hidden. It is known by
// its own path, so that a link that is switched costs nothing.
func (w *walk) link(rel string) error {
	real, m, err := resolve(w.root, rel)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errPrivate) {
			w.s.scans.hidden = true // its target may be on its way
		}
		w.s.cfg.Log.Debug("inplace: link not followed", "dir", w.s.cfg.Dir, "path", rel, "error", err)
		return nil
	}
	if !leftOutPath(real) {
		return nil
	}
	w.s.scans.hidden = true
	if m.kind() == unix.S_IFREG {
		return w.file(real, &m)
	}
	if m.kind() == unix.S_IFDIR && !w.targets[real] && len(w.targets) < maxTargets {
		if w.targets == nil {
			w.targets = make(map[string]bool)
		}
		w.targets[real] = true
		w.dirs = append(w.dirs, real)
	}
	return nil
}

// skip logs what could not be read, unless it just went away.
func (s *Set) skip(rel string, err error) {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		s.complain(rel, err)
	}
}
