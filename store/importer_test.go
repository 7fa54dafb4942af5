// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func wantAll(Digest, int64) bool { return true }

func deb(t testing.TB, dir, name string, seed uint64) Digest {
	t.Helper()
	b, d := blob(seed, 20_000)
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1_600_000_000+int64(seed), 0)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
	return d
}

func importAll(t testing.TB, s *Store, dir string, want func(Digest, int64) bool, wantN int) {
	t.Helper()
	n, err := s.Import(t.Context(), dir, want)
	if n != wantN || err != nil {
		t.Errorf("Import = %d, %v, want %d", n, err, wantN)
	}
}

func TestImport(t *testing.T) {
	s := open(t, Config{})
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "partial"), 0o755); err != nil {
		t.Fatal(err)
	}
	in := []Digest{deb(t, dir, "a.deb", 1), deb(t, dir, "b.ddeb", 2), deb(t, dir, "c.udeb", 3)}
	out := []Digest{deb(t, dir, "partial/d.deb", 4), deb(t, dir, "e.deb.FAILED", 5), deb(t, dir, "f", 6), deb(t, dir, "unwanted.deb", 7)}
	if err := os.Symlink(filepath.Join(dir, "f"), filepath.Join(dir, "link.deb")); err != nil {
		t.Fatal(err)
	}
	wanted := func(d Digest, size int64) bool { return d != out[3] && size == 20_000 }
	importAll(t, s, dir, wanted, 3)
	for i, d := range in {
		wantBlob(t, s, d)
		m, err := s.Meta(d)
		if err != nil || m.Modified.Unix() != 1_600_000_001+int64(i) || m.Shareable || m.Origin != "" {
			t.Errorf("Meta = %+v, %v", m, err)
		}
	}
	for _, d := range out {
		wantNoBlob(t, s, d)
	}
	if names := files(t, s, "partial"); len(names) != 0 {
		t.Errorf("left %q", names)
	}
	for i, name := range []string{"a.deb", "b.ddeb", "c.udeb"} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Mode() != 0o644 || st.ModTime().Unix() != 1_600_000_001+int64(i) {
			t.Errorf("%s was changed: %v, %v", name, st, err)
		}
	}
	importAll(t, s, dir, wanted, 0)
	importAll(t, s, dir, wantAll, 1) // what was unwanted may be wanted later
}

// What was hashed is not hashed again, over restarts too, unless the file changes.
func TestImportRemembers(t *testing.T) {
	s := open(t, Config{})
	dir := t.TempDir()
	d := deb(t, dir, "a.deb", 1)
	importAll(t, s, dir, wantAll, 1)
	s = reopen(t, s)
	// Other bytes behind the same inode, size and time: only hashing would tell.
	other, otherDigest := blob(9, 20_000)
	path := filepath.Join(dir, "a.deb")
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, other, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	asked := 0
	count := func(Digest, int64) bool { asked++; return false }
	importAll(t, s, dir, count, 0)
	if asked != 0 {
		t.Error("an unchanged file was hashed again")
	}
	if err := os.Chtimes(path, time.Time{}, st.ModTime().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	importAll(t, s, dir, wantAll, 1)
	wantBlob(t, s, otherDigest)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	importAll(t, s, dir, wantAll, 0)
	s.rows.each([]byte{kindImport}, func(r row) bool { t.Errorf("row %x of a file that is gone", r.key); return true })
	_ = d
}

// A hard link must never let somebody else change what is served, nor let the store change somebody
// else's file.
func TestImportLinksWhatIsSafe(t *testing.T) {
	type linkTest struct {
		name  string
		mode  os.FileMode
		uid   int
		mtime int64
		link  bool
	}
	tests := []linkTest{
		{"ours", 0o644, os.Geteuid(), 1e9, true},
		{"writable for a group", 0o664, os.Geteuid(), 1e9, false},
		{"writable for all", 0o646, os.Geteuid(), 1e9, false},
		{"not readable for all", 0o600, os.Geteuid(), 1e9, false},
		{"a stranger's", 0o644, 4242, 1e9, false},
		{"before 1970", 0o644, os.Geteuid(), -1e9, false},
	}
	if os.Geteuid() != 0 { // only root can give a file away
		tests = slices.DeleteFunc(tests, func(test linkTest) bool { return test.uid != os.Geteuid() })
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, Config{})
			dir := filepath.Join(s.cfg.Dir, "archives") // the same file system
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			d := deb(t, dir, "a.deb", 1)
			path := filepath.Join(dir, "a.deb")
			when := time.Unix(test.mtime, 0)
			if err := os.Chtimes(path, when, when); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(path, test.uid, -1); err != nil {
				t.Fatal(err)
			}
			importAll(t, s, dir, wantAll, 1)
			wantBlob(t, s, d)
			original, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			stored, err := os.Stat(s.blobPath(d))
			if err != nil {
				t.Fatal(err)
			}
			// Where reflinks work there is never a hard link.
			if os.SameFile(original, stored) && !test.link {
				t.Error("linked")
			}
			if original.Mode() != test.mode || original.ModTime().Unix() != test.mtime {
				t.Errorf("the original is now %v, %v", original.Mode(), original.ModTime())
			}
			if stored.Mode() != fileMode {
				t.Errorf("the blob is %v", stored.Mode())
			}
			if err := os.Remove(path); err != nil { // apt clean
				t.Fatal(err)
			}
			wantBlob(t, s, d)
		})
	}
}

func TestImportSkipsWhatItCannotRead(t *testing.T) {
	var log recorder
	s := open(t, Config{Log: testLog(&log)})
	dir := t.TempDir()
	deb(t, dir, "a.deb", 1)
	deb(t, dir, "b.deb", 2)
	im := importer{s: s, dir: dir, want: wantAll, seen: make(map[string]bool)}
	if took, err := im.file(t.Context(), filepath.Join(dir, "gone.deb")); took || err == nil {
		t.Errorf("a file that is gone: %v, %v", took, err)
	}
	// What vanishes between the listing and its turn is skipped, the rest comes in.
	vanish := func(d Digest, _ int64) bool {
		os.Remove(filepath.Join(dir, "b.deb"))
		return true
	}
	importAll(t, s, dir, vanish, 1)
	if log.count("skipping a file") != 1 {
		t.Errorf("log:\n%s", &log)
	}
	_, err := s.Import(t.Context(), filepath.Join(dir, "nowhere"), wantAll)
	if err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a directory that is not there: %v", err)
	}
}

func TestImportStops(t *testing.T) {
	s := open(t, Config{})
	dir := t.TempDir()
	deb(t, dir, "a.deb", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Import(ctx, dir, wantAll)
	wantErr(t, err, context.Canceled)
	setFree(s, 0)
	_, err = s.Import(t.Context(), dir, wantAll)
	wantErr(t, err, ErrNoSpace)
}

// A file that changes between hashing and publishing is not taken.
func TestImportOfChangingFile(t *testing.T) {
	s := open(t, Config{})
	dir := filepath.Join(s.cfg.Dir, "archives")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := deb(t, dir, "a.deb", 1)
	change := func(Digest, int64) bool {
		b, _ := blob(2, 20_000)
		if err := os.WriteFile(filepath.Join(dir, "a.deb"), b, 0o644); err != nil {
			t.Error(err)
		}
		return true
	}
	importAll(t, s, dir, change, 0)
	wantNoBlob(t, s, d)
	if names := append(files(t, s, "blobs"), files(t, s, "partial")...); len(names) != 0 {
		t.Errorf("left %q", names)
	}
}
