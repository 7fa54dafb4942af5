// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// flushInterval bounds what kill -9 forgets: last uses and verifications, no bytes.
	flushInterval = 30 * time.Second
	// sweepInterval is for what changes over days.
	sweepInterval = time.Hour
)

// Run does what need not be done while somebody waits: writes last uses to the database, verifies
// large blobs that were given out long after they were verified last, and evicts. It returns nil when
// ctx has ended.
func (s *Store) Run(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() error { s.scrubLoop(ctx); return nil })
	group.Go(func() error { s.tidyLoop(ctx); return nil })
	return group.Wait()
}

func (s *Store) tidyLoop(ctx context.Context) {
	flush := time.NewTicker(flushInterval)
	defer flush.Stop()
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-flush.C:
			s.tidy()
		case <-sweep.C:
			s.sweep()
		}
	}
}

// tidy opens the database if there was no room before, brings it up to date, and keeps quota and
// floor.
func (s *Store) tidy() {
	s.rows.reopen()
	if err := s.flush(); err != nil {
		s.log.Debug("store: not all of what is known is on disk", "error", err)
	}
	s.evictForQuota()
	free, err := s.free()
	if missing := s.cfg.FreeFloor - free; err == nil && missing > 0 {
		s.evictForDisk(missing)
	}
}

func (s *Store) sweep() {
	s.evictMu.Lock()
	s.prunePartials()
	s.evictMu.Unlock()
	if err := s.sweepURLs(); err != nil {
		s.log.Debug("store: sweep URL records", "error", err)
	}
}
