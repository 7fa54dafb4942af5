// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is the kernel's bound (path_resolution(7)).
const maxLinks = 40

var (
	errPrivate = errors.New("inplace: a directory on the way is not public")
	errOutside = errors.New("inplace: the link is absolute or leads out of the directory")
)

// resolve follows the symbolic link at rel, beneath root, to what is none, and returns the path of
// that without links; "" is root itself. A directory on the way that is not public is an error.
func resolve(root *os.Root, rel string) (real string, m meta, err error) {
	m.mode = unix.S_IFDIR
	todo := strings.Split(rel, "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch {
		case m.kind() != unix.S_IFDIR:
			return "", m, unix.ENOTDIR
		case part == "" || part == ".":
			continue
		case part == ".." && real == "":
			return "", m, errOutside
		case part == "..":
			real = parent(real)
			continue
		}
		target, next, err := step(root, path.Join(real, part))
		if err != nil {
			return "", m, err
		}
		if target == "" {
			real, m = path.Join(real, part), next
			continue
		}
		if links++; links > maxLinks {
			return "", m, unix.ELOOP
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return real, m, nil
}

// step returns what is at a path whose directories are none of them links, or where it leads to.
func step(root *os.Root, at string) (target string, m meta, err error) {
	if m, err = lstat(root, at); err != nil {
		return "", m, err
	}
	switch m.kind() {
	case unix.S_IFLNK:
		target, err = root.Readlink(at)
		if err == nil && (path.IsAbs(target) || target == "") {
			err = fmt.Errorf("%w: %s", errOutside, at)
		}
	case unix.S_IFDIR:
		if !m.publicDir() {
			err = errPrivate
		}
	}
	return target, m, err
}

// publicWay reports whether all directories on the way to rel are public, and none is a link.
func publicWay(root *os.Root, rel string) bool {
	for dir := parent(rel); dir != ""; dir = parent(dir) {
		m, err := lstat(root, dir)
		if err != nil || m.kind() != unix.S_IFDIR || !m.publicDir() {
			return false
		}
	}
	return true
}

func parent(rel string) string {
	if dir := path.Dir(rel); dir != "." {
		return dir
	}
	return ""
}
