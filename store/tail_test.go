// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// startsOf returns the state before each piece of b.
func startsOf(b []byte) []Digest {
	c := newChain()
	c.Write(b)
	return append([]Digest{initialState}, c.inner()...)
}

func pieceOf(b []byte, i int) []byte { return b[i*PieceSize : min((i+1)*PieceSize, len(b))] }

// putPieces puts and proves the pieces of b from the last down to first.
func putPieces(t testing.TB, g *Growing, b []byte, first int) {
	t.Helper()
	starts := startsOf(b)
	for i := len(starts) - 1; i >= first; i-- {
		p, err := g.PutPiece(i, starts[i], bytes.NewReader(pieceOf(b, i)))
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Prove(p); err != nil {
			t.Fatal(err)
		}
		if g.Tail() != int64(i)*PieceSize {
			t.Fatalf("Tail = %d with piece %d proven", g.Tail(), i)
		}
	}
}

// wantStored commits, and checks the blob and its recorded states.
func wantStored(t testing.TB, g *Growing, b []byte) {
	t.Helper()
	d, err := g.Commit(Meta{})
	if err != nil {
		t.Fatal(err)
	}
	wantBlob(t, g.s, d)
	if n := innerStates(int64(len(b))); g.s.rows.states(d, n) == nil {
		t.Error("states were not recorded")
	}
	wantPieces(t, g.s, d, b)
	wantNoPartial(t, g.s)
	g.s.remove(d)
}

// Wherever the front ends when the pieces come, the two meet and the blob is right.
func TestFrontAndTail(t *testing.T) {
	const p = PieceSize
	tests := []struct {
		name           string
		size           int
		before         int // bytes of the front when the pieces come
		first          int // the piece that comes last
		met            bool
		written, taken int // by the Write of all that the front lacks
	}{
		{"pieces alone", 3*p + 9, 0, 0, true, 0, 0},
		{"pieces alone, whole ones", 2 * p, 0, 0, true, 0, 0},
		{"front then pieces", 3*p + 9, p, 1, true, 0, 0},
		{"front inside a piece", 3*p + 9, p + 5, 2, false, p - 5, 0},
		{"pieces then front", 3*p + 9, 0, 2, false, 2 * p, 0},
		{"only the last piece", 3*p + 9, 0, 3, false, 3 * p, 0},
		{"only the front", 3*p + 9, 0, 4, false, 3*p + 9, 0},
		{"front inside the last", 3*p + 9, 3*p + 1, 4, false, 8, 0},
	}
	s := open(t, Config{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b, d := blob(1, test.size)
			g := create(t, s, d, int64(len(b)))
			write(t, g, b[:test.before])
			putPieces(t, g, b, test.first)
			if met := g.Len() >= g.Tail(); met != test.met {
				t.Errorf("Len = %d, Tail = %d, want met %v", g.Len(), g.Tail(), test.met)
			}
			n, err := g.Write(b[test.before:])
			if alone := test.first*p >= test.size; n != test.written || errors.Is(err, ErrMet) == alone || alone && err != nil {
				t.Errorf("Write = %d, %v, want %d", n, err, test.written)
			}
			if g.Len() != int64(len(b)) {
				t.Errorf("Len = %d at the end", g.Len())
			}
			if test.first*p < test.size {
				if readable, _, _ := g.readable(0); readable != int64(len(b)) {
					t.Errorf("%d bytes are readable before Commit", readable)
				}
			}
			wantStored(t, g, b)
		})
	}
}

// The front takes what is not proven, so that unproven pieces never stop it.
func TestFrontTakesUnproven(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 4*PieceSize)
	starts := startsOf(b)
	g := create(t, s, d, int64(len(b)))
	wrong := bytes.Repeat([]byte("wrong"), PieceSize)
	lied, err := g.PutPiece(1, starts[1], bytes.NewReader(wrong))
	if err != nil {
		t.Fatal(err)
	}
	putPieces(t, g, b, 3)
	write(t, g, b[:PieceSize+1])
	wantErr(t, g.Prove(lied), ErrTaken)
	for _, i := range []int{0, 1, 3} {
		r := strings.NewReader("x")
		_, err := g.PutPiece(i, starts[i], r)
		wantErr(t, err, ErrTaken)
	}
	if _, err := g.Write(b[PieceSize+1:]); err != ErrMet {
		t.Errorf("Write = %v", err)
	}
	if _, err := g.Write(b[:1]); err != ErrMet {
		t.Errorf("Write after the meeting = %v", err)
	}
	wantStored(t, g, b)
}

// A front that does not lead to the proven tail is found out, whichever of them reaches the other.
func TestWrongFront(t *testing.T) {
	b, d := blob(1, 3*PieceSize)
	wrong := bytes.Clone(b)
	wrong[7] ^= 1
	s := open(t, Config{})
	for name, meet := range map[string]func(*testing.T) (*Growing, error){
		"by Write": func(t *testing.T) (*Growing, error) {
			g := create(t, s, d, int64(len(b)))
			putPieces(t, g, b, 1)
			n, err := g.Write(wrong)
			if n != PieceSize {
				t.Errorf("Write = %d", n)
			}
			return g, err
		},
		"by Prove": func(t *testing.T) (*Growing, error) {
			g := create(t, s, d, int64(len(b)))
			write(t, g, wrong[:PieceSize])
			putPieces(t, g, b, 1)
			_, err := g.Write(wrong[PieceSize:])
			return g, err
		},
		"kept": func(t *testing.T) (*Growing, error) {
			keep(t, s, d, int64(len(b)), wrong[:PieceSize])
			g := create(t, s, d, int64(len(b)))
			if err := g.Resume(); err != nil {
				t.Fatal(err)
			}
			putPieces(t, g, b, 1)
			return g, g.Complete(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := meet(t)
			wantMismatch(t, err)
			if readable, _, _ := g.readable(0); readable > PieceSize {
				t.Errorf("%d bytes are readable", readable)
			}
			_, err = g.Commit(Meta{})
			wantMismatch(t, err)
			_, err = g.NewReader()
			wantMismatch(t, err)
			wantNoBlob(t, s, d)
			wantNoPartial(t, s)
		})
	}
}

// keep leaves a suspended beginning.
func keep(t testing.TB, s *Store, d Digest, size int64, front []byte) {
	t.Helper()
	g := create(t, s, d, size)
	write(t, g, front)
	if err := g.Suspend(); err != nil {
		t.Fatal(err)
	}
}

func wantNoPartial(t testing.TB, s *Store) {
	t.Helper()
	if names := files(t, s, "partial"); len(names) != 0 {
		t.Errorf("left %q", names)
	}
}

// A part gives its parts one by one, each when next is called.
type steps struct {
	parts [][]byte
	next  chan struct{}
}

func (s *steps) Read(p []byte) (int, error) {
	<-s.next
	if len(s.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.parts[0])
	s.parts[0] = s.parts[0][n:]
	if len(s.parts[0]) == 0 {
		s.parts = s.parts[1:]
	}
	return n, nil
}

// slowPut puts the right piece i of b, and stands still after its first bytes.
func slowPut(g *Growing, b []byte, i int) (goOn func() (Piece, error)) {
	piece := pieceOf(b, i)
	r := &steps{parts: [][]byte{piece[:1000], piece[1000:2000], piece[2000:3000]}, next: make(chan struct{}, 1)}
	type result struct {
		p   Piece
		err error
	}
	done := make(chan result, 1)
	go func() {
		p, err := g.PutPiece(i, startsOf(b)[i], io.MultiReader(r, bytes.NewReader(piece[3000:])))
		done <- result{p, err}
	}()
	r.next <- struct{}{}
	r.next <- struct{}{} // the first part has been written when the second is read
	return func() (Piece, error) {
		close(r.next)
		res := <-done
		return res.p, res.err
	}
}

// A piece has one source at a time: the latest to give its first bytes. What an earlier one still
// sends goes nowhere, whatever became of the later one.
func TestPieceChangesHands(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 3*PieceSize)
	starts := startsOf(b)
	for name, later := range map[string]func(t *testing.T, g *Growing){
		"whole": func(t *testing.T, g *Growing) {
			if _, err := g.PutPiece(2, starts[2], bytes.NewReader(pieceOf(b, 2))); err != nil {
				t.Error(err)
			}
		},
		"proven": func(t *testing.T, g *Growing) { putPieces(t, g, b, 2) },
		"short": func(t *testing.T, g *Growing) {
			_, err := g.PutPiece(2, starts[2], strings.NewReader("wrong"))
			wantErr(t, err, io.ErrUnexpectedEOF)
		},
		"convicted": func(t *testing.T, g *Growing) {
			p, err := g.PutPiece(2, starts[2], bytes.NewReader(pieceOf(b, 1)))
			if err != nil {
				t.Error(err)
			}
			wantMismatch(t, g.Prove(p))
			wantErr(t, g.Prove(p), ErrTaken)
		},
		"the front": func(t *testing.T, g *Growing) { write(t, g, b[:2*PieceSize+1]) },
		"discarded": func(t *testing.T, g *Growing) { g.Discard(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			g := create(t, s, d, int64(len(b)))
			goOn := slowPut(g, b, 2)
			later(t, g)
			_, err := goOn()
			wantErr(t, err, ErrTaken)
			if g.ended() {
				return
			}
			if name == "whole" || name == "short" || name == "convicted" {
				putPieces(t, g, b, 2)
			}
			if _, err := g.Write(b[g.Len():]); err != nil && err != ErrMet {
				t.Error(err)
			}
			wantStored(t, g, b)
		})
	}
	t.Run("nothing came", func(t *testing.T) {
		g := create(t, s, d, int64(len(b)))
		goOn := slowPut(g, b, 2)
		_, err := g.PutPiece(2, starts[2], strings.NewReader(""))
		wantErr(t, err, io.ErrUnexpectedEOF)
		p, err := goOn()
		if err = errors.Join(err, g.Prove(p)); err != nil {
			t.Error(err)
		}
	})
}

func TestPutPieceRefuses(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 2*PieceSize)
	for name, g := range map[string]*Growing{
		"digest unknown": create(t, s, Digest{}, 2*PieceSize),
		"size unknown":   create(t, s, Digest{1}, -1),
		"one piece":      create(t, s, Digest{2}, PieceSize),
	} {
		if _, err := g.PutPiece(0, Digest{}, bytes.NewReader(b)); !errors.Is(err, errNoPiece) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g := create(t, s, d, int64(len(b)))
	for _, i := range []int{-1, 2} {
		_, err := g.PutPiece(i, Digest{}, bytes.NewReader(b))
		wantErr(t, err, errNoPiece)
	}
	wantErr(t, g.Prove(Piece{i: 5}), errNoPiece)
	cause := errors.New("cable cut")
	_, err := g.PutPiece(1, Digest{}, io.MultiReader(strings.NewReader("x"), errReader{cause}))
	wantErr(t, err, cause)
	free := s.free
	s.free = func() (int64, error) { return 0, nil }
	_, err = g.PutPiece(1, Digest{}, bytes.NewReader(b))
	wantErr(t, err, ErrNoSpace)
	s.free = free
	r := bytes.NewReader(b)
	if p, err := g.PutPiece(0, Digest{1, 2, 3}, r); err != nil || r.Len() != PieceSize {
		t.Errorf("piece 0 = %v, %d bytes unread", err, r.Len())
	} else if p.start != initialState {
		t.Errorf("piece 0 starts from %x", p.start)
	}
	if g.Len() != 0 || g.Tail() != 2*PieceSize {
		t.Errorf("Len = %d, Tail = %d", g.Len(), g.Tail())
	}
}

type errReader struct{ error }

func (r errReader) Read([]byte) (int, error) { return 0, r.error }

// Once all is proven Suspend leaves all.
func TestSuspendWhole(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 3*PieceSize+1)
	g := create(t, s, d, int64(len(b)))
	putPieces(t, g, b, 0)
	if err := g.Suspend(); err != nil {
		t.Fatal(err)
	}
	g = create(t, s, d, int64(len(b)))
	if g.Len() != int64(len(b)) {
		t.Errorf("%d bytes were kept", g.Len())
	}
	wantStored(t, g, b)
}

// Create does not read what was kept; whatever comes first does.
func TestKeptIsReadLater(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 3*PieceSize)
	for name, goOn := range map[string]func(*Growing) error{
		"Resume": func(g *Growing) error {
			if err := errors.Join(g.Resume(), g.Resume()); err != nil || g.chain.n != 2*PieceSize {
				t.Errorf("Resume hashed %d bytes, %v", g.chain.n, err)
			}
			_, err := g.Write(b[2*PieceSize:])
			return err
		},
		"Write":    func(g *Growing) error { _, err := g.Write(b[2*PieceSize:]); return err },
		"Complete": func(g *Growing) error { return g.Complete(bytes.NewReader(b[2*PieceSize:])) },
	} {
		keep(t, s, d, int64(len(b)), b[:2*PieceSize])
		g := create(t, s, d, int64(len(b)))
		if g.Len() != 2*PieceSize || g.chain.n != 0 {
			t.Errorf("%s: Len = %d, %d bytes hashed", name, g.Len(), g.chain.n)
		}
		if err := goOn(g); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantStored(t, g, b)
	}
	keep(t, s, d, int64(len(b)), b[:2*PieceSize])
	g := create(t, s, d, int64(len(b)))
	if err := os.Truncate(s.partialPath(d), 5); err != nil {
		t.Fatal(err)
	}
	_, err := g.Write(b[2*PieceSize:])
	wantErr(t, err, io.ErrUnexpectedEOF)
	if err := g.Suspend(); err != nil {
		t.Error(err)
	}
	wantErr(t, g.Resume(), ErrSuspended)
}
