// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
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

	"apt-dht/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testRest is longer than the grain of a file system's times, which is a jiffy.
const testRest = 25 * time.Millisecond

// patience is for what must come, and comes after a few testRest.
const patience = time.Minute

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

func (r *recorder) count(line string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Count(r.buf.Bytes(), []byte(line))
}

// A bench is a Set that runs, with what it has told.
type bench struct {
	*Set
	t      testing.TB
	dir    string
	log    *recorder
	cfg    Config
	events chan struct{} // one is there after something was told
	stop   func()

	mu    sync.Mutex // guards following
	blobs map[Digest]bool
	told  int
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newBench prepares a bench with an empty directory.
func newBench(t testing.TB) *bench {
	b := &bench{t: t, dir: t.TempDir(), log: new(recorder), events: make(chan struct{}, 1), stop: func() {}}
	check(t, os.Chmod(b.dir, 0o755))
	b.cfg = Config{
		Dir: b.dir, Cache: t.TempDir(), Rate: 1 << 40, Rest: testRest, Changed: b.changed,
		Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	t.Cleanup(func() { b.stop() })
	return b
}

// changed checks that what is told makes sense.
func (b *bench) changed(added, gone []Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told++
	if len(added) > maxTold || len(gone) > maxTold {
		b.t.Errorf("told of %d and %d at once", len(added), len(gone))
	}
	for _, d := range added {
		if b.blobs[d] {
			b.t.Errorf("%x added twice", d[:4])
		}
		b.blobs[d] = true
	}
	for _, d := range gone {
		if !b.blobs[d] {
			b.t.Errorf("%x gone that was not there", d[:4])
		}
		delete(b.blobs, d)
	}
	select {
	case b.events <- struct{}{}:
	default:
	}
}

// start opens the set and runs it until stop.
func (b *bench) start() *bench {
	b.t.Helper()
	b.blobs = make(map[Digest]bool)
	s, err := Open(b.cfg)
	check(b.t, err)
	b.run(s)
	return b
}

func (b *bench) run(s *Set) {
	b.Set = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Run: %v", err)
		}
		check(b.t, s.Close())
		b.stop = func() {}
	}
}

func (b *bench) path(rel string) string { return filepath.Join(b.dir, rel) }

// write makes a public file in public directories, and returns the digest.
func (b *bench) write(rel string, data []byte) Digest {
	b.t.Helper()
	check(b.t, os.MkdirAll(filepath.Dir(b.path(rel)), 0o755))
	check(b.t, os.WriteFile(b.path(rel), data, 0o644))
	return sha256.Sum256(data)
}

func (b *bench) remove(rel string) {
	b.t.Helper()
	check(b.t, os.RemoveAll(b.path(rel)))
}

func (b *bench) rename(from, to string) {
	b.t.Helper()
	check(b.t, os.MkdirAll(filepath.Dir(b.path(to)), 0o755))
	check(b.t, os.Rename(b.path(from), b.path(to)))
}

// eventually waits until ok, and asks again whenever something was told, or a while has passed.
func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-b.events:
		case <-time.After(testRest):
		case <-deadline:
			b.t.Fatalf("never: %s; stats %+v\n%s", what, b.Stats(), b.log.buf.String())
		}
	}
}

// read returns a blob's bytes, nil if it is not to be had, and checks them.
func (b *bench) read(d Digest) []byte {
	b.t.Helper()
	blob, err := b.Get(d)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	check(b.t, err)
	defer blob.Close()
	got, err := io.ReadAll(blob)
	check(b.t, err)
	if sha256.Sum256(got) != d || blob.Size != int64(len(got)) || blob.Digest != d {
		b.t.Errorf("blob %x gives %d bytes that hash to something else; its size is said to be %d", d[:4], len(got), blob.Size)
	}
	return got
}

// comes waits until blobs are told of and given out.
func (b *bench) comes(digests ...Digest) {
	b.t.Helper()
	for _, d := range digests {
		b.eventually("blob comes", func() bool { return b.has(d) && b.read(d) != nil })
	}
}

// goes waits until blobs are told to be gone, and are not given out.
func (b *bench) goes(digests ...Digest) {
	b.t.Helper()
	for _, d := range digests {
		b.eventually("blob goes", func() bool { return !b.has(d) })
		if _, ok := b.Stat(d); ok || b.read(d) != nil {
			b.t.Errorf("%x is still given out", d[:4])
		}
	}
}

func (b *bench) has(d Digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.blobs[d]
}

// rests waits until all that has happened so far has been looked at: a file written now has come,
// so all that were noted before it have been looked at as well.
func (b *bench) rests() {
	b.t.Helper()
	mark := b.write("mark", random(32))
	b.comes(mark)
	b.remove("mark")
	b.goes(mark)
}

func (b *bench) wantNone() {
	b.t.Helper()
	b.rests()
	if got := b.Stats().Blobs; got != 0 {
		b.t.Errorf("%d blobs are offered, want none", got)
	}
}

func random(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte(binary.NativeEndian.AppendUint64(make([]byte, 24), rand.Uint64()))).Read(data)
	return data
}
