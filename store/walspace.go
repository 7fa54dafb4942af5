// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// badger writes its files through mmap. A write to a hole of such a file on a full disk, and on
// tmpfs even a read, ends the process with SIGBUS. Three things keep that from happening:
//
//   - Its log of writes (NNNNN.mem, 4 MiB of holes when badger makes it) gets its blocks here before
//     badger writes to it. badger makes a log with O_CREATE but without O_EXCL and takes a file of
//     size 0 for a new one, so the next log is put there beforehand: size 0, with blocks beyond the
//     end (FALLOC_FL_KEEP_SIZE), which badger's own truncate then brings within.
//   - Tables (NNNNNN.sst) are made O_EXCL, so nothing can be prepared. One is made when a log is full:
//     a write that may fill it is let through only while rotateReserve is free. badger is done some
//     10 ms later, in which time others would have to take all of that space. Compaction makes more
//     tables and takes some 100 ms, so it waits for compactReserve (rows.compact).
//   - Below reserve nothing is written at all, so a write finds space where preallocating is not to
//     be had (NFS) or worth little (copy on write: btrfs, ZFS).
//
// What cannot be written waits in memory (rows.go).
const (
	reserve        = 64 << 20
	rotateReserve  = 2 * reserve
	compactReserve = 4 * reserve

	memExt = ".mem"
	// memFileSize is the size badger gives a log.
	memFileSize = 2 * memTableSize
)

type walSpace struct {
	dir  string
	next string // the prepared log; empty: there is none
	used int64  // at least the bytes used of the current log
}

// entryCost is an upper bound of what a row takes in badger's log and in its skip list (a node is
// 104 bytes).
func entryCost(r row) int64 { return int64(len(r.key)+len(r.value)) + 160 }

// needs returns how much must be free for badger to write cost bytes more.
func (w *walSpace) needs(cost int64) int64 {
	if w.used+cost >= memTableSize {
		return rotateReserve
	}
	return reserve
}

// wrote is told of each write. It reports whether badger went over to the prepared log.
func (w *walSpace) wrote(cost int64) (rotated bool) {
	w.used += cost
	if w.next == "" {
		w.prepare() // failed before; used stays an upper bound
		return false
	}
	if st, err := os.Lstat(w.next); err == nil && st.Size() == 0 {
		return false
	}
	w.used = cost
	w.prepare()
	return true
}

// fill gives blocks to all that badger has just opened, and prepares the next log.
func (w *walSpace) fill() error {
	files, err := os.ReadDir(w.dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, f := range files {
		if name := f.Name(); strings.HasSuffix(name, memExt) || strings.HasSuffix(name, ".vlog") || name == "DISCARD" {
			if err := fillFile(filepath.Join(w.dir, name)); err != nil {
				return err
			}
		}
	}
	w.used = 0
	return w.prepare()
}

func fillFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if os.IsNotExist(err) {
		return nil // an old log that has been flushed meanwhile
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return err
	}
	return allocate(f, 0, st.Size())
}

// prepare puts the log that badger will open next in its place. Without it badger makes one with
// holes, and reserve alone guards it.
func (w *walSpace) prepare() error {
	w.next = ""
	id, err := lastLog(w.dir)
	if err != nil {
		return err
	}
	path := filepath.Join(w.dir, fmt.Sprintf("%05d%s", id+1, memExt))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	if err := allocate(f, unix.FALLOC_FL_KEEP_SIZE, memFileSize); err != nil {
		os.Remove(path)
		return err
	}
	w.next = path
	return nil
}

func lastLog(dir string) (last int, err error) {
	logs, err := filepath.Glob(filepath.Join(dir, "*"+memExt))
	for _, path := range logs {
		if id, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), memExt)); err == nil {
			last = max(last, id)
		}
	}
	return last, err
}

func allocate(f *os.File, mode uint32, size int64) error {
	err := unix.Fallocate(int(f.Fd()), mode, 0, size)
	if err != nil && err != unix.EOPNOTSUPP {
		return fmt.Errorf("store: allocate %s: %w", f.Name(), noSpace(err))
	}
	return nil
}
