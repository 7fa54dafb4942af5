// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pierrec/lz4/v4"

	"apt-dht/index/trust"
)

func contextWithStop(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	return ctx, stop
}

func packLZ4(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := lz4.NewWriter(&b)
	_, err := w.Write(data)
	check(t, err)
	check(t, w.Close())
	return b.Bytes()
}

// listsOf writes the files as apt would; "" is InRelease, signed by the archive.
func listsOf(t *testing.T, dir string, r *repo, files map[string][]byte) {
	t.Helper()
	write(t, filepath.Join(dir, trust.ListsFile(dists+"/InRelease")), clearsigned(t, r.release(), archiveKey()))
	for path, data := range files {
		write(t, filepath.Join(dir, trust.ListsFile(dists+"/"+path)), data)
	}
}

func TestLoadLists(t *testing.T) {
	r := stable(july, "pool/a.deb", "a")
	plain := r.files[list]
	forged := packages("pool/a.deb", "evil")
	tests := []struct {
		name, file string
		data       []byte
		known      bool
	}{
		{"plain", list, plain, true},
		{"lz4", list + ".lz4", packLZ4(t, plain), true},
		{"gzip, packed anew", list + ".gz", zip(plain), true},
		{"other bytes", list, forged, false},
		{"other bytes, packed", list + ".lz4", packLZ4(t, forged), false},
		{"not that format", list + ".lz4", plain, false},
		{"not listed", "contrib/binary-amd64/Packages", plain, false},
		{"outside any suite", "../other/" + list, plain, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{ListsDir: t.TempDir()}
			listsOf(t, cfg.ListsDir, r, map[string][]byte{tt.file: tt.data})
			x := openIndex(t, cfg)
			check(t, x.loadLists(t.Context()))
			if e := x.Lookup(dists+"/"+list, alice); e.Kind != KindIndex || !e.Trusted || e.Parse == tt.known {
				t.Errorf("list: got %+v", e)
			}
			if e := x.Lookup(base+"/pool/a.deb", alice); (e.Kind == KindFile) != tt.known {
				t.Errorf("file: got %+v", e)
			}
		})
	}
}

func TestListsWithDetachedSignature(t *testing.T) {
	r := stable(july, "pool/a.deb", "a")
	lists := t.TempDir()
	write(t, filepath.Join(lists, trust.ListsFile(dists+"/Release")), []byte(r.release()))
	write(t, filepath.Join(lists, trust.ListsFile(dists+"/Release.gpg")), detached(t, r.release(), archiveKey()))
	write(t, filepath.Join(lists, trust.ListsFile(dists+"/"+list)), r.files[list])
	x := openIndex(t, Config{ListsDir: lists})
	check(t, x.loadLists(t.Context()))
	e := x.Lookup(base+"/pool/a.deb", alice)
	wantEntry(t, e, KindFile, "a")
	if !e.Trusted {
		t.Error("not trusted")
	}
}

// The names in sources.list are percent-encoded, and flat repositories have "./".
func TestListedName(t *testing.T) {
	tests := []struct{ file, want string }{
		{"deb.debian.org_debian_dists_sid_InRelease", "deb.debian.org/debian/dists/sid/InRelease"},
		{"h_repo_._InRelease", "h/repo/InRelease"},
		{"h_a%252bb_InRelease", "h/a+b/InRelease"},
		{"lock", ""},
		{"h_a%2f..%2fb_Release", ""},
	}
	for _, tt := range tests {
		if got, ok := listedName(tt.file); ok != (tt.want != "") || ok && got != tt.want {
			t.Errorf("%s: got %q, %v", tt.file, got, ok)
		}
	}
}

func TestUnchangedListsAreNotReadAgain(t *testing.T) {
	r := stable(july, "pool/a.deb", "a")
	cfg := Config{Dir: t.TempDir(), ListsDir: t.TempDir(), Trust: loadTrust(t)}
	listsOf(t, cfg.ListsDir, r, map[string][]byte{list: r.files[list], "main/binary-amd64/Release": []byte("x")})
	x := openIndex(t, cfg)
	check(t, x.loadLists(t.Context()))
	x.saveChanges()

	x = openIndex(t, cfg)
	before := x.arrivals
	check(t, os.Remove(filepath.Join(cfg.ListsDir, trust.ListsFile(dists+"/"+list))))
	check(t, x.loadLists(t.Context()))
	wantEntry(t, x.Lookup(base+"/pool/a.deb", alice), KindFile, "a")
	if x.arrivals != before {
		t.Error("InRelease was read again")
	}

	check(t, os.Remove(filepath.Join(cfg.ListsDir, trust.ListsFile(dists+"/InRelease"))))
	check(t, x.loadLists(t.Context()))
	if len(x.lists) != 0 || !x.dirty {
		t.Error("remembers a file that is gone")
	}
}

// apt's own copy may be damaged: that is said once, and the list is still wanted of the mirror.
func TestDamagedListIsReadOnce(t *testing.T) {
	r := stable(july, "pool/a.deb", "a")
	var log bytes.Buffer
	lists := t.TempDir()
	listsOf(t, lists, r, map[string][]byte{list: packages("pool/a.deb", "damaged")})
	x := openIndex(t, Config{ListsDir: lists, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 2 {
		check(t, x.loadLists(t.Context()))
	}
	if n := strings.Count(log.String(), "left out"); n != 1 {
		t.Errorf("read %d times; log: %s", n, &log)
	}
	if !x.Lookup(dists+"/"+list, alice).Parse {
		t.Error("not wanted any more")
	}
	listsOf(t, lists, r, map[string][]byte{list: r.files[list]})
	check(t, x.loadLists(t.Context()))
	wantEntry(t, x.Lookup(base+"/pool/a.deb", alice), KindFile, "a")
}

func TestBadRootInLists(t *testing.T) {
	var log bytes.Buffer
	lists := t.TempDir()
	file := trust.ListsFile(dists + "/InRelease")
	write(t, filepath.Join(lists, file), []byte("<html>"))
	write(t, filepath.Join(lists, trust.ListsFile("h/repo/InRelease")), make([]byte, trust.MaxRelease+1))
	x := openIndex(t, Config{ListsDir: lists, Log: slog.New(slog.NewTextHandler(&log, nil))})
	check(t, x.loadLists(t.Context()))
	if origins, _ := x.Stats(); origins != 0 || strings.Count(log.String(), "left out") != 2 || !strings.Contains(log.String(), file) {
		t.Errorf("%d repositories; log: %s", origins, &log)
	}
}

func TestListsThatAppearAreNoticed(t *testing.T) {
	lists := t.TempDir()
	heard := newRecorder()
	x := openIndex(t, Config{ListsDir: lists, Log: slog.New(slog.NewTextHandler(heard, nil))})
	ctx, stop := contextWithStop(t)
	done := make(chan error)
	go func() { done <- x.Run(ctx) }()
	r := stable(july, "pool/a.deb", "a")
	listsOf(t, lists, r, nil)
	heard.wait(t, "new generation")
	stop()
	check(t, <-done)
}

func TestListsAreReadOnceTheyCanBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lists := filepath.Join(t.TempDir(), "later")
		var log bytes.Buffer
		x := openIndex(t, Config{ListsDir: lists, Log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, stop := contextWithStop(t)
		done := make(chan error)
		go func() { done <- x.Run(ctx) }()
		time.Sleep(5 * pollTime)
		stop()
		check(t, <-done)
		if n := strings.Count(log.String(), "cannot be read"); n != 1 {
			t.Errorf("complained %d times: %s", n, &log)
		}
	})
}

// recorder collects a log and lets a test wait for a line of it.
type recorder struct {
	pipe *io.PipeReader
	*io.PipeWriter
}

func newRecorder() recorder {
	r, w := io.Pipe()
	return recorder{r, w}
}

// wait returns once the log holds text, and lets all further lines pass.
func (r recorder) wait(t *testing.T, text string) {
	t.Helper()
	defer r.pipe.Close()
	buf := make([]byte, 4096)
	for {
		n, err := r.pipe.Read(buf)
		check(t, err)
		if strings.Contains(string(buf[:n]), text) {
			return
		}
	}
}
