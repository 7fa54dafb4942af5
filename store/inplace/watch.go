// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"sync"

	"golang.org/x/sys/unix"
)

// A watcher has the kernel tell of changes, with inotify(7). A general library would not do here:
// a watch is set on the very directory that has been opened beneath Dir, not on a path; a directory
// that was moved is known by its new path once it has been scanned again; and what a mirror's update
// writes costs one event a file rather than one a write.
type watcher struct {
	f   *os.File
	fd  int
	box *inbox

	mu      sync.Mutex // guards following
	dirs    map[int32]watched
	scan    uint32
	partial bool // not all directories could be watched
	hidden  bool // hidden directories matter, because links lead to some
}

type watched struct {
	path string // relative to Dir; "" is Dir itself
	scan uint32 // the scan that found it last
}

const (
	watchMask = unix.IN_CREATE | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_DELETE | unix.IN_MOVE |
		unix.IN_MOVE_SELF | unix.IN_ONLYDIR | unix.IN_EXCL_UNLINK

	// maxWatches keeps 100 bytes each here, and about a kilobyte in the kernel.
	maxWatches = 128 << 10
)

func newWatcher(box *inbox) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inplace: inotify: %w", err)
	}
	return &watcher{f: os.NewFile(uintptr(fd), "inotify"), fd: fd, box: box, dirs: make(map[int32]watched)}, nil
}

// add watches an open directory. Its changes are told from now on, so it is read afterwards. It
// reports whether they have been told before, under the same path.
func (w *watcher) add(dir *os.File, rel string) (before bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.dirs) >= maxWatches {
		w.partial = true
		return false
	}
	wd, err := unix.InotifyAddWatch(w.fd, fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), watchMask)
	if err != nil {
		w.partial = true // most likely ENOSPC: fs.inotify.max_user_watches
		return false
	}
	was, known := w.dirs[int32(wd)]
	w.dirs[int32(wd)] = watched{path: rel, scan: w.scan}
	return known && was.path == rel
}

// begin is told that a scan of all directories begins, end that it is through. end ends the watches
// of what was not found, and reports whether there is a directory without a watch. hidden is said of
// links that lead to hidden directories.
func (w *watcher) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scan++
	w.partial = false
}

func (w *watcher) end(hidden bool) (partial bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hidden = hidden
	for wd, dir := range w.dirs {
		if dir.scan != w.scan {
			unix.InotifyRmWatch(w.fd, uint32(wd))
			delete(w.dirs, wd)
		}
	}
	return w.partial
}

// run passes on what the kernel tells until close.
func (w *watcher) run() {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.f.Read(buf)
		if err != nil {
			return
		}
		w.events(buf[:n])
	}
}

func (w *watcher) close() { w.f.Close() }

// events reads struct inotify_event: wd, mask, cookie and len, of 4 bytes each in the machine's order, then
// the name with NULs up to len.
func (w *watcher) events(b []byte) {
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		if end > len(b) {
			return
		}
		w.event(wd, mask, string(bytes.TrimRight(b[unix.SizeofInotifyEvent:end], "\x00")))
		b = b[end:]
	}
}

func (w *watcher) event(wd int32, mask uint32, name string) {
	w.mu.Lock()
	dir, known := w.dirs[wd]
	if mask&unix.IN_IGNORED != 0 {
		delete(w.dirs, wd)
	}
	hidden := w.hidden
	w.mu.Unlock()
	const away = unix.IN_Q_OVERFLOW | unix.IN_UNMOUNT | unix.IN_MOVE_SELF
	switch {
	case mask&away != 0:
		w.box.scan()
	case !known || name == "":
	case leftOut(name):
		if hidden && mask&unix.IN_ISDIR != 0 {
			w.box.scan()
		}
	case mask&unix.IN_ISDIR != 0 && mask&unix.IN_DELETE != 0: // it was empty
	case mask&unix.IN_ISDIR != 0 && mask&unix.IN_MOVED_FROM != 0:
		w.box.scan()
	default:
		w.box.note(path.Join(dir.path, name))
	}
}
