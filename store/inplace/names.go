// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A meta is what of a file's inode matters.
type meta struct {
	mode  uint32
	stamp stamp
	dev   uint64
}

func metaOf(st *unix.Stat_t, inodesStay bool) meta {
	m := meta{
		mode:  st.Mode,
		stamp: stamp{size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()},
		dev:   uint64(st.Dev), // uint32 on some
	}
	if inodesStay {
		m.stamp.ino = st.Ino
	}
	return m
}

// inodesStay reports whether a file has the same inode number for ever, on the file system of f.
// Where the kernel invents them, it may have another each time.
func inodesStay(f *os.File) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) != nil {
		return false
	}
	switch uint32(st.Type) {
	case unix.FUSE_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
		unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC:
		return false
	}
	return true
}

func (m *meta) kind() uint32 { return m.mode & unix.S_IFMT }

// offered reports whether a file may be given to anybody: what others on this machine must not read
// may be private. Empty files are nobody's need.
func (m *meta) offered() bool {
	return m.kind() == unix.S_IFREG && m.mode&0o004 != 0 && m.stamp.size > 0 && m.stamp.size <= maxSize
}

// private reports whether a file would be offered if everybody on this machine could read it.
func (m *meta) private() bool {
	readable := *m
	readable.mode |= 0o004
	return !m.offered() && readable.offered()
}

// publicDir reports whether anybody on this machine may list and enter a directory.
func (m *meta) publicDir() bool { return m.mode&0o005 == 0o005 }

// telling reports whether a stamp alone tells one file from all others of its device, past ones
// included: those that keep whole seconds, such as ISO 9660, do not.
func (s *stamp) telling() bool { return s.ino != 0 && s.ctime%1e9 != 0 }

func fstat(f *os.File) (meta, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return meta{}, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return metaOf(&st, inodesStay(f)), nil
}

// lstatIn returns what a directory has under that name.
func lstatIn(dir *os.File, inodesStay bool, name string) (meta, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return meta{}, &os.PathError{Op: "fstatat", Path: path.Join(dir.Name(), name), Err: err}
	}
	return metaOf(&st, inodesStay), nil
}

func lstat(root *os.Root, rel string) (meta, error) {
	dir, err := root.Open(path.Dir(rel))
	if err != nil {
		return meta{}, err
	}
	defer dir.Close()
	return lstatIn(dir, inodesStay(dir), path.Base(rel))
}

// unfinished are the endings of names under which programs write what will have another name: aptly,
// reprepro (.new), dpkg, wget and lftp, browsers, aria2.
var unfinished = []string{
	".tmp", ".temp", ".new", ".old", ".part", ".partial", ".filepart", ".download", ".crdownload", ".aria2",
	".dpkg-new", ".dpkg-tmp", ".lftp-pget-status", ".lock", "~",
}

// leftOut reports whether what has this name, be it a file or a directory, is none of the
// repository: hidden, as are the temporaries of rsync (.name.XXXXXX, .~tmp~) and debmirror (.temp);
// apt's partial directories; unfinished.
func leftOut(name string) bool {
	if strings.HasPrefix(name, ".") || name == "partial" || name == "lost+found" {
		return true
	}
	for _, ending := range unfinished {
		if strings.HasSuffix(name, ending) {
			return true
		}
	}
	return false
}

// leftOutPath reports whether a part of the path is left out.
func leftOutPath(rel string) bool {
	for part := range strings.SplitSeq(rel, "/") {
		if leftOut(part) {
			return true
		}
	}
	return false
}
