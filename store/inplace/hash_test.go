// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace{rate: 1000}
		start := time.Now()
		for range 100 {
			check(t, p.wait(t.Context(), 50))
		}
		if took := time.Since(start); took < 5*time.Second-minSleep || took > 5*time.Second {
			t.Errorf("5000 bytes at 1000 a second took %v", took)
		}
		time.Sleep(time.Hour)
		start = time.Now()
		check(t, p.wait(t.Context(), 1000))
		if took := time.Since(start); took != time.Second {
			t.Errorf("after an hour of rest: %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.wait(ctx, 1<<40); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait: %v", err)
		}
	})
}

// TestRested has clocks that are wrong or jump.
func TestRested(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		ago  time.Duration
		want bool
	}{
		{0, false}, {4 * time.Second, false}, {5 * time.Second, true}, {1000 * time.Hour, true},
		{-time.Second, false}, {-time.Hour, true}, {now.Sub(time.Unix(0, 0)), true},
	} {
		m := &meta{stamp: stamp{ctime: now.Add(-c.ago).UnixNano()}}
		if got := rested(m, now, defaultRest); got != c.want {
			t.Errorf("changed %v ago: %v", c.ago, got)
		}
	}
}

func TestGentleReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	data := random(100_000)
	check(t, os.WriteFile(path, data, 0o644))
	f := must(os.Open(path))
	defer f.Close()
	for _, plain := range []bool{false, true} {
		r := gentleReader{f: f, plain: plain}
		got := make([]byte, 60_000)
		n, err := r.readAt(got, 30_000)
		if n != len(got) || err != nil || string(got) != string(data[30_000:90_000]) {
			t.Errorf("plain %v: %d, %v", plain, n, err)
		}
		if n, err := r.readAt(got, 50_000); n != 50_000 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("plain %v: beyond the end: %d, %v", plain, n, err)
		}
	}
	dir := must(os.Open(t.TempDir()))
	defer dir.Close()
	r := gentleReader{f: dir}
	if _, err := r.readAt(make([]byte, 1), 0); !errors.Is(err, unix.EISDIR) {
		t.Errorf("reading a directory: %v", err)
	}
}

func TestRemote(t *testing.T) {
	for magic, want := range map[uint32]bool{
		unix.NFS_SUPER_MAGIC: true, unix.CIFS_SUPER_MAGIC: true, unix.FUSE_SUPER_MAGIC: true,
		unix.EXT4_SUPER_MAGIC: false, unix.BTRFS_SUPER_MAGIC: false, unix.TMPFS_MAGIC: false,
	} {
		if remote(magic) != want {
			t.Errorf("remote(%#x) is not %v", magic, want)
		}
	}
}

// TestNextScan has directories that inotify cannot watch.
func TestNextScan(t *testing.T) {
	b := newBench(t)
	s := must(Open(b.cfg))
	defer s.Close()
	if got := s.nextScan(); got != rescanUnwatched || b.log.count("does not tell of every change") != 1 {
		t.Errorf("without inotify: %v", got)
	}
	s.watch = must(newWatcher(s.box))
	defer s.watch.close()
	s.watch.begin()
	if got := s.nextScan(); got != rescanWatched {
		t.Errorf("with inotify: %v", got)
	}
	for i := range int32(maxWatches) {
		s.watch.dirs[-i] = watched{scan: s.watch.scan}
	}
	s.watch.add(must(os.Open(b.dir)), "")
	if got := s.nextScan(); got != rescanUnwatched {
		t.Errorf("with too many directories: %v", got)
	}
	s.cfg.Rescan = time.Minute
	if got := s.nextScan(); got != time.Minute || b.log.count("does not tell of every change") != 1 {
		t.Errorf("as configured: %v", got)
	}
}
