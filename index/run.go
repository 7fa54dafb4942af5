// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"
)

const (
	// settleTime lets apt finish what it writes: an update renames all its lists within a second or two.
	settleTime = 2 * time.Second

	// pollTime is how often the lists are looked at where the kernel does not tell of changes.
	pollTime = time.Minute

	// saveTime bounds what a crash forgets of who uses what.
	saveTime = time.Minute

	tidyTime = 10 * time.Minute
)

// Run reads apt's lists, at once and when they change, and drops what nobody needs, until ctx ends. It
// returns nil: whatever fails is logged, and the index works without.
func (x *Index) Run(ctx context.Context) error {
	var g errgroup.Group
	if x.cfg.ListsDir != "" {
		g.Go(func() error { x.followLists(ctx); return nil })
	}
	g.Go(func() error { x.keepTidy(ctx); return nil })
	return g.Wait()
}

func (x *Index) keepTidy(ctx context.Context) {
	save, tidy := time.NewTicker(saveTime), time.NewTicker(tidyTime)
	defer save.Stop()
	defer tidy.Stop()
	for {
		select {
		case <-ctx.Done():
			x.saveChanges()
			return
		case <-save.C:
			x.saveChanges()
		case <-tidy.C:
			x.tidy()
		}
	}
}

func (x *Index) saveChanges() {
	x.disk.Lock()
	defer x.disk.Unlock()
	x.mu.Lock()
	dirty := x.dirty
	x.mu.Unlock()
	if dirty {
		x.save()
	}
}

// followLists loads apt's lists whenever they have changed.
func (x *Index) followLists(ctx context.Context) {
	missing := false
	for ctx.Err() == nil {
		watcher := x.watchLists()
		err := x.loadLists(ctx)
		if err != nil && !missing {
			x.log.Info("apt's lists cannot be read: hashes are known for what passes through only", "error", err)
		}
		missing = err != nil
		if watcher == nil {
			wait(ctx, pollTime)
			continue
		}
		x.followEvents(ctx, watcher)
		watcher.Close()
		wait(ctx, settleTime)
	}
}

// watchLists returns nil where the directory cannot be watched.
func (x *Index) watchLists() *fsnotify.Watcher {
	if _, err := os.Stat(x.cfg.ListsDir); err != nil {
		return nil
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		x.log.Warn("apt's lists are polled: they cannot be watched", "error", err)
		return nil
	}
	if err := watcher.Add(x.cfg.ListsDir); err != nil {
		x.log.Warn("apt's lists are polled: they cannot be watched", "error", err)
		watcher.Close()
		return nil
	}
	return watcher
}

// followEvents loads the lists after changes, until the directory itself goes or events were lost.
func (x *Index) followEvents(ctx context.Context, watcher *fsnotify.Watcher) {
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-watcher.Events:
			if !ok || e.Name == filepath.Clean(x.cfg.ListsDir) && e.Op.Has(fsnotify.Remove|fsnotify.Rename) {
				return
			}
			if settled == nil && !e.Op.Has(fsnotify.Chmod) {
				settled = time.After(settleTime)
			}
		case <-watcher.Errors:
			return
		case <-settled:
			settled = nil
			if x.loadLists(ctx) != nil {
				return
			}
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
