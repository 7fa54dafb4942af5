// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// Suspend keeps the whole blocks of the front, and what is proven of the tail; nothing else.
func TestSuspendKeepsTheTail(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 5*PieceSize+9)
	for name, front := range map[string]int{"no front": 0, "a front": PieceSize + 5} {
		g := create(t, s, d, int64(len(b)))
		g.SetOrigin("http://a/b")
		write(t, g, b[:front])
		putPieces(t, g, b, 4)
		goOn := slowPut(g, b, 3)
		if err := g.Suspend(); err != nil {
			t.Fatal(err)
		}
		_, err := goOn()
		wantErr(t, err, ErrTaken)
		_, err = g.PutPiece(2, Digest{}, bytes.NewReader(b))
		wantErr(t, err, ErrSuspended)
		s = reopen(t, s)
		g = create(t, s, d, int64(len(b)))
		if _, err := g.PutPiece(3, Digest{}, bytes.NewReader(b)); err == nil {
			t.Errorf("%s: a piece was put before what was kept is known", name)
		}
		if err := g.Resume(); err != nil {
			t.Fatal(err)
		}
		if want := int64(front / 64 * 64); g.Len() != want || g.Tail() != 4*PieceSize || g.Origin() != "http://a/b" {
			t.Errorf("%s: Len = %d, Tail = %d, Origin = %q", name, g.Len(), g.Tail(), g.Origin())
		}
		if err := g.Suspend(); err != nil { // and again
			t.Fatal(err)
		}
		g = create(t, s, d, int64(len(b)))
		if err := g.Resume(); err != nil {
			t.Fatal(err)
		}
		if err := g.Prove(putPiece(t, g, b, 3)); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Write(b[g.Len() : 3*PieceSize]); !errors.Is(err, ErrMet) {
			t.Errorf("%s: Write = %v", name, err)
		}
		if _, err := g.Commit(Meta{}); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, s, d)
		wantNoPartial(t, s)
		states, err := s.Pieces(d)
		if want := startsOf(b)[1:]; err != nil || !slices.Equal(states, want) {
			t.Errorf("%s: the states are not the blob's: %v", name, err)
		}
		s.remove(d)
	}
}

// putPiece puts the right piece i of b.
func putPiece(t testing.TB, g *Growing, b []byte, i int) Piece {
	t.Helper()
	p, err := g.PutPiece(i, startsOf(b)[i], bytes.NewReader(pieceOf(b, i)))
	if err != nil {
		t.Error(err)
	}
	return p
}

// killed opens what a kill would leave just now.
func killed(t *testing.T, s *Store) *Store {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "partial"), os.DirFS(s.partialDir())); err != nil {
		t.Fatal(err)
	}
	return open(t, Config{Dir: dir})
}

// wantResumed resumes b, of which so much must be there, and gets the rest from both ends.
func wantResumed(t *testing.T, s *Store, b []byte, d Digest, front, tail int64) {
	t.Helper()
	g := create(t, s, d, int64(len(b)))
	if err := g.Resume(); err != nil {
		t.Fatal(err)
	}
	if g.Len() != front || g.Tail() != tail {
		t.Errorf("Len = %d, Tail = %d, want %d and %d", g.Len(), g.Tail(), front, tail)
	}
	i := int(g.Tail()-1) / PieceSize
	if err := g.Prove(putPiece(t, g, b, i)); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Write(b[g.Len():]); err != ErrMet {
		t.Fatal(err)
	}
	wantStored(t, g, b)
}

// A kill loses of front and tail what came in the last second, or the last noteBytes; nobody need have
// proven anything.
func TestKillKeepsBoth(t *testing.T) {
	const p = PieceSize
	b, d := blob(1, 20*p+9)
	tests := []struct {
		name        string
		do          func(*testing.T, *Growing)
		front, tail int64
	}{
		{"before the first piece", func(t *testing.T, g *Growing) {
			write(t, g, b[:2*p+100])
		}, 2*p + 100, 20*p + 9},
		{"in the first piece", func(t *testing.T, g *Growing) {
			write(t, g, b[:2*p+100])
			_, err := g.PutPiece(20, Digest{}, strings.NewReader("wrong"))
			wantErr(t, err, io.ErrUnexpectedEOF)
		}, 2*p + 64, 20*p + 9},
		{"before the first proof", func(t *testing.T, g *Growing) {
			putPiece(t, g, b, 19)
			write(t, g, b[:p])
			time.Sleep(noteEvery)
			write(t, g, b[p:p+1000])
		}, (p + 1000) / 64 * 64, 20*p + 9},
		{"before the first proof, no time later", func(t *testing.T, g *Growing) {
			putPiece(t, g, b, 19)
			write(t, g, b[:17*p])
		}, noteBytes, 20*p + 9},
		{"after the tail has stalled", func(t *testing.T, g *Growing) {
			putPieces(t, g, b, 18)
			for range 3 {
				time.Sleep(noteEvery)
				write(t, g, b[g.Len():g.Len()+p/2])
			}
		}, 3 * p / 2, 18 * p},
		{"after the front has stalled", func(t *testing.T, g *Growing) {
			write(t, g, b[:p+5])
			putPiece(t, g, b, 3)
			time.Sleep(noteEvery)
			putPieces(t, g, b, 20)
		}, p, 20 * p},
		{"of both some", func(t *testing.T, g *Growing) {
			write(t, g, b[:2*p])
			putPieces(t, g, b, 10)
			write(t, g, b[2*p:9*p])
		}, 8 * p, 10 * p},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, Config{})
			g := create(t, s, d, int64(len(b)))
			synctest.Test(t, func(t *testing.T) { test.do(t, g) })
			wantResumed(t, killed(t, s), b, d, test.front, test.tail)
		})
	}
}

// suspendHoled leaves a front of 2 pieces and a tail from the 4th, whose older note says from the 5th.
func suspendHoled(t *testing.T, s *Store, b []byte, d Digest) {
	t.Helper()
	g := create(t, s, d, int64(len(b)))
	synctest.Test(t, func(t *testing.T) { // no time passes, so nothing else is noted
		write(t, g, b[:2*PieceSize])
		putPieces(t, g, b, 5)
		if err := g.takeNote(true); err != nil {
			t.Error(err)
		}
		if err := errors.Join(g.Prove(putPiece(t, g, b, 4)), g.Suspend()); err != nil {
			t.Error(err)
		}
	})
}

// overwrite changes some bytes of a file.
func overwrite(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("wrong"), off); err != nil {
		t.Fatal(err)
	}
}

// replace puts something else in a file's place, which is left under the name returned.
func replace(t *testing.T, path string, by func(path, was string) error) {
	t.Helper()
	was := filepath.Join(t.TempDir(), "was")
	if err := errors.Join(os.Rename(path, was), by(path, was)); err != nil {
		t.Fatal(err)
	}
}

var inPlace = map[string]func(path, was string) error{
	"nothing":          func(string, string) error { return nil },
	"an empty file":    func(path, _ string) error { return os.WriteFile(path, nil, 0o644) },
	"a symlink":        func(path, was string) error { return os.Symlink(was, path) },
	"a directory":      func(path, _ string) error { return os.Mkdir(path, 0o755) },
	"a full directory": func(path, _ string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o755) },
	"a pipe":           func(path, _ string) error { return unix.Mkfifo(path, 0o644) },
}

func same(_ testing.TB, s *Store) *Store { return s }

// A note is believed as far as the bytes bear it out, and no further.
func TestWrongNotes(t *testing.T) {
	const p = PieceSize
	b, d := blob(1, 5*p+9)
	const size = 5*p + 9
	renote := func(change func(*note)) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			n, err := s.readNote(d)
			if err != nil {
				t.Fatal(err)
			}
			change(&n)
			if err := os.WriteFile(s.notePath(d), slices.Concat(n.encode(), n.encode()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	notes := func(off ...int) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			for _, off := range off {
				overwrite(t, s.notePath(d), int64(off))
			}
		}
	}
	file := func(off int64) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) { overwrite(t, s.holesPath(d), off) }
	}
	cut := func(path func(*Store, Digest) string, at int64) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			if err := os.Truncate(path(s, d), at); err != nil {
				t.Fatal(err)
			}
		}
	}
	type test struct {
		spoil       func(*testing.T, *Store)
		front, tail int64
	}
	tests := map[string]test{
		"right":              {func(*testing.T, *Store) {}, 2 * p, 4 * p},
		"the tail":           {file(4*p + 100), 2 * p, size},
		"the front":          {file(100), 0, 4 * p},
		"front and tail":     {func(t *testing.T, s *Store) { file(100)(t, s); file(5*p)(t, s) }, 0, size},
		"the hole":           {file(3 * p), 2 * p, 4 * p},
		"the state":          {renote(func(n *note) { n.Next[0]++ }), 2 * p, size},
		"the border":         {renote(func(n *note) { n.Border[0]++ }), 0, 4 * p},
		"a shorter front":    {renote(func(n *note) { n.Front -= 64 }), 0, 4 * p},
		"too long a front":   {renote(func(n *note) { n.Front = 4*p + 64 }), 0, size},
		"an odd front":       {renote(func(n *note) { n.Front++ }), 0, size},
		"an earlier tail":    {renote(func(n *note) { n.At-- }), 2 * p, size},
		"no tail":            {renote(func(n *note) { n.At = 6 }), 2 * p, size},
		"another size":       {renote(func(n *note) { n.Size += p }), 2 * p, size},
		"the newer note":     {notes(20), 2 * p, 5 * p},
		"the older note":     {notes(noteLen + 20), 2 * p, 4 * p},
		"both notes":         {notes(20, noteLen+20), 0, size},
		"the older note cut": {cut((*Store).notePath, int64(2*noteLen-1)), 2 * p, 4 * p},
		"the newer note cut": {cut((*Store).notePath, int64(noteLen-1)), 0, size},
		"the tail cut":       {cut((*Store).holesPath, 4*p+7), 2 * p, size},
		"all but some cut":   {cut((*Store).holesPath, 7), 7, size},
	}
	for name, by := range inPlace {
		tests["for the note "+name] = test{func(t *testing.T, s *Store) { replace(t, s.notePath(d), by) }, 0, size}
		if name != "a full directory" { // beside which nothing can have a hole
			tests["for the file "+name] = test{func(t *testing.T, s *Store) { replace(t, s.holesPath(d), by) }, 0, size}
		}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, next := range []func(testing.TB, *Store) *Store{same, reopen} {
				s := open(t, Config{})
				suspendHoled(t, s, b, d)
				test.spoil(t, s)
				wantResumed(t, next(t, s), b, d, test.front, test.tail)
			}
		})
	}
}

// Where the size is said to be another the tail is not right, but the front may be.
func TestKeptOfAnotherSize(t *testing.T) {
	b, d := blob(1, 5*PieceSize+9)
	for size, front := range map[int64]int64{-1: 2 * PieceSize, 7 * PieceSize: 2 * PieceSize, PieceSize: 0} {
		s := open(t, Config{})
		suspendHoled(t, s, b, d)
		g := create(t, s, d, size)
		if err := g.Resume(); err != nil || g.Len() != front || g.Tail() != size {
			t.Errorf("%d bytes: %v, Len = %d, Tail = %d", size, err, g.Len(), g.Tail())
		}
		if size < 0 {
			write(t, g, b[front:])
			wantStored(t, g, b)
			continue
		}
		write(t, g, bytes.Repeat([]byte("x"), int(size-front)))
		_, err := g.Commit(Meta{})
		wantMismatch(t, err)
		wantNoBlob(t, s, d)
		wantNoPartial(t, s)
	}
}

// While front and tail grow and notes are written from everywhere, each says what is there.
func TestNotesAreTrueAtAnyTime(t *testing.T) {
	const rounds = 11
	b, d := blob(1, 12*PieceSize)
	s, other := open(t, Config{}), open(t, Config{})
	g := create(t, s, d, int64(len(b)))
	putPiece(t, g, b, 11)
	stop := make(chan struct{})
	var work sync.WaitGroup
	for range 2 {
		work.Go(func() { takeNotes(t, g, stop) })
	}
	work.Go(func() { putPieces(t, g, b, 6) })
	for range rounds {
		write(t, g, b[g.Len():g.Len()+PieceSize/2])
		n, err := s.readNote(d)
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(s.holesPath(d)) // after the note, as a kill
		if err = errors.Join(err, os.WriteFile(other.holesPath(d), file, 0o644), other.writeNote(d, n)); err != nil {
			t.Fatal(err)
		}
		resumed := create(t, other, d, int64(len(b)))
		if err := resumed.Resume(); err != nil || resumed.Len() != n.Front || resumed.Tail() != n.tail() {
			t.Errorf("%v, Len = %d, Tail = %d of %+v", err, resumed.Len(), resumed.Tail(), n)
		}
		resumed.Discard(nil)
	}
	close(stop)
	work.Wait()
	if _, err := g.Write(b[g.Len():]); err != ErrMet {
		t.Error(err)
	}
	wantStored(t, g, b)
}

func takeNotes(t *testing.T, g *Growing, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
			if err := g.takeNote(true); err != nil {
				t.Error(err)
			}
		}
	}
}

// Whoever still wants to write a note when the blob ends leaves none.
func TestNoNoteAfterTheEnd(t *testing.T) {
	b, d := blob(1, 2*PieceSize)
	s := open(t, Config{})
	for name, end := range map[string]func(*Growing) error{
		"Commit":  func(g *Growing) error { _, err := g.Commit(Meta{}); return err },
		"Discard": func(g *Growing) error { return g.Discard(nil) },
		"Suspend": func(g *Growing) error { return g.Suspend() },
	} {
		for range 20 {
			g := create(t, s, d, int64(len(b)))
			putPiece(t, g, b, 1) // not proven, so that front and tail do not meet
			write(t, g, b)
			stop := make(chan struct{})
			var work sync.WaitGroup
			for range 2 {
				work.Go(func() { takeNotes(t, g, stop) })
			}
			if err := end(g); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			close(stop)
			work.Wait()
			if left := files(t, s, "partial"); len(left) != 0 && name != "Suspend" || slices.ContainsFunc(left, func(f string) bool { return strings.HasSuffix(f, noteSuffix) }) {
				t.Fatalf("%s left %q", name, left)
			}
			os.Remove(s.partialPath(d))
			s.remove(d)
		}
	}
}

// Open removes halves of what was kept, and nothing of other people's.
func TestOrphans(t *testing.T) {
	s := open(t, Config{})
	_, d := blob(1, 1)
	for _, name := range []string{filepath.Base(s.holesPath(d)), "other" + holesSuffix, "other2" + noteSuffix} {
		if err := os.WriteFile(filepath.Join(s.partialDir(), name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s = reopen(t, s)
	if left := files(t, s, "partial"); !slices.Equal(left, []string{"other" + holesSuffix, "other2" + noteSuffix}) {
		t.Errorf("left %q", left)
	}
}

func FuzzNote(f *testing.F) {
	older := note{Seq: 4, Size: 5*PieceSize + 9, Front: PieceSize, At: 6}
	newer := note{Seq: 5, Size: 5*PieceSize + 9, Front: PieceSize + 64, At: 4}
	f.Add(slices.Concat(older.encode(), newer.encode()))
	f.Add(newer.encode())
	f.Add([]byte(noteMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := newestNote(b)
		if err != nil {
			return
		}
		places := slices.Collect(slices.Chunk(b, noteLen))
		if !slices.ContainsFunc(places, func(b []byte) bool { return bytes.Equal(b, n.encode()) }) {
			t.Errorf("%+v is none of the notes in %x", n, b)
		}
		for _, place := range places {
			if other, err := decodeNote(place); err == nil && other.Seq > n.Seq {
				t.Errorf("%+v is newer than %+v", other, n)
			}
		}
		if n.Size <= PieceSize || n.At < 1 || n.Front < 0 || n.Front%64 != 0 || n.Front > n.tail() || n.tail() > n.Size || n.bytes() > n.Size {
			t.Errorf("%+v is not of a partial file", n)
		}
	})
}
