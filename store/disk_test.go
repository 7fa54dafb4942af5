// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace runs a child in a mount namespace of its own, where it may mount what it likes.
func inNamespace(t *testing.T, name string) {
	t.Helper()
	args := []string{"--mount", "/proc/self/exe"}
	if os.Geteuid() != 0 {
		args = append([]string{"--map-root-user"}, args...)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args[len(args)-1] = exe
	cmd := exec.Command("unshare", append(args, t.TempDir())...)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("child %s: %v", name, err)
	}
}

// mountTmpfs mounts a small disk and changes to it.
func mountTmpfs(options string) (dir string, err error) {
	dir = os.Args[1]
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		return "", fmt.Errorf("mount tmpfs: %w", err)
	}
	return dir, nil
}

func TestFullDisk(t *testing.T) { inNamespace(t, "fulldisk") }

// fullDiskChild lets another writer fill the disk to the last byte, again and again, while the store
// takes blobs and gives them out.
func fullDiskChild() error {
	dir, err := mountTmpfs("size=600m")
	if err != nil {
		return err
	}
	var log recorder
	s, err := Open(Config{Dir: filepath.Join(dir, "store"), Quota: 64 << 20, FreeFloor: 1 << 20, Log: testLog(&log)})
	if err != nil {
		return err
	}
	old, oldDigest := blob(1, 5_000_000)
	if _, err := put(s, old, Meta{}); err != nil {
		return err
	}
	done := make(chan struct{})
	var group sync.WaitGroup
	var storeErr error
	stored, refused := 0, 0
	group.Go(func() { stored, refused, storeErr = useStore(s, oldDigest, done) })
	var fillErr error
	for range 8 {
		if fillErr = fillAndRelease(dir); fillErr != nil {
			break
		}
	}
	close(done)
	group.Wait()
	if err := errors.Join(storeErr, fillErr); err != nil {
		return err
	}
	if stored == 0 || refused == 0 {
		return fmt.Errorf("stored %d blobs, refused %d: want both", stored, refused)
	}
	slog.Info("survived", "stored", stored, "refused", refused, "next_log", filepath.Base(s.rows.wal.next))
	return closeOnFullDisk(s, dir, oldDigest)
}

// useStore stores small blobs and reads a large one until done.
func useStore(s *Store, old Digest, done chan struct{}) (stored, refused int, err error) {
	for i := uint64(2); ; i++ {
		select {
		case <-done:
			return stored, refused, nil
		default:
		}
		b, d := blob(i, 3000)
		_, err := put(s, b, Meta{Origin: strings.Repeat("x", 500)})
		switch {
		case err == nil:
			stored++
			err = readAll(s, d)
		case errors.Is(err, ErrNoSpace):
			refused++
			err = nil
		}
		if i%32 == 0 {
			err = errors.Join(err, readAll(s, old))
		}
		if err != nil {
			return stored, refused, err
		}
		for k := range 8 { // work for the database: a log is full every 0.1 s
			url := fmt.Sprint("http://a/", i%100, "/", k)
			if err := s.PutURL(url, URLRecord{Digest: old, ETag: strings.Repeat("x", 1000)}); err != nil && !errors.Is(err, ErrNoSpace) {
				return stored, refused, err
			}
		}
	}
}

func readAll(s *Store, d Digest) error {
	b, err := s.Get(d)
	if err != nil {
		return err
	}
	defer b.Close()
	h := sha256.New()
	if _, err := io.Copy(h, b); err != nil {
		return err
	}
	if got := Digest(h.Sum(nil)); got != d {
		return fmt.Errorf("blob %x reads as %x", d, got)
	}
	return nil
}

// fillAndRelease writes until not a byte is free, keeps it so for a while, and gives all back.
func fillAndRelease(dir string) error {
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer f.Close()
	free, _ := diskFree(dir)
	_ = free
	buf := make([]byte, 1<<20)
	size := len(buf)
	var full time.Time
	for full.IsZero() || time.Since(full) < 150*time.Millisecond {
		_, err := f.Write(buf[:size])
		switch {
		case err == nil:
			size = min(2*size, len(buf))
		case !errors.Is(err, unix.ENOSPC):
			return err
		case size > 1:
			size /= 2 // to the last byte
		case full.IsZero():
			full = time.Now()
		}
	}
	return nil
}

// closeOnFullDisk stops and starts the store while the disk is full, and once it is not.
func closeOnFullDisk(s *Store, dir string, old Digest) error {
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return err
	}
	defer filler.Close()
	_, err = io.Copy(filler, zeros{})
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	if _, err = s.Create(Digest{1}, 100); !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("Create on a full disk: %w", err)
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("Close on a full disk: %w", err)
	}
	if s, err = Open(s.cfg); err != nil {
		return fmt.Errorf("Open on a full disk: %w", err)
	}
	if err := readAll(s, old); err != nil {
		return err
	}
	if s.rows.open() {
		return errors.New("database opened on a full disk")
	}
	if err := filler.Truncate(0); err != nil {
		return err
	}
	s.tidy()
	if !s.rows.open() {
		return errors.New("database not opened with room again")
	}
	if m, err := s.Meta(old); err != nil || m.Added.IsZero() {
		return fmt.Errorf("rows are lost: %+v, %w", m, err)
	}
	return s.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestLastBlocks(t *testing.T) { inNamespace(t, "blocks") }

// lastBlocksChild fails the i-th block, and then the i-th inode, that storing a blob asks the disk
// for: i = 0, 1, 2 … until it succeeds.
func lastBlocksChild() error {
	for _, test := range []struct {
		options string
		fill    func(dir string, left int) error
	}{
		{"size=8m", leaveBlocks},
		{"size=8m,nr_inodes=64", leaveInodes},
	} {
		dir, err := mountTmpfs(test.options)
		if err != nil {
			return err
		}
		for left := 0; ; left++ {
			err := storeWith(filepath.Join(dir, fmt.Sprint("store", left)), func() error { return test.fill(dir, left) })
			if err != nil && !errors.Is(err, ErrNoSpace) {
				return fmt.Errorf("%s, %d left: %w", test.options, left, err)
			}
			if err == nil {
				slog.Info("stored", "options", test.options, "left", left)
				break
			}
			if left > 100 {
				return fmt.Errorf("%s: never succeeded", test.options)
			}
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return err
		}
	}
	return nil
}

// storeWith stores a blob after fill has used up the disk. What it cannot store must leave nothing.
func storeWith(dir string, fill func() error) error {
	s, err := Open(Config{Dir: dir, Quota: 1 << 20, FreeFloor: 1})
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer s.Close()
	s.free = func() (int64, error) { return 1 << 40, nil } // the kernel says no, not our own check
	s.rows.free = func() (int64, error) { return 0, nil }
	if err := fill(); err != nil {
		return err
	}
	b, d := blob(1, 30_000)
	_, err = put(s, b, Meta{})
	if err == nil {
		return readAll(s, d)
	}
	left, globErr := filepath.Glob(dir + "/*/*")
	more, _ := filepath.Glob(dir + "/blobs/*/*")
	for _, path := range append(left, more...) {
		if st, err := os.Stat(path); err != nil || !st.IsDir() {
			return fmt.Errorf("%s was left behind (%w)", path, err)
		}
	}
	if _, ok := s.Stat(d); ok {
		return errors.New("the blob is said to be there")
	}
	return errors.Join(err, globErr)
}

func leaveBlocks(dir string, left int) error {
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, unix.ENOSPC) {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return f.Truncate(st.Size() - int64(left*os.Getpagesize()))
}

func leaveInodes(dir string, left int) error {
	spare := filepath.Join(dir, "spare")
	if err := errors.Join(os.RemoveAll(spare), os.Mkdir(spare, 0o755)); err != nil {
		return err
	}
	n := 0
	for ; ; n++ {
		err := os.WriteFile(filepath.Join(spare, fmt.Sprint(n)), nil, 0o600)
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		if err != nil {
			return err
		}
	}
	for ; left > 0 && n > 0; left-- {
		n--
		if err := os.Remove(filepath.Join(spare, fmt.Sprint(n))); err != nil {
			return err
		}
	}
	return nil
}

func TestReadOnlyDisk(t *testing.T) { inNamespace(t, "readonly") }

func readOnlyChild() error {
	dir, err := mountTmpfs("size=8m")
	if err != nil {
		return err
	}
	s, err := Open(Config{Dir: dir})
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return err
	}
	_, err = Open(Config{Dir: dir})
	if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), dir+" is not writable") {
		return fmt.Errorf("a read-only disk: %w", err)
	}
	return nil
}

// blocksOf returns how many bytes of disk a file has.
func blocksOf(t testing.TB, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}
