// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// diskFree returns how many bytes an ordinary user may still write to the disk that holds path
// (what ext4 keeps back for root is not counted). One system call, about a microsecond, so nothing
// here caches it.
func diskFree(path string) (int64, error) {
	st, err := statfs(path)
	return blockBytes(&st, st.Bavail), err
}

func diskSize(path string) (int64, error) {
	st, err := statfs(path)
	return blockBytes(&st, st.Blocks), err
}

// blockBytes: statfs counts in units of f_frsize. f_bsize is what is best to read at once, which may
// be more, as on FUSE.
func blockBytes(st *unix.Statfs_t, blocks uint64) int64 { return int64(blocks) * st.Frsize }

func statfs(path string) (unix.Statfs_t, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(path, &st)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return st, fmt.Errorf("store: free space of %s: %w", path, err)
		}
		return st, nil
	}
}

// noSpace adds ErrNoSpace to errors that say so in the kernel's words.
func noSpace(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// makeRoom makes sure that need more bytes can be written without breaking the floor of free
// space, evicting blobs where that is enough.
func (s *Store) makeRoom(need int64) error {
	if need > s.cfg.Quota {
		return fmt.Errorf("%w: %d bytes are more than the quota of %d", ErrNoSpace, need, s.cfg.Quota)
	}
	free, err := s.free()
	if err != nil {
		return err
	}
	missing := s.cfg.FreeFloor + need - free
	if missing <= 0 || s.evictForDisk(missing) {
		return nil
	}
	return fmt.Errorf("%w: %d bytes free on the disk of %s, %d wanted and %d to be left free", ErrNoSpace, free, s.cfg.Dir, need, s.cfg.FreeFloor)
}
