// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// serviceDir is where the package's service keeps its files.
const serviceDir = "/var/lib/apt-dht"

// checkData judges the data directory and the disk.
func (d *doctor) checkData(ctx context.Context) []finding {
	const what = "data directory"
	dir := d.dataDir()
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) && d.answered(ctx) {
		return one(warn, what, dir+" does not exist: the node keeps its files elsewhere", "name its directory with --data-dir")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return []finding{makeable(what, dir)}
	}
	if err != nil {
		return one(fail, what, err.Error(), "run doctor as root, or name the directory with --data-dir")
	}
	if !info.IsDir() {
		return one(fail, what, dir+" is not a directory", "name another with --data-dir")
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return one(fail, what, fmt.Sprintf("%s: %v", dir, err), "")
	}
	return []finding{writable(what, dir, info, &disk), d.room(ctx, dir, &disk)}
}

// makeable tells whether serve can make a directory that does not exist yet.
func makeable(what, dir string) finding {
	parent := filepath.Dir(dir)
	info, err := os.Stat(parent)
	for errors.Is(err, fs.ErrNotExist) && parent != filepath.Dir(parent) {
		parent = filepath.Dir(parent)
		info, err = os.Stat(parent)
	}
	var disk unix.Statfs_t
	if err == nil {
		err = unix.Statfs(parent, &disk)
	}
	const toDo = "make it for the user that runs the node, or name another with --data-dir"
	if err != nil {
		return finding{fail, what, fmt.Sprintf("%s cannot be made: %v", dir, err), toDo}
	}
	if f := writable(what, parent, info, &disk); f.Grade == fail {
		return finding{fail, what, dir + " cannot be made: " + f.Found, f.ToDo}
	}
	if unix.Access(parent, unix.W_OK|unix.X_OK) != nil {
		return finding{fail, what, fmt.Sprintf("%s does not exist, and this user may not make it in %s", dir, parent), toDo}
	}
	return finding{warn, what, dir + " does not exist yet", "serve makes it when it starts"}
}

// dataDir is the directory to look at: that of the service where this user has
// none and has named none.
func (d *doctor) dataDir() string {
	if d.cfg.DataDir != defaultDataDir() {
		return d.cfg.DataDir
	}
	if _, err := os.Stat(d.cfg.DataDir); err == nil {
		return d.cfg.DataDir
	}
	if _, err := os.Stat(serviceDir); err == nil {
		return serviceDir
	}
	return d.cfg.DataDir
}

// writable tells whether the node can write there, as far as this user can know.
func writable(what, dir string, info fs.FileInfo, disk *unix.Statfs_t) finding {
	owner, _ := info.Sys().(*syscall.Stat_t)
	switch {
	case disk.Flags&unix.ST_RDONLY != 0:
		return finding{fail, what, dir + " is on a file system that is read-only", "see why (dmesg), or name another directory with --data-dir"}
	case owner != nil && info.Mode().Perm()&0o200 == 0:
		return finding{fail, what, fmt.Sprintf("%s may not be written to by its owner, %s", dir, userName(owner.Uid)), "chmod u+w " + dir}
	case owner != nil && int(owner.Uid) != os.Geteuid():
		return finding{good, what, fmt.Sprintf("%s belongs to %s, who may write there", dir, userName(owner.Uid)), ""}
	case unix.Access(dir, unix.W_OK|unix.X_OK) != nil:
		return finding{fail, what, dir + " cannot be written to", "see its rights, or name another with --data-dir"}
	}
	return finding{good, what, dir + " can be written to", ""}
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}

const (
	// usualQuota and usualFloor are the store's defaults (store.Config), or less on
	// a small disk: a tenth and a fiftieth of it.
	usualQuota = 20 << 30
	usualFloor = 1 << 30
)

// room compares the free disk with what the store may take.
func (d *doctor) room(ctx context.Context, dir string, disk *unix.Statfs_t) finding {
	const what = "disk"
	size := int64(disk.Blocks) * disk.Frsize // not Bsize, which may be more
	free := int64(disk.Bavail) * disk.Frsize
	quota, used := d.cfg.Quota, int64(0)
	if quota == 0 {
		quota = min(usualQuota, size/10)
	}
	if d.answered(ctx) {
		quota, used = d.node.Store.Quota, d.node.Store.Bytes
	}
	floor := min(usualFloor, size/50)
	found := fmt.Sprintf("%s free at %s; the store has %s and may have %s", humanBytes(free), dir, humanBytes(used), humanBytes(quota))
	switch {
	case free <= floor:
		return finding{fail, what, found, fmt.Sprintf("make room: below %s nothing is stored", humanBytes(floor))}
	case free-floor < quota-used:
		return finding{warn, what, found, "it cannot grow so far: make room, or set a smaller --quota"}
	}
	return finding{good, what, found, ""}
}
