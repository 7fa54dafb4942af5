// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestKeepsBlobs(t *testing.T) {
	s := open(t, Config{Quota: 1 << 30})
	modified := time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, size := range []int{0, 1, 14_000, PieceSize, 3*PieceSize + 7} {
		b, want := blob(uint64(size), size)
		meta := Meta{Modified: modified, ContentType: "text/x", Origin: "http://a/b", Shareable: true, Keep: true}
		if d := add(t, s, b, meta); d != want {
			t.Errorf("size %d: Commit says %x", size, d)
		}
	}
	check := func() {
		t.Helper()
		for _, size := range []int{0, 1, 14_000, PieceSize, 3*PieceSize + 7} {
			b, d := blob(uint64(size), size)
			if got := read(t, s, d); !bytes.Equal(got, b) || got == nil {
				t.Errorf("size %d: wrong bytes", size)
			}
			if n, ok := s.Stat(d); !ok || n != int64(size) {
				t.Errorf("Stat = %d, %v, want %d", n, ok, size)
			}
			m, err := s.Meta(d)
			if err != nil || m.Size != int64(size) || !m.Modified.Equal(modified) || m.ContentType != "text/x" ||
				m.Origin != "http://a/b" || !m.Shareable || !m.Keep || time.Since(m.Added) > time.Minute || time.Since(m.Used) > time.Minute || time.Since(m.Verified) > time.Minute {
				t.Errorf("size %d: Meta = %+v, %v", size, m, err)
			}
		}
		if n, bytes, quota := s.Usage(); n != 5 || bytes != 1+14_000+4*PieceSize+7 || quota != 1<<30 {
			t.Errorf("Usage = %d, %d, %d", n, bytes, quota)
		}
	}
	check()
	s = reopen(t, s)
	check()
	if names := files(t, s, "partial"); len(names) != 0 {
		t.Errorf("left in partial: %q", names)
	}
}

func TestBlobTellsItsTimes(t *testing.T) {
	s := open(t, Config{})
	for _, modified := range []time.Time{{}, time.Unix(0, 0), time.Unix(-5, 0), time.Unix(1_700_000_000, 999)} {
		b, d := blob(uint64(modified.UnixNano()), 100)
		add(t, s, b, Meta{Modified: modified})
		got, err := s.Get(d)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		want := time.Time{}
		if modified.Unix() > 0 {
			want = time.Unix(modified.Unix(), 0)
		}
		if !got.Modified.Equal(want) || got.Shareable {
			t.Errorf("Modified %v: Get says %+v", modified, got)
		}
		st, err := os.Stat(s.blobPath(d))
		if err != nil || st.ModTime().Unix() != max(want.Unix(), 0) || st.Mode() != fileMode {
			t.Errorf("Modified %v: the file has %v, %v, %v", modified, st.ModTime(), st.Mode(), err)
		}
	}
}

func TestNotThere(t *testing.T) {
	s := open(t, Config{})
	_, d := blob(1, 1)
	_, err := s.Get(d)
	wantErr(t, err, ErrNotFound)
	_, err = s.Meta(d)
	wantErr(t, err, ErrNotFound)
	_, err = s.Pieces(d)
	wantErr(t, err, ErrNotFound)
}

func TestTooLong(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 100)
	for _, m := range []Meta{{ContentType: strings.Repeat("x", maxHeader+1)}, {Origin: strings.Repeat("x", maxURL+1)}} {
		_, err := put(s, b, m)
		wantErr(t, err, ErrTooLong)
		wantNoBlob(t, s, d)
	}
}

func TestClosed(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 100)
	add(t, s, b, Meta{})
	g, err := s.Create(Digest{1}, 5)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.Get(d)
	wantErr(t, err, ErrClosed)
	_, err = s.Peek(d)
	wantErr(t, err, ErrClosed)
	_, err = s.Create(d, 5)
	wantErr(t, err, ErrClosed)
	_, err = s.remove(d)
	wantErr(t, err, ErrClosed)
	if err := g.Discard(nil); err != nil {
		t.Error(err)
	}
}

func TestPublishAfterClose(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 100)
	g, err := s.Create(d, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = g.Commit(Meta{})
	wantErr(t, err, ErrClosed)
	if names := append(files(t, s, "blobs"), files(t, s, "partial")...); len(names) != 0 {
		t.Errorf("a closed store got %q", names)
	}
}

func TestOpenRefuses(t *testing.T) {
	_, err := Open(Config{})
	wantErr(t, err, errNoDir)
	if _, err = Open(Config{Dir: t.TempDir(), Quota: -1}); err == nil {
		t.Error("a negative quota was taken")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Open(Config{Dir: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Dir is a file: %v", err)
	}
}

func TestDefaults(t *testing.T) {
	dir := t.TempDir()
	total, err := diskSize(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Config{Dir: dir}.withDefaults()
	if err != nil || c.Quota != min(20<<30, total/10) || c.FreeFloor != min(1<<30, total/50) {
		t.Errorf("defaults %+v, %v", c, err)
	}
}

// Of a disk on FUSE, the block that is best to read is larger than the one in which it counts.
func TestBlockBytes(t *testing.T) {
	if got := blockBytes(&unix.Statfs_t{Bsize: 1 << 20, Frsize: 4096}, 1000); got != 4_096_000 {
		t.Errorf("1000 blocks of 4096 bytes are %d", got)
	}
}

func TestLocked(t *testing.T) {
	s := open(t, Config{})
	_, err := Open(Config{Dir: s.cfg.Dir})
	wantErr(t, err, ErrLocked)
	if !strings.Contains(err.Error(), s.cfg.Dir) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("%q names neither directory nor process", err)
	}
	if out, err := child(t, "locker", s.cfg.Dir).CombinedOutput(); err != nil {
		t.Errorf("another process: %v\n%s", err, out)
	}
	reopen(t, s)
}

func lockerChild() error {
	s, err := Open(Config{Dir: os.Args[1]})
	if err == nil {
		return errors.Join(errors.New("a second process opened the store"), s.Close())
	}
	if !errors.Is(err, ErrLocked) {
		return err
	}
	return nil
}

// child prepares this test binary to run as one of children.
func child(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	return cmd
}

func TestForeignFiles(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 100)
	add(t, s, b, Meta{})
	_, linked := blob(2, 100)
	root := filepath.Join(s.cfg.Dir, "blobs")
	hex := func(d Digest) string { return fmt.Sprintf("%x", d) }
	link := s.blobPath(linked)
	for _, err := range []error{
		os.MkdirAll(filepath.Dir(link), 0o755),
		os.Symlink(s.blobPath(d), link),
		os.WriteFile(filepath.Join(root, "README"), nil, 0o600),
		os.WriteFile(filepath.Join(filepath.Dir(s.blobPath(d)), strings.ToUpper(hex(d))), nil, 0o600),
		os.WriteFile(filepath.Join(filepath.Dir(link), hex(d)), nil, 0o600), // wrong fan
		os.Mkdir(filepath.Join(root, "AA"), 0o755),
		os.MkdirAll(filepath.Join(root, "00", strings.Repeat("0", 64)), 0o755),
		os.Symlink(root, filepath.Join(root, "01")),
		os.WriteFile(filepath.Join(s.cfg.Dir, "partial", tempPrefix+"x"), nil, 0o600),
		os.WriteFile(filepath.Join(s.cfg.Dir, "partial", "stranger"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var log recorder
	s.cfg.Log = testLog(&log)
	s = reopen(t, s)
	if n, _, _ := s.Usage(); n != 1 {
		t.Errorf("%d blobs, want 1", n)
	}
	wantBlob(t, s, d)
	wantNoBlob(t, s, linked)
	if n := log.count("ignoring what is not a blob"); n != 7 {
		t.Errorf("%d foreign files logged, want 7:\n%s", n, &log)
	}
	if names := files(t, s, "partial"); len(names) != 1 || names[0] != "stranger" {
		t.Errorf("partial holds %q", names)
	}
}

func TestForeignLogIsBounded(t *testing.T) {
	root := t.TempDir()
	for i := range 3 * maxForeignLogs {
		if err := os.WriteFile(filepath.Join(root, fmt.Sprint("file", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log recorder
	if _, err := walkBlobs(root, testLog(&log)); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count([]byte(log.String()), []byte("\n")); n != maxForeignLogs+1 {
		t.Errorf("%d log lines", n)
	}
}

// The blob's place is taken by something else while the store is open.
func TestBlobReplaced(t *testing.T) {
	replace := map[string]func(path string) error{
		"nothing":   func(string) error { return nil },
		"directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"symlink":   func(path string) error { return os.Symlink("/etc/passwd", path) },
		"short":     func(path string) error { return os.WriteFile(path, []byte("x"), 0o644) },
	}
	for name, fn := range replace {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{})
			b, d := blob(1, 100)
			add(t, s, b, Meta{})
			if err := errors.Join(os.Remove(s.blobPath(d)), fn(s.blobPath(d))); err != nil {
				t.Fatal(err)
			}
			wantNoBlob(t, s, d)
			if n, bytes, _ := s.Usage(); n != 0 || bytes != 0 {
				t.Errorf("Usage = %d, %d", n, bytes)
			}
		})
	}
}

// A blob that cannot be opened for a passing reason stays.
func TestPassingErrorKeepsBlob(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 100)
	add(t, s, b, Meta{})
	blobs := filepath.Join(s.cfg.Dir, "blobs")
	if err := errors.Join(os.Rename(blobs, blobs+"2"), os.WriteFile(blobs, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(d); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("Get = %v, want ENOTDIR", err)
	}
	if err := errors.Join(os.Remove(blobs), os.Rename(blobs+"2", blobs)); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, d)
}

func TestCheck(t *testing.T) {
	s := open(t, Config{})
	if err := Check(s.cfg.Dir); err != nil {
		t.Errorf("a store in use: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Check(s.cfg.Dir); err != nil {
		t.Errorf("a store: %v", err)
	}
	other := t.TempDir()
	for _, want := range []string{`no file "state"`, `no directory "blobs"`} {
		err := Check(other)
		if !errors.Is(err, ErrNoStore) || !strings.Contains(err.Error(), want) {
			t.Errorf("no store: %v, want %q", err, want)
		}
		if err := os.WriteFile(filepath.Join(other, markFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(s.cfg.Dir, markFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.cfg.Dir, markFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Check(s.cfg.Dir); !errors.Is(err, ErrNoStore) {
		t.Errorf("a directory of that name: %v", err)
	}
	if err := Check(filepath.Join(other, markFile)); err == nil || errors.Is(err, ErrNoStore) {
		t.Errorf("a file: %v", err)
	}
}
