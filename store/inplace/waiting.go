// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"context"
	"errors"
	"os"
	"time"
)

// enqueue has a file hashed that was looked at.
func (s *Set) enqueue(rel string, m *meta) {
	if len(s.queue) >= maxNoted {
		s.scans.waiting = true
		return
	}
	s.queue = append(s.queue, rel)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Waiting++
	s.stats.WaitingBytes += m.stamp.size
}

// hashed is told that a file does not wait any more.
func (s *Set) hashed(m *meta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Waiting = max(0, s.stats.Waiting-1)
	s.stats.WaitingBytes = max(0, s.stats.WaitingBytes-m.stamp.size)
}

// hashQueue hashes the files that were looked at.
func (s *Set) hashQueue(ctx context.Context) error {
	for len(s.queue) > 0 && ctx.Err() == nil {
		rel := s.queue[0]
		s.queue = s.queue[1:]
		if err := s.hashPath(ctx, rel); err != nil {
			s.scans.waiting = true
			return err
		}
	}
	return nil
}

func (s *Set) hashPath(ctx context.Context, rel string) error {
	root, err := os.OpenRoot(s.cfg.Dir)
	if err != nil {
		return nil
	}
	defer root.Close()
	m, err := lstat(root, rel)
	if err != nil || !publicWay(root, rel) {
		return nil
	}
	w := &walk{s: s, root: root, fresh: s.hashing(ctx, root)}
	return w.file(rel, &m)
}

// hashing returns a walk's fresh.
func (s *Set) hashing(ctx context.Context, root *os.Root) func(string, *meta) error {
	return func(rel string, m *meta) error {
		defer s.hashed(m)
		return s.hashFile(ctx, root, rel, m)
	}
}

var errMoved = errors.New("inplace: another directory has taken the place of the one that is walked")

// hashWaiting hashes what a scan found.
func (s *Set) hashWaiting(ctx context.Context) error {
	if !s.scans.waiting {
		return nil
	}
	s.scans.waiting = false
	root, err := os.OpenRoot(s.cfg.Dir)
	if err != nil {
		return nil
	}
	defer root.Close()
	of := s.scans.of
	w := &walk{s: s, root: root, fresh: s.hashing(ctx, root)}
	w.between = func() error {
		s.tick(ctx)
		if s.scans.of != of {
			return errMoved
		}
		return s.hashQueue(ctx)
	}
	err = w.run(ctx, "")
	if err != nil {
		s.scans.waiting = true
	}
	if !s.scans.waiting {
		s.setWaiting(0, 0)
	}
	return err
}

// retryPause is for how long nothing is hashed after the cache could not be written: its disk is
// full most likely.
const retryPause = 10 * time.Minute

// hashAll hashes all that waits.
func (s *Set) hashAll(ctx context.Context) {
	if time.Now().Before(s.scans.retry) {
		return
	}
	err := s.hashQueue(ctx)
	if err == nil {
		err = s.hashWaiting(ctx)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, errMoved) {
		s.trouble(err)
	}
}

// trouble is told why the cache could not be written. What is still to be hashed waits.
func (s *Set) trouble(err error) {
	if time.Now().Before(s.scans.retry) {
		return
	}
	s.scans.waiting = true
	s.scans.retry = time.Now().Add(retryPause)
	s.cfg.Log.Error("inplace: what was hashed cannot be kept; trying again later",
		"dir", s.cfg.Dir, "cache", s.cfg.Cache, "error", err)
}

// hashFile hashes a file that has rested, and notes what it is.
func (s *Set) hashFile(ctx context.Context, root *os.Root, rel string, m *meta) error {
	if !rested(m, time.Now(), s.cfg.Rest) {
		s.box.note(rel)
		return nil
	}
	of := s.scans.of
	f, before, err := openFile(root, rel)
	if err != nil {
		if !errors.Is(err, errNotOffered) {
			s.skip(rel, err)
		}
		return nil
	}
	defer f.Close()
	digest, states, err := s.sum(ctx, f, before.stamp.size)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.scans.of != of {
		return errMoved
	}
	after, statErr := fstat(f)
	if statErr == nil && (before.stamp != m.stamp || after.stamp != before.stamp) {
		s.box.note(rel)
		return nil
	}
	if err := errors.Join(err, statErr); err != nil {
		s.skip(rel, err)
		return nil
	}
	return s.record(&record{path: rel, stamp: after.stamp, dev: after.dev, digest: digest}, states)
}

// rested reports whether a file was left alone for that long. Whoever writes to it sets its ctime to
// now, so one that lies far in the future is of another clock.
func rested(m *meta, now time.Time, rest time.Duration) bool {
	return now.Sub(time.Unix(0, m.stamp.ctime)).Abs() >= rest
}
