// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var silentLog = slog.New(slog.DiscardHandler)

// openNotesIn opens the notes in a directory below dir.
func openNotesIn(t *testing.T, dir string) *notebook {
	t.Helper()
	root, err := openPrivate(filepath.Join(dir, "detect"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return &notebook{root, silentLog}
}

func TestNotesAreKept(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	one, err := parseTarget(plainURL)
	if err != nil {
		t.Fatal(err)
	}
	n := openNotesIn(t, dir).read("here", now)
	n.found([]greeted{{addr: "10.0.0.1:1"}, {addr: "10.0.0.2:2"}}, now)
	n.judge("10.0.0.1:1", one, true, now)
	n.judge("10.0.0.2:2", one, false, now.Add(-keepNotes/2))
	openNotesIn(t, dir).write(n)

	book := openNotesIn(t, dir)
	read := func(network string, later time.Duration) (proxies int, first, second bool) {
		n := book.read(network, now.Add(later))
		_, first = n.verdict("10.0.0.1:1", one)
		_, second = n.verdict("10.0.0.2:2", one)
		if n.Searched.IsZero() != (len(n.Proxies) == 0) {
			t.Errorf("%+v", n)
		}
		return len(n.Proxies), first, second
	}
	for _, tt := range []struct {
		network string
		later   time.Duration
		proxies int
		first   bool
		second  bool
	}{
		{"here", 0, 2, true, true},
		{"here", keepNotes / 2, 2, true, false},
		{"here", keepNotes, 0, false, false},
		{"here", -time.Hour, 0, false, false}, // the clock was set back
		{"elsewhere", 0, 0, false, false},
	} {
		if proxies, first, second := read(tt.network, tt.later); proxies != tt.proxies || first != tt.first || second != tt.second {
			t.Errorf("%s, %v later: %d, %v, %v", tt.network, tt.later, proxies, first, second)
		}
	}
	n.found(nil, now)
	book.write(n)
	for later, holds := range map[time.Duration]bool{0: true, keepNothing - 1: true, keepNothing: false} {
		if got := !book.read("here", now.Add(later)).Searched.IsZero(); got != holds {
			t.Errorf("that there is no proxy holds %v later: %v", later, got)
		}
	}
	secure, _ := parseTarget(secureURL)
	if _, known := n.verdict("10.0.0.1:1", secure); known {
		t.Error("the verdict on http is taken for https")
	}
}

func TestNotesAreBounded(t *testing.T) {
	n := new(notes)
	for i := range 10 * maxVerdicts {
		n.judge("10.0.0.1:1", target{host: strings.Repeat("x", i)}, true, time.Now())
	}
	if len(n.Verdicts) != maxVerdicts {
		t.Errorf("%d verdicts", len(n.Verdicts))
	}
}

// TestUselessNotes puts something else in the place of the notes: they are
// done without.
func TestUselessNotes(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"nonsense":  func(path string) error { return os.WriteFile(path, []byte("{"), 0o600) },
		"a list":    func(path string) error { return os.WriteFile(path, []byte("[1]"), 0o600) },
		"too much":  func(path string) error { return os.WriteFile(path, make([]byte, 10*maxNotes), 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe":    func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a link out of the directory": func(path string) error {
			return os.Symlink("../../../../../../../../etc/passwd", path)
		},
	} {
		dir := t.TempDir()
		book := openNotesIn(t, dir)
		if err := spoil(filepath.Join(dir, "detect", notesFile)); err != nil {
			t.Fatal(err)
		}
		n := book.read("here", time.Now())
		if n.Network != "here" || len(n.Proxies) > 0 {
			t.Errorf("%s: %+v", name, n)
		}
		n.found(nil, time.Now())
		book.write(n)
		if left, _ := filepath.Glob(filepath.Join(dir, "detect", notesFile+".*")); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

// TestForeignDirectories: what others could write to, or have put there, is
// not used.
func TestForeignDirectories(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	mkdir := func(name string, mode fs.FileMode) {
		if err := os.Mkdir(path(name), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	mkdir("private", 0o700)
	mkdir("open", 0o777)
	mkdir("readable", 0o755)
	if err := os.Symlink("private", path("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("file"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"private": true, "new": true, "open": false, "readable": false, "link": false, "file": false, "missing/new": false,
	} {
		root, err := openPrivate(path(name))
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			root.Close()
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	mkdir("theirs", 0o700)
	if err := os.Chown(path("theirs"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if root, err := openPrivate(path("theirs")); err == nil {
		root.Close()
		t.Error("another user's directory is used")
	}
}

// TestNotebookWithoutAPlace: with nowhere to write, nothing is kept.
func TestNotebookWithoutAPlace(t *testing.T) {
	book := &notebook{nil, silentLog}
	n := book.read("here", time.Now())
	n.found([]greeted{{addr: "10.0.0.1:1"}}, time.Now())
	book.write(n)
	if n := book.read("here", time.Now()); len(n.Proxies) > 0 {
		t.Errorf("%+v", n)
	}
}
