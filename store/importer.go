// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Import takes in the package files (*.deb, *.ddeb, *.udeb) that lie in dir, not those in its
// subdirectories: apt's archives, where partial/ is unfinished. It hashes each, and takes those that
// are not here yet and that want says yes to. The bytes are shared with the original where the file
// system can (reflink, else a hard link if only root or this user could change it), else copied. The
// originals stay as they are. Modified is the file's mtime, which apt sets to Last-Modified.
//
// Files that cannot be read are logged and skipped. What was hashed once is not hashed again as long
// as it is unwanted or here. Import returns how many blobs came in; it stops at ErrNoSpace and when
// ctx ends.
func (s *Store) Import(ctx context.Context, dir string, want func(d Digest, size int64) bool) (n int, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("store: import: %w", err)
	}
	im := importer{s: s, dir: dir, want: want, seen: make(map[string]bool)}
	for _, f := range files {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		if !f.Type().IsRegular() || !isPackage(f.Name()) {
			continue
		}
		path := filepath.Join(dir, f.Name())
		took, err := im.file(ctx, path)
		if errors.Is(err, ErrNoSpace) || errors.Is(err, ErrClosed) || ctx.Err() != nil {
			return n, err
		}
		if err != nil {
			s.log.Warn("store: import: skipping a file", "path", path, "error", err)
		}
		if took {
			n++
		}
	}
	im.forgetUnseen()
	return n, nil
}

func isPackage(name string) bool {
	switch filepath.Ext(name) {
	case ".deb", ".ddeb", ".udeb":
		return true
	}
	return false
}

type importer struct {
	s    *Store
	dir  string
	want func(Digest, int64) bool
	seen map[string]bool // keys of the files found
}

// file imports one file if it is wanted.
func (im *importer) file(ctx context.Context, path string) (took bool, err error) {
	f, st, err := openRegular(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	key := im.key(st.Ino)
	im.seen[string(key)] = true
	if d, ok := im.hashedBefore(key, st); ok && !im.needs(d, st.Size) {
		return false, nil
	}
	c := newChain()
	if _, err := io.Copy(c, contextReader{ctx, f}); err != nil {
		return false, fmt.Errorf("store: import: %w", err)
	}
	if err := im.s.rows.write([]row{{key: key, value: encodeImport(st, c.sum())}}); err != nil {
		im.s.log.Debug("store: import: not remembered", "path", path, "error", err)
	}
	if !im.needs(c.sum(), c.n) {
		return false, nil
	}
	err = im.take(f, st, c)
	return err == nil, err
}

func (im *importer) needs(d Digest, size int64) bool {
	_, here := im.s.table.get(d)
	return !here && im.want(d, size)
}

// take publishes the file that has been hashed by c.
func (im *importer) take(f *os.File, st unix.Stat_t, c *chain) error {
	if err := im.s.makeRoom(c.n); err != nil {
		return err
	}
	temp, err := im.s.duplicate(f, st, c.sum())
	if err != nil {
		return fmt.Errorf("store: import: %w", noSpace(err))
	}
	defer temp.Close()
	if err := unchanged(f, st); err != nil {
		os.Remove(temp.Name())
		return err
	}
	m := Meta{Size: c.n, Modified: time.Unix(st.Mtim.Sec, 0), ContentType: packageType}
	err = im.s.publish(candidate{file: temp, path: temp.Name(), known: true, want: c.sum(), size: st.Size, sum: c.sum(), n: c.n, meta: m})
	if err != nil {
		return err
	}
	im.s.record(c.sum(), m, c.inner())
	return nil
}

// packageType is registered with IANA; Debian's mirrors use it or application/x-debian-package.
const packageType = "application/vnd.debian.binary-package"

// unchanged makes sure that what was duplicated is what was hashed. (A hard link changes ctime, so it
// cannot be compared.)
func unchanged(f *os.File, before unix.Stat_t) error {
	now, err := fstat(f)
	if err != nil {
		return err
	}
	if now.Size != before.Size || now.Mtim != before.Mtim {
		return fmt.Errorf("store: import: %s changed while it was read", f.Name())
	}
	return nil
}

// duplicate makes a temporary file with the bytes of f, in the cheapest way there is.
func (s *Store) duplicate(f *os.File, st unix.Stat_t, sum Digest) (*os.File, error) {
	path := s.tempPath()
	if temp, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode); err != nil {
		return nil, err
	} else if unix.IoctlFileClone(int(temp.Fd()), int(f.Fd())) == nil {
		return temp, nil
	} else if linked := s.link(f, st, temp); linked != nil {
		return linked, nil
	} else if err := copyFile(temp, f, sum); err != nil {
		temp.Close()
		os.Remove(path)
		return nil, err
	} else {
		return temp, nil
	}
}

// link puts a hard link to f in temp's place if nobody but root and this user can write to the file,
// everybody can read it, the kernel allows it, and publishing would not change the time that both
// names then share. It returns nil otherwise.
func (s *Store) link(f *os.File, st unix.Stat_t, temp *os.File) *os.File {
	ours := st.Uid == 0 || int(st.Uid) == os.Geteuid()
	if !ours || st.Mode&0o066 != 0o044 || st.Mtim.Sec < 0 {
		return nil
	}
	path := s.tempPath()
	err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return nil
	}
	linked, err := os.Open(path)
	if err != nil {
		os.Remove(path)
		return nil
	}
	temp.Close()
	os.Remove(temp.Name())
	return linked
}

// copyFile copies the bytes that hash to sum, and fails if there are others meanwhile.
func copyFile(to, from *os.File, sum Digest) error {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, h), from)
	if err != nil {
		return err
	}
	if got := Digest(h.Sum(nil)); got != sum {
		return &MismatchError{Want: sum, Got: got, WantSize: -1, GotSize: n}
	}
	return nil
}

// key is that of the row that remembers a file: the directory's and the file's number.
func (im *importer) key(inode uint64) []byte {
	return binary.BigEndian.AppendUint64(im.prefix(), inode)
}

func (im *importer) prefix() []byte {
	h := fnv.New64a()
	h.Write([]byte(im.dir))
	return h.Sum([]byte{kindImport})
}

// An import row: 8 bytes of size, 8 of mtime in ns, 32 of digest.
const importLen = 16 + len(Digest{})

func encodeImport(st unix.Stat_t, d Digest) []byte {
	value := binary.BigEndian.AppendUint64(make([]byte, 0, importLen), uint64(st.Size))
	value = binary.BigEndian.AppendUint64(value, uint64(st.Mtim.Nano()))
	return append(value, d[:]...)
}

func (im *importer) hashedBefore(key []byte, st unix.Stat_t) (d Digest, ok bool) {
	value := im.s.rows.get(key)
	if len(value) != importLen || int64(binary.BigEndian.Uint64(value)) != st.Size ||
		int64(binary.BigEndian.Uint64(value[8:])) != st.Mtim.Nano() {
		return d, false
	}
	return Digest(value[16:]), true
}

// forgetUnseen drops the rows of files that are no longer in the directory.
func (im *importer) forgetUnseen() {
	var drop []row
	im.s.rows.each(im.prefix(), func(r row) bool {
		if !im.seen[string(r.key)] {
			drop = append(drop, row{key: append([]byte(nil), r.key...)})
		}
		return true
	})
	if err := im.s.rows.write(drop); err != nil {
		im.s.log.Debug("store: import: rows of old files stay", "error", err)
	}
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
