// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childEnv names what a re-executed test binary is to do instead of running the tests.
const childEnv = "STORE_TEST_CHILD"

var children = map[string]func() error{
	"fulldisk":  fullDiskChild,
	"blocks":    lastBlocksChild,
	"readonly":  readOnlyChild,
	"scribbler": scribblerChild,
	"locker":    lockerChild,
	"memory":    memoryChild,
	"damage":    damageChild,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := children[name](); err != nil {
			slog.Error("child failed", "child", name, "error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// recorder keeps log lines, so that tests can ask for them.
type recorder struct {
	mu  sync.Mutex // guards following
	buf bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func (r *recorder) count(line string) int { return bytes.Count([]byte(r.String()), []byte(line)) }

func testLog(r io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// open opens a store for a test; a config without a directory gets a new one.
func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Log == nil {
		cfg.Log = testLog(t.Output())
	}
	if cfg.FreeFloor == 0 {
		cfg.FreeFloor = 1
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, s.cfg)
}

// crash leaves the directory as kill -9 would leave it: nothing flushed, the mark not set.
func crash(t testing.TB, s *Store) *Store {
	t.Helper()
	s.table.takeTouched()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.mark.set("running"); err != nil {
		t.Fatal(err)
	}
	return open(t, s.cfg)
}

// blob makes size bytes that depend on seed.
func blob(seed uint64, size int) ([]byte, Digest) {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	r.Read(b)
	return b, sha256.Sum256(b)
}

// add stores b and returns its digest.
func add(t testing.TB, s *Store, b []byte, m Meta) Digest {
	t.Helper()
	d, err := put(s, b, m)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func put(s *Store, b []byte, m Meta) (Digest, error) {
	g, err := s.Create(sha256.Sum256(b), int64(len(b)))
	if err != nil {
		return Digest{}, err
	}
	if _, err := g.Write(b); err != nil {
		return Digest{}, errors.Join(err, g.Discard(err))
	}
	return g.Commit(m)
}

// read returns what Get gives, and nil for ErrNotFound.
func read(t testing.TB, s *Store, d Digest) []byte {
	t.Helper()
	b, err := s.Get(d)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(got)) != b.Size {
		t.Errorf("Blob.Size = %d, read %d bytes", b.Size, len(got))
	}
	return got
}

func wantBlob(t testing.TB, s *Store, d Digest) {
	t.Helper()
	got := read(t, s, d)
	if got == nil {
		t.Errorf("blob %x is not there", d[:4])
	} else if sha256.Sum256(got) != d {
		t.Errorf("blob %x gives wrong bytes", d[:4])
	}
}

func wantNoBlob(t testing.TB, s *Store, d Digest) {
	t.Helper()
	if read(t, s, d) != nil {
		t.Errorf("blob %x is there", d[:4])
	}
	if _, ok := s.Stat(d); ok {
		t.Errorf("Stat knows blob %x", d[:4])
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}

// files lists what lies in a subdirectory of the store.
func files(t testing.TB, s *Store, sub string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(s.cfg.Dir, sub), func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, e.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// spoil changes a byte of a blob's file, and keeps its times.
func spoil(t testing.TB, s *Store, d Digest) {
	t.Helper()
	path := s.blobPath(d)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	one := make([]byte, 1)
	if _, err := f.ReadAt(one, st.Size()/2); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 1
	if _, err := f.WriteAt(one, st.Size()/2); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// age makes a blob's last verification and use older.
func age(s *Store, d Digest, by time.Duration) {
	s.table.change(d, func(e *entry) {
		e.used -= int64(by)
		e.verified -= min(e.verified, uint32(by/time.Second))
	})
}
