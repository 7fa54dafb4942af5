// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"cmp"
	"context"
	"slices"
	"time"
)

const (
	// unusedAge: what no index names any more may still be wanted by clients that have not updated
	// today (apt updates daily).
	unusedAge = 24 * time.Hour
	// coolAge protects what is being used from a disk that others fill: emptying the cache for them
	// would cost its users everything and help for a moment only. Beyond it, Create says ErrNoSpace.
	coolAge = time.Hour
	// fullPause: looking for victims takes some 20 ms; on a full disk every Create would.
	fullPause = 5 * time.Second
	// slackShare: eviction goes this share of the quota below it, so that not every Commit evicts.
	slackShare = 32
)

// Ranks in which blobs go, least recently used first within each.
const (
	rankUnnamed = iota // no current index names it, and nobody used it for unusedAge
	rankOrdinary
	rankKept // index files that are in use, and current root files
)

type victim struct {
	digest Digest
	size   int64
	used   int64
	rank   int
}

// victims lists all blobs in the order in which they should go.
func (s *Store) victims(now time.Time) []victim {
	current, known := s.current()
	cold := now.Add(-unusedAge).UnixNano()
	s.table.mu.RLock()
	out := make([]victim, 0, len(s.table.entries))
	for d, e := range s.table.entries {
		v := victim{digest: d, size: e.size, used: e.used, rank: rankOrdinary}
		switch _, named := current[d]; {
		case known && !named && e.used < cold:
			v.rank = rankUnnamed
		case e.flags.has(flagKeep) && (named || !known):
			v.rank = rankKept
		}
		out = append(out, v)
	}
	s.table.mu.RUnlock()
	slices.SortFunc(out, func(a, b victim) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.used, b.used), slices.Compare(a.digest[:], b.digest[:]))
	})
	return out
}

// current returns which of the blobs here are named by a current index or are a root file's current
// bytes. It is not known if no index names anything: then none has been loaded.
func (s *Store) current() (blobs map[Digest]struct{}, known bool) {
	blobs = make(map[Digest]struct{})
	if s.cfg.InUse == nil {
		return blobs, false
	}
	for d := range s.cfg.InUse {
		known = true
		if _, ok := s.table.get(d); ok {
			blobs[d] = struct{}{}
		}
	}
	for _, rec := range s.Roots {
		blobs[rec.Digest] = struct{}{}
	}
	return blobs, known
}

// evictForQuota brings the store some way below its quota if it is above.
func (s *Store) evictForQuota() {
	if _, bytes := s.table.usage(); bytes <= s.cfg.Quota || !s.evictMu.TryLock() {
		return // below, or somebody is at it
	}
	defer s.endEviction()
	s.prunePartials()
	goal := s.cfg.Quota - s.cfg.Quota/slackShare
	n, freed := 0, int64(0)
	for _, v := range s.victims(time.Now()) {
		if _, bytes := s.table.usage(); bytes <= goal {
			break
		}
		n, freed = n+1, freed+s.evict(v)
	}
	s.log.Info("store: quota reached, evicted what was used least recently", "blobs", n, "bytes", freed)
}

// endEviction gives evictMu free, and then tells what has gone.
func (s *Store) endEviction() {
	s.evictMu.Unlock()
	s.tellGone()
}

func (s *Store) evict(v victim) (freed int64) {
	size, err := s.remove(v.digest)
	if err != nil {
		s.log.Warn("store: evict", "digest", hexOf(v.digest), "error", err)
	}
	return size
}

// evictForDisk frees missing bytes of the disk, and reports whether it could. If it cannot, it
// removes nothing.
func (s *Store) evictForDisk(missing int64) bool {
	s.evictMu.Lock()
	defer s.endEviction()
	now := time.Now()
	if now.Before(s.fullUntil) {
		return false
	}
	cool := now.Add(-coolAge).UnixNano()
	victims := s.victims(now)
	victims = slices.DeleteFunc(victims, func(v victim) bool { return v.rank == rankKept || v.used >= cool })
	enough, sum := 0, int64(0)
	for enough < len(victims) && sum < missing {
		sum += victims[enough].size
		enough++
	}
	if sum < missing {
		s.fullUntil = now.Add(fullPause)
		return false
	}
	freed := int64(0)
	for _, v := range victims[:enough] {
		freed += s.evict(v)
	}
	s.log.Info("store: disk is nearly full, evicted what was used least recently", "blobs", enough, "bytes", freed)
	return freed >= missing
}

// GC removes what can go: blobs that no current index names and that were unused for a day, old
// suspended files, records of what is gone; and then what is above the quota. It returns the number
// of files removed and their bytes.
func (s *Store) GC(ctx context.Context) (removed int, freed int64, err error) {
	s.evictMu.Lock()
	defer s.endEviction()
	removed, freed = s.prunePartials()
	goal := s.cfg.Quota
	for _, v := range s.victims(time.Now()) {
		if _, bytes := s.table.usage(); v.rank != rankUnnamed && bytes <= goal {
			break
		}
		if ctx.Err() != nil {
			return removed, freed, context.Cause(ctx)
		}
		size, err := s.remove(v.digest)
		if err != nil {
			return removed, freed, err
		}
		removed, freed = removed+1, freed+size
	}
	return removed, freed, s.sweepURLs()
}
