// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func create(t testing.TB, s *Store, d Digest, size int64) *Growing {
	t.Helper()
	g, err := s.Create(d, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Discard(nil); err != nil {
			t.Error(err)
		}
	})
	return g
}

func write(t testing.TB, g *Growing, b []byte) {
	t.Helper()
	if n, err := g.Write(b); n != len(b) || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
}

// follow reads a Growing to its end as a client would.
func follow(ctx context.Context, g *Growing) ([]byte, error) {
	r, err := g.NewReader()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var got []byte
	for {
		readable, err := r.Wait(ctx, int64(len(got)))
		if readable > int64(len(got)) {
			part := make([]byte, readable-int64(len(got)))
			if _, err := io.ReadFull(r.File, part); err != nil {
				return got, err
			}
			got = append(got, part...)
		}
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}

func TestManyReadersFollow(t *testing.T) {
	s := open(t, Config{})
	for _, known := range []bool{true, false} {
		b, d := blob(3, 2*PieceSize+12345)
		want := d
		if !known {
			want = Digest{}
		}
		g := create(t, s, want, -1)
		if err := g.SetSize(int64(len(b))); err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		for range 40 {
			readers.Go(func() {
				got, err := follow(t.Context(), g)
				if err != nil || !bytes.Equal(got, b) {
					t.Errorf("reader got %d bytes, %v", len(got), err)
				}
			})
		}
		for rest := b; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(50_000))
			write(t, g, rest[:n])
			rest = rest[n:]
		}
		if got, err := g.Commit(Meta{}); got != d || err != nil {
			t.Errorf("Commit = %x, %v", got, err)
		}
		readers.Wait()
		if got, err := follow(t.Context(), g); err != nil || !bytes.Equal(got, b) {
			t.Errorf("a reader that came late got %d bytes, %v", len(got), err)
		}
	}
}

func TestHeldBack(t *testing.T) {
	const k = heldBack
	tests := []struct {
		name     string
		known    bool
		size     int64
		written  int
		readable int64
	}{
		{"known, inside", true, 10 * k, 3 * k, 3 * k},
		{"known, at the held end", true, 10 * k, 9 * k, 9 * k},
		{"known, all", true, 10 * k, 10 * k, 9 * k},
		{"known, small", true, k, k, 0},
		{"known, tiny", true, 5, 5, 0},
		{"known, size unknown", true, -1, 3 * k, 2 * k},
		{"known, size unknown, small", true, -1, k, 0},
		{"unknown", false, 10 * k, 10 * k, 10 * k},
		{"unknown, size unknown", false, -1, 5, 5},
	}
	s := open(t, Config{})
	for i, test := range tests {
		b, d := blob(uint64(i), test.written)
		if !test.known {
			d = Digest{}
		}
		g := create(t, s, d, test.size)
		write(t, g, b)
		readable, _, err := g.readable(0)
		if readable != test.readable || err != nil {
			t.Errorf("%s: readable up to %d, %v, want %d", test.name, readable, err, test.readable)
		}
		r, err := g.NewReader()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		n, err := r.ReadAt(make([]byte, test.written+1), 0)
		if int64(n) != test.readable || err != io.EOF {
			t.Errorf("%s: ReadAt = %d, %v, want %d", test.name, n, err, test.readable)
		}
	}
}

func TestMismatch(t *testing.T) {
	right, d := blob(1, 100_000)
	tests := []struct {
		name string
		size int64
		b    []byte
	}{
		{"wrong bytes", 100_000, append([]byte{right[0] ^ 1}, right[1:]...)},
		{"short", 100_000, right[:99_999]},
		{"empty", 100_000, nil},
		{"wrong bytes, size unknown", -1, right[:5]},
	}
	s := open(t, Config{})
	for _, test := range tests {
		g := create(t, s, d, test.size)
		r, err := g.NewReader()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		write(t, g, test.b)
		before, _, _ := g.readable(0)
		_, err = g.Commit(Meta{})
		mismatch := (*MismatchError)(nil)
		if !errors.As(err, &mismatch) || mismatch.Want != d || mismatch.Got != sha256.Sum256(test.b) || mismatch.GotSize != int64(len(test.b)) {
			t.Errorf("%s: Commit = %v", test.name, err)
		}
		readable, err := r.Wait(t.Context(), before)
		if !errors.As(err, &mismatch) || readable != before || test.b != nil && readable == int64(len(test.b)) {
			t.Errorf("%s: a reader got %d bytes, %v", test.name, readable, err)
		}
		if names := append(files(t, s, "blobs"), files(t, s, "partial")...); len(names) != 0 {
			t.Errorf("%s: left %q", test.name, names)
		}
		wantNoBlob(t, s, d)
	}
}

func TestSizes(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 1000)
	g := create(t, s, d, 1000)
	write(t, g, b[:600])
	n, err := g.Write(b[:401])
	wantErr(t, err, ErrTooLong)
	if n != 0 || g.Len() != 600 || g.Size() != 1000 {
		t.Errorf("Write too long = %d, Len = %d, Size = %d", n, g.Len(), g.Size())
	}
	mismatch := (*MismatchError)(nil)
	if err := g.SetSize(999); !errors.As(err, &mismatch) {
		t.Errorf("SetSize(999) = %v", err)
	}
	if err := g.SetSize(1000); err != nil {
		t.Error(err)
	}
	free := create(t, s, Digest{}, -1)
	write(t, free, b)
	wantErr(t, free.SetSize(999), ErrTooLong)
	wantErr(t, free.SetSize(s.cfg.Quota*2), ErrNoSpace)
}

func TestBusy(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 1000)
	for _, end := range []func(*Growing) error{
		func(g *Growing) error { return g.Discard(nil) },
		(*Growing).Suspend,
		func(g *Growing) error { _, err := g.Write(b[g.Len():]); return err },
		func(g *Growing) error { return g.Discard(nil) },
	} {
		g := create(t, s, d, 1000)
		_, err := s.Create(d, 1000)
		wantErr(t, err, ErrBusy)
		if g.Len() == 0 {
			write(t, g, b[:10])
		}
		if err := end(g); err != nil {
			t.Fatal(err)
		}
		if g.Len() == 1000 {
			if _, err := g.Commit(Meta{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestSuspendAndResume(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 2*PieceSize+500)
	for _, step := range []struct {
		from, to int
		stop     func(testing.TB, *Store) *Store
	}{
		{0, PieceSize + 7, func(_ testing.TB, s *Store) *Store { return s }},
		{PieceSize + 7, PieceSize + 8, reopen},
		{PieceSize + 8, 2 * PieceSize, crash},
	} {
		g := create(t, s, d, int64(len(b)))
		if g.Len() != int64(step.from) {
			t.Fatalf("resumed at %d, want %d", g.Len(), step.from)
		}
		r, err := g.NewReader()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		write(t, g, b[step.from:step.to])
		if err := g.Suspend(); err != nil {
			t.Fatal(err)
		}
		_, err = r.Wait(t.Context(), int64(step.to))
		wantErr(t, err, ErrSuspended)
		_, err = g.Write(b[:1])
		wantErr(t, err, ErrSuspended)
		_, err = g.NewReader()
		wantErr(t, err, ErrSuspended)
		s = step.stop(t, s)
	}
	g := create(t, s, d, int64(len(b)))
	write(t, g, b[2*PieceSize:])
	if _, err := g.Commit(Meta{}); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, d)
	wantPieces(t, s, d, b)
}

func TestResumeOddities(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 1000)
	path := s.partialPath(d)
	if err := os.WriteFile(path, make([]byte, 1001), 0o644); err != nil {
		t.Fatal(err)
	}
	g := create(t, s, d, 1000)
	if g.Len() != 0 {
		t.Errorf("resumed %d bytes of a file that is too long", g.Len())
	}
	write(t, g, b)
	if _, err := g.Commit(Meta{}); err != nil {
		t.Error(err)
	}
	for name, make := range map[string]func() error{
		"directory": func() error { return os.Mkdir(path, 0o755) },
		"symlink":   func() error { return os.Symlink(s.blobPath(d), path) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second is not busy
			if _, err := s.Create(d, 1000); err == nil || errors.Is(err, ErrBusy) {
				t.Errorf("%s: Create = %v", name, err)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	wantBlob(t, s, d)
}

func TestEndedGrowing(t *testing.T) {
	s := open(t, Config{})
	cause := errors.New("mirror went away")
	b, d := blob(1, 50_000)
	g := create(t, s, d, 50_000)
	r, err := g.NewReader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	write(t, g, b)
	if err := g.Discard(cause); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Wait(t.Context(), 0); n != 50_000-heldBack || err != nil {
		t.Errorf("Wait before the end = %d, %v", n, err)
	}
	_, err = r.Wait(t.Context(), 50_000-heldBack)
	wantErr(t, err, cause)
	got := make([]byte, 10)
	if _, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, b[:10]) {
		t.Errorf("the reader's file: %x, %v", got, err)
	}
	_, err = g.Write(b)
	wantErr(t, err, cause)
	if _, err = g.Commit(Meta{}); err == nil {
		t.Error("Commit after Discard")
	}
	if err := errors.Join(g.Suspend(), g.Discard(nil)); err != nil {
		t.Error(err)
	}
	wantNoBlob(t, s, d)
}

// A reader keeps what it reads, whatever becomes of the blob.
func TestReaderOutlivesBlob(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 50_000)
	g := create(t, s, d, 50_000)
	r, err := g.NewReader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	write(t, g, b)
	if _, err := g.Commit(Meta{}); err != nil {
		t.Fatal(err)
	}
	opened, err := s.Get(d)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if _, err := s.remove(d); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{r.File, opened.File} {
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, b) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	}
	_, err = g.NewReader()
	wantErr(t, err, ErrNotFound)
}

// Waiters sleep until there is more for them, and no longer than their context.
func TestWaitWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := blob(1, 3*heldBack)
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		g := &Growing{s: &Store{}, known: true, want: d, size: int64(len(b)), file: file, chain: newChain(), hashed: true}
		woken := 0
		go func() {
			for off := int64(0); ; woken++ {
				var err error
				if off, err = g.Wait(t.Context(), off); err != nil {
					return
				}
			}
		}()
		for i, want := range []int{1, 2, 2} { // the last third is held back
			write(t, g, b[i*heldBack:(i+1)*heldBack])
			synctest.Wait()
			if woken != want {
				t.Errorf("after write %d: woken %d times, want %d", i, woken, want)
			}
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("patience"))
		defer cancel()
		start := time.Now()
		n, err := g.Wait(ctx, 2*heldBack)
		if n != 2*heldBack || err == nil || err.Error() != "patience" || time.Since(start) != time.Minute {
			t.Errorf("Wait = %d, %v after %v", n, err, time.Since(start))
		}
		if n := testing.AllocsPerRun(100, func() { g.Write(nil) }); n > 0 {
			t.Errorf("a write that nobody waits for allocates %v times", n)
		}
		g.mu.Lock()
		g.end = io.EOF
		g.more.wake()
		g.mu.Unlock()
	})
}

func TestCommitChecksMeta(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 10)
	g := create(t, s, d, 10)
	write(t, g, b)
	_, err := g.Commit(Meta{ContentType: string(make([]byte, 2000))})
	wantErr(t, err, ErrTooLong)
	wantNoBlob(t, s, d)
}
