// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
)

// testRows opens rows on a disk whose free space the test sets.
func testRows(t testing.TB, log *recorder) (*rows, *atomic.Int64) {
	t.Helper()
	free := new(atomic.Int64)
	free.Store(1 << 40)
	r := openRows(filepath.Join(t.TempDir(), "badger"), testLog(log), func() (int64, error) { return free.Load(), nil })
	return r, free
}

func closeRows(t testing.TB, r *rows) {
	t.Helper()
	if err := r.close(); err != nil {
		t.Error(err)
	}
}

func kv(key, value string) row { return row{key: []byte(key), value: []byte(value)} }

func wantRow(t testing.TB, r *rows, key, want string) {
	t.Helper()
	if got := r.get([]byte(key)); string(got) != want {
		t.Errorf("row %q is %q, want %q", key, got, want)
	}
}

func wantRows(t testing.TB, r *rows, prefix string, want map[string]string) {
	t.Helper()
	got := make(map[string]string)
	r.each([]byte(prefix), func(row row) bool { got[string(row.key)] = string(row.value); return true })
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("rows %q are %v, want %v", prefix, got, want)
	}
}

// While there is no room on the disk rows live in memory; reads see them together with the others.
func TestRowsWithoutRoom(t *testing.T) {
	var log recorder
	r, free := testRows(t, &log)
	put := func(batch ...row) {
		t.Helper()
		if err := r.write(batch); err != nil {
			t.Fatal(err)
		}
	}
	put(kv("xa", "1"), kv("xb", "2"), kv("y", "3"))
	free.Store(reserve - 1)
	put(kv("xb", "22"), row{key: []byte("xa")}, row{key: []byte("xc"), value: []byte("4"), meta: 9})
	check := func() {
		t.Helper()
		wantRow(t, r, "xa", "")
		wantRow(t, r, "xb", "22")
		wantRow(t, r, "xc", "4")
		wantRows(t, r, "x", map[string]string{"xb": "22", "xc": "4"})
		if _, meta := r.getMeta([]byte("xc")); meta != 9 {
			t.Errorf("meta is %d", meta)
		}
	}
	check()
	put(kv("y", "33"))
	if n := log.count("too little free disk space"); n != 1 {
		t.Errorf("said %d times that there is no room", n)
	}
	wantErr(t, r.flush(), ErrNoSpace)
	free.Store(rotateReserve - 1)
	wantErr(t, r.flush(), ErrNoSpace)
	free.Store(1 << 40)
	if err := r.flush(); err != nil || len(r.held) != 0 || r.heldBytes != 0 {
		t.Errorf("flush = %v, %d rows held, %d bytes", err, len(r.held), r.heldBytes)
	}
	check()
	closeRows(t, r)
	r.reopen()
	check()
	closeRows(t, r)
}

func TestHeldRowsAreBounded(t *testing.T) {
	var log recorder
	r, free := testRows(t, &log)
	defer closeRows(t, r)
	free.Store(0)
	value := strings.Repeat("v", 10_000)
	var err error
	n := 0
	for ; err == nil && n < 10_000; n++ {
		err = r.write([]row{kv(fmt.Sprint("k", n), value)})
	}
	wantErr(t, err, ErrNoSpace)
	if n < 100 || int64(n)*10_000 > maxHeld+10_000 {
		t.Errorf("%d rows held", n)
	}
	if err := r.write([]row{kv("k0", "new")}); err != nil {
		t.Errorf("a row that is held cannot be replaced: %v", err)
	}
	wantRow(t, r, "k0", "new")
	free.Store(1 << 40)
}

// The database is opened as soon as there is room.
func TestRowsOpenLater(t *testing.T) {
	var log recorder
	free := int64(0)
	r := openRows(filepath.Join(t.TempDir(), "badger"), testLog(&log), func() (int64, error) { return free, nil })
	if err := r.write([]row{kv("a", "1")}); err != nil || r.open() {
		t.Fatalf("write = %v, open is %v", err, r.open())
	}
	free = 1 << 40
	r.reopen()
	if !r.open() {
		t.Fatal("not opened although there is room")
	}
	closeRows(t, r)
	r.reopen()
	wantRow(t, r, "a", "1")
	closeRows(t, r)
}

// Damage of any file of the database costs what is known of blobs, never the blobs.
func TestDamagedDatabase(t *testing.T) {
	damage := map[string]func(dir string) error{
		"empty manifest":   func(dir string) error { return os.Truncate(filepath.Join(dir, "MANIFEST"), 0) },
		"garbage manifest": func(dir string) error { return os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte("garbage"), 0o600) },
		"missing table":    func(dir string) error { return eachFile(dir, ".sst", os.Remove) },
		"truncated table": func(dir string) error {
			return eachFile(dir, ".sst", func(p string) error { return os.Truncate(p, 100) })
		},
		"empty table": func(dir string) error {
			return eachFile(dir, ".sst", func(p string) error { return os.Truncate(p, 0) })
		},
		"flipped table":     func(dir string) error { return eachFile(dir, ".sst", flipBytes) },
		"older format":      func(dir string) error { return flipByte(filepath.Join(dir, "MANIFEST"), 5) },
		"a file in its way": func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) },
		"died opening it":   func(dir string) error { return os.WriteFile(attemptFile(dir), []byte(".."), 0o600) },
		"died long ago":     func(dir string) error { return os.WriteFile(attemptFile(dir), []byte("......"), 0o600) },
	}
	for name, fn := range damage {
		t.Run(name, func(t *testing.T) {
			var log recorder
			s := open(t, Config{})
			b, d := blob(1, 3000)
			add(t, s, b, Meta{Shareable: true, Modified: time.Unix(1e9, 0)})
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := fn(s.rows.dir); err != nil {
				t.Fatal(err)
			}
			s.cfg.Log = testLog(&log)
			s = open(t, s.cfg)
			if log.count("is gathered anew") != 1 {
				t.Errorf("nothing said:\n%s", &log)
			}
			wantBlob(t, s, d)
			m, err := s.Meta(d)
			if err != nil || m.Size != 3000 || m.Modified.Unix() != 1e9 || m.Shareable {
				t.Errorf("Meta = %+v, %v", m, err)
			}
			other, _ := blob(2, 100)
			add(t, s, other, Meta{Shareable: true})
			s = reopen(t, s)
			wantBlob(t, s, d)
			if _, err := os.Stat(attemptFile(s.rows.dir)); !os.IsNotExist(err) {
				t.Errorf("the attempt is not crossed out: %v", err)
			}
		})
	}
}

// Only deaths cost a database: two of them, however often it could not be opened otherwise.
func TestAttempts(t *testing.T) {
	damaged := errors.New("damaged")
	for _, tc := range []struct {
		name    string
		deaths  int     // before
		sub     string  // "/.": which cannot be removed
		tries   []error // what they give, again at each start
		removed bool
		left    int // deaths, after each start
	}{
		{name: "opened", tries: []error{nil}},
		{name: "opened after a death", deaths: 1, tries: []error{nil}},
		{name: "no space", tries: []error{unix.ENOSPC}},
		{name: "no space after a death", deaths: 1, tries: []error{unix.ENOSPC}, left: 1},
		{name: "forbidden", tries: []error{unix.EACCES}},
		{name: "forbidden after a death", deaths: 1, tries: []error{unix.EACCES}, left: 1},
		{name: "damaged", tries: []error{damaged, nil}, removed: true},
		{name: "no new one", tries: []error{damaged, damaged}, removed: true},
		{name: "no room for a new one", tries: []error{damaged, unix.ENOSPC}, removed: true},
		{name: "not to be removed", sub: "/.", tries: []error{damaged}},
		{name: "not to be removed after deaths", deaths: 2, sub: "/.", left: 2},
		{name: "deadly", deaths: 2, tries: []error{nil}, removed: true},
		{name: "deadly, and no room", deaths: 2, tries: []error{unix.ENOSPC}, removed: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "badger") + tc.sub
			marker := filepath.Join(dir, "marker")
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(marker, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(attemptFile(dir), make([]byte, tc.deaths), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 4 {
				tries := 0
				openGuarded(dir, testLog(t.Output()), func(string, *slog.Logger) (*badger.DB, error) {
					if tries++; tries > len(tc.tries) {
						t.Fatal("tried too often")
					}
					return nil, tc.tries[tries-1]
				})
				left := int64(0)
				if st, err := os.Stat(attemptFile(dir)); err == nil {
					left = st.Size()
				}
				if tries != len(tc.tries) || left != int64(tc.left) {
					t.Errorf("tried %d times, %d deaths counted", tries, left)
				}
				if tc.removed {
					break // the next start finds another database
				}
			}
			if _, err := os.Stat(marker); os.IsNotExist(err) != tc.removed && tc.sub == "" {
				t.Errorf("the database is removed: %v, want %v", err, tc.removed)
			}
		})
	}
}

// Damage to what a killed process leaves costs the rows at most. badger leaks goroutines when it
// cannot open a database, hence the other process.
func TestDamagedLogs(t *testing.T) {
	if out, err := child(t, "damage", t.TempDir()).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func damageChild() error {
	damage := map[string]func(path string) error{
		"as left":   func(string) error { return nil },
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"tiny":      func(path string) error { return os.Truncate(path, 7) },
		"cut short": func(path string) error { return os.Truncate(path, 100) },
		"flipped":   flipBytes,
		"garbage":   func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("garbage", 10_000)), 0o600) },
		"missing":   os.Remove,
	}
	for name, fn := range damage {
		for _, ext := range []string{memExt, ".vlog", "DISCARD", "KEYREGISTRY", "MANIFEST"} {
			dir := filepath.Join(os.Args[1], name+ext)
			m, err := reopenDamaged(dir, ext, fn)
			if err == nil && name == "as left" && m.ContentType != "x" {
				err = errors.New("rows of a killed process are lost")
			}
			if err != nil {
				return fmt.Errorf("%s %s: %w", name, ext, err)
			}
		}
	}
	return nil
}

// reopenDamaged opens a store whose database is as kill -9 would leave it, and then damaged.
func reopenDamaged(dir, ext string, damage func(string) error) (Meta, error) {
	s, err := Open(Config{Dir: dir, FreeFloor: 1})
	if err != nil {
		return Meta{}, err
	}
	b, d := blob(1, 3000)
	if _, err := put(s, b, Meta{ContentType: "x"}); err != nil {
		return Meta{}, err
	}
	killed := filepath.Join(dir, "killed")
	err = errors.Join(os.CopyFS(killed, os.DirFS(s.rows.dir)), s.Close(), os.RemoveAll(s.rows.dir),
		os.Rename(killed, s.rows.dir), eachFile(s.rows.dir, ext, damage))
	if err != nil {
		return Meta{}, err
	}
	if s, err = Open(s.cfg); err != nil {
		return Meta{}, err
	}
	m, err := s.Meta(d)
	return m, errors.Join(err, readAll(s, d), s.Close())
}

func eachFile(dir, ext string, fn func(string) error) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+ext))
	if len(paths) == 0 {
		err = errors.Join(err, errors.New("no such file: "+ext))
	}
	for _, path := range paths {
		err = errors.Join(err, fn(path))
	}
	return err
}

func flipByte(path string, at int) error {
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 { // the prepared log
		return err
	}
	b[at] ^= 0xff
	return os.WriteFile(path, b, 0o600)
}

func flipBytes(path string) error { return flipByte(path, 10) }

// Each log that badger writes to must have all its blocks before it is written to.
func TestLogsHaveNoHoles(t *testing.T) {
	var log recorder
	r, _ := testRows(t, &log)
	first := r.wal.next
	value := strings.Repeat("v", 1000)
	rotations := 0
	for i := 0; rotations < 5 && i < 100_000; i++ {
		before := r.wal.next
		if blocksOf(t, before) < memFileSize {
			t.Fatalf("%s is prepared with %d bytes", before, blocksOf(t, before))
		}
		if err := r.write([]row{kv(fmt.Sprintf("k%d", i), value)}); err != nil {
			t.Fatal(err)
		}
		if r.wal.next != before {
			rotations++
			if st, err := os.Stat(before); err != nil || st.Size() != memFileSize || blocksOf(t, before) < memFileSize {
				t.Errorf("the log in use: %v, %v", st, err)
			}
		}
	}
	if rotations < 5 {
		t.Errorf("%d rotations; the first was to go to %s", rotations, first)
	}
	for _, ext := range []string{".vlog", "DISCARD"} {
		if err := eachFile(r.dir, ext, func(p string) error {
			if st, err := os.Stat(p); err != nil || blocksOf(t, p) < st.Size() {
				return fmt.Errorf("%s has holes: %v", p, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	closeRows(t, r)
	if err := eachFile(r.dir, memExt, os.Remove); err == nil {
		t.Error("a log is left after close")
	}
}

// entryCost must never say less than badger uses, or a log would be changed unprepared.
func TestEntryCostIsAnUpperBound(t *testing.T) {
	for _, size := range []int{0, 1, 100, 30_000} {
		var log recorder
		r, _ := testRows(t, &log)
		value := strings.Repeat("v", size)
		for i := 0; ; i++ {
			before, used := r.wal.next, r.wal.used
			item := kv(fmt.Sprintf("key %06d", i), value)
			item.expires = time.Now().Add(lanAge).Unix()
			if err := r.write([]row{item}); err != nil {
				t.Fatal(err)
			}
			if r.wal.next == before {
				continue
			}
			if used+entryCost(item) < memTableSize {
				t.Errorf("values of %d bytes: log changed at %d bytes by our count", size, used)
			}
			break
		}
		closeRows(t, r)
	}
}
