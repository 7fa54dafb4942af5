// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"apt-dht/store/inplace"
)

const (
	// reportEvery is how often it is looked at what there is to tell.
	reportEvery = 2 * time.Second

	// hashingEvery is how often it is told how far the hashing is, and givenEvery
	// what has been given, if anything.
	hashingEvery = time.Minute
	givenEvery   = 5 * time.Minute

	// emptyAfter is how often nothing is found before that is told: new files are
	// left alone for a while.
	emptyAfter = 10

	// mostAnnounced is how many files the DHT announces (dht.Node.Offer).
	mostAnnounced = 32768
)

// reported is what the operator has been told, and when.
type reported struct {
	hashing   time.Time     // how far the hashing is
	files     inplace.Stats // when all were hashed
	announced int           // when all were announced
	empty     int           // how often in a row there was nothing
	nothing   bool          // that there is nothing
	private   bool          // that something is left out
	many      bool          // there are more files than are announced
	reach     string
	router    string
	given     int64 // bytes
	givenAt   time.Time
}

// report tells the operator in the log how it goes, until ctx ends.
func (s *sharer) report(ctx context.Context) error {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	told := reported{givenAt: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		s.reportFiles(&told)
		s.reportAnnounced(&told)
		s.reportReach(&told)
		s.reportGiven(&told)
	}
}

func (s *sharer) reportFiles(told *reported) {
	st := s.set.Stats()
	notify(s.log, statusLine(s.line(st)))
	s.tellPrivate(told, st)
	s.tellFiles(told, st)
}

// tellPrivate tells of what is left out when it comes to that.
func (s *sharer) tellPrivate(told *reported, st inplace.Stats) {
	private := st.Private
	some := private.First != ""
	if some && !told.private {
		s.log.Warn("not given, because not every user of this machine may read them",
			"files", private.Files, "directories", private.Dirs, "first", filepath.Join(s.cfg.Dir, private.First))
	}
	told.private = some
}

func (s *sharer) tellFiles(told *reported, st inplace.Stats) {
	switch {
	case !st.Scanned || st.Waiting > 0:
		if time.Since(told.hashing) >= hashingEvery {
			told.hashing = time.Now()
			s.log.Info("hashing", "files_done", st.Files, "files_left", st.Waiting, "bytes_left", st.WaitingBytes)
		}
	case st.Files == 0:
		s.tellNothing(told, st)
	default:
		told.empty, told.nothing = 0, false
		st.Private = inplace.Private{}
		if st != told.files {
			told.files = st
			s.log.Info("all files are hashed, and offered", "files", st.Files, "blobs", st.Blobs, "bytes", st.Bytes)
		}
	}
}

// tellNothing tells that there is nothing: at once where the scan saw it, else when
// it stays so.
func (s *sharer) tellNothing(told *reported, st inplace.Stats) {
	told.empty++
	if told.nothing || !st.Empty && told.empty < emptyAfter {
		return
	}
	told.nothing = true
	advice := "is it the right directory?"
	if st.Private.First != "" {
		advice = "chmod -R o+rX " + s.cfg.Dir
	}
	s.log.Warn("there is no file to give: only those that every user of this machine may read are given", "dir", s.cfg.Dir, "advice", advice)
}

// reportAnnounced tells how far other nodes know of the files.
func (s *sharer) reportAnnounced(told *reported) {
	st := s.internet.dht.Stats()
	if st.Announced == st.Offered && st.Announced > 0 && st.Announced != told.announced {
		told.announced = st.Announced
		s.log.Info("all files are announced", "announced", st.Announced)
	}
	if s.set.Stats().Blobs > mostAnnounced && !told.many {
		told.many = true
		s.log.Info("the newest files are announced; the others are given to nodes that ask for them", "most", mostAnnounced)
	}
}

// line is the state in a few words.
func (s *sharer) line(st inplace.Stats) string {
	w := s.internet.wan.Status()
	return fmt.Sprintf("%d files, %s; %d still to be hashed; %s given", st.Blobs, humanBytes(st.Bytes), st.Waiting, humanBytes(w.BytesTo))
}

func (s *sharer) reportReach(told *reported) {
	if reach := s.internet.wan.Status().Reach; reach != told.reach {
		told.reach = reach
		s.log.Info("from outside", "reach", reach)
	}
	if router := s.internet.routerStatus(); router != told.router {
		told.router = router
		s.log.Info("the router", "status", router)
	}
}

func (s *sharer) reportGiven(told *reported) {
	w := s.internet.wan.Status()
	if w.BytesTo == told.given || time.Since(told.givenAt) < givenEvery {
		return
	}
	s.log.Info("given to other nodes", "bytes", w.BytesTo-told.given, "bytes_in_all", w.BytesTo, "uploads_now", w.Uploads,
		"announced", s.internet.dht.Stats().Announced)
	told.given, told.givenAt = w.BytesTo, time.Now()
}

// summarise is the last word.
func (s *sharer) summarise() {
	st, w := s.set.Stats(), s.internet.wan.Status()
	s.log.Info("stopped sharing", "dir", s.cfg.Dir, "files", st.Files, "bytes", st.Bytes, "not_hashed", st.Waiting, "bytes_given", w.BytesTo)
}
