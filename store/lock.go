// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockDir takes the directory for this process until the file is closed or the process dies.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("store: cannot lock: %w (is %s writable for this user?)", err, dir)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close()
		return nil, fmt.Errorf("%w: %s, by process %s: stop that one or choose another directory", ErrLocked, dir, holder(f))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("store: lock %s: %w", path, err)
	}
	// The pid is for people; on a full disk it may stay empty.
	if f.Truncate(0) == nil {
		f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

func holder(f *os.File) string {
	b, _ := io.ReadAll(io.LimitReader(f, 32))
	if pid := strings.TrimSpace(string(b)); pid != "" {
		return pid
	}
	return "(unknown)"
}

// Check looks, without changing anything, whether a directory is a store that has been opened
// before. The error is ErrNoStore if it is not.
func Check(dir string) error {
	for _, part := range []struct {
		name, kind string
		mode       fs.FileMode
	}{{markFile, "file", 0}, {"blobs", "directory", fs.ModeDir}} {
		info, err := os.Stat(filepath.Join(dir, part.name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("store: %w", err)
		}
		if err != nil || info.Mode().Type() != part.mode {
			return fmt.Errorf("%s %w (it has no %s %q)", dir, ErrNoStore, part.kind, part.name)
		}
	}
	return nil
}

// A stopMark is the file Dir/state. It says how the last user of the directory ended: 'running'
// until Close makes it 'closed', followed by the id of the kernel's boot.
//
// A stop is clean when Close said so and the kernel has not been started anew since: without a
// reboot no written page can have been lost. With one, the pages that were dirty at the end got to
// the disk only if the machine was shut down in order, which nobody here can know.
type stopMark struct{ path string }

const markFile = "state"

const bootIDFile = "/proc/sys/kernel/random/boot_id"

func (m stopMark) text(state string) []byte {
	boot, _ := os.ReadFile(bootIDFile)
	return fmt.Appendf(nil, "%-8s%s\n", state, strings.TrimSpace(string(boot)))
}

func (m stopMark) clean() bool {
	b, err := os.ReadFile(m.path)
	return err == nil && string(b) == string(m.text("closed"))
}

// set writes in place: all texts have the same length, so no new block is needed on a full disk.
func (m stopMark) set(state string) error {
	f, err := os.OpenFile(m.path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	text := m.text(state)
	if _, err := f.WriteAt(text, 0); err != nil {
		return fmt.Errorf("store: %w", noSpace(err))
	}
	return f.Truncate(int64(len(text)))
}
