// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"slices"
	"testing"
)

// fromState hashes tail as the rest of a file of size bytes whose SHA-256 had come to state.
func fromState(t testing.TB, state Digest, size int64, tail []byte) Digest {
	t.Helper()
	marshalled := append([]byte("sha\x03"), state[:]...)
	marshalled = append(marshalled, make([]byte, sha256.BlockSize)...)
	marshalled = binary.BigEndian.AppendUint64(marshalled, uint64(size)-uint64(len(tail)))
	h := sha256.New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(marshalled); err != nil {
		t.Fatal(err)
	}
	h.Write(tail)
	return Digest(h.Sum(nil))
}

// wantPieces checks each state: with the bytes after it, it must give the digest.
func wantPieces(t testing.TB, s *Store, d Digest, b []byte) {
	t.Helper()
	states, err := s.Pieces(d)
	if err != nil {
		t.Fatal(err)
	}
	if want := max(0, (len(b)+PieceSize-1)/PieceSize-1); len(states) != want {
		t.Fatalf("%d states for %d bytes, want %d", len(states), len(b), want)
	}
	for i, state := range states {
		if got := fromState(t, state, int64(len(b)), b[(i+1)*PieceSize:]); got != d {
			t.Errorf("state %d of %d leads to %x", i+1, len(states), got)
		}
	}
}

func TestPieces(t *testing.T) {
	s := open(t, Config{})
	for _, size := range []int{0, 1, PieceSize - 1, PieceSize, PieceSize + 1, 2 * PieceSize, 3*PieceSize + 64} {
		b, d := blob(uint64(size), size)
		add(t, s, b, Meta{})
		wantPieces(t, s, d, b)
	}
	s = reopen(t, s)
	b, d := blob(3*PieceSize+64, 3*PieceSize+64)
	if s.rows.states(d, 3) == nil {
		t.Error("states were not recorded")
	}
	if err := s.rows.forget(d, int64(len(b))); err != nil {
		t.Fatal(err)
	}
	if s.rows.states(d, 3) != nil {
		t.Error("states were not deleted")
	}
	wantPieces(t, s, d, b) // computed anew
	if s.rows.states(d, 3) == nil {
		t.Error("states computed anew were not recorded")
	}
}

func TestPiecesOfSpoiledBlob(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 2*PieceSize)
	add(t, s, b, Meta{})
	if err := s.rows.forget(d, int64(len(b))); err != nil {
		t.Fatal(err)
	}
	spoil(t, s, d)
	_, err := s.Pieces(d)
	wantErr(t, err, ErrNotFound)
	wantNoBlob(t, s, d)
}

// A DVD image has more states than one row holds.
func TestManyStates(t *testing.T) {
	s := open(t, Config{})
	states := make([]Digest, 2*statesPerRow+1)
	for i := range states {
		binary.BigEndian.PutUint32(states[i][:], uint32(i))
	}
	d := Digest{1}
	if err := s.rows.write(stateRows(d, states)); err != nil {
		t.Fatal(err)
	}
	if got := s.rows.states(d, len(states)); !slices.Equal(got, states) {
		t.Errorf("got %d states of %d", len(got), len(states))
	}
	if s.rows.states(d, len(states)+1) != nil {
		t.Error("too few states were taken")
	}
	if err := s.rows.forget(d, int64(len(states)+1)*PieceSize); err != nil {
		t.Fatal(err)
	}
	s.rows.each([]byte{kindStates}, func(r row) bool { t.Errorf("row %x is left", r.key); return true })
}

func FuzzChain(f *testing.F) {
	f.Add([]byte("abc"), uint32(70_000), uint32(3*PieceSize+1))
	f.Add([]byte{}, uint32(1<<20), uint32(2*PieceSize))
	f.Fuzz(func(t *testing.T, seed []byte, step, size uint32) {
		size %= 4 * PieceSize
		step = step%(2*PieceSize) + 1
		b := bytes.Repeat(append(seed, 1), int(size)/(len(seed)+1)+1)[:size]
		c := newChain()
		for rest := b; len(rest) > 0; {
			n := min(len(rest), int(step))
			c.Write(rest[:n])
			rest = rest[n:]
		}
		d := sha256.Sum256(b)
		if c.sum() != d || c.n != int64(size) || len(c.inner()) != innerStates(c.n) {
			t.Fatalf("chain of %d bytes: %x, %d, %d states", size, c.sum(), c.n, len(c.inner()))
		}
		for i, state := range c.inner() {
			if fromState(t, state, int64(size), b[(i+1)*PieceSize:]) != d {
				t.Errorf("state %d is wrong", i+1)
			}
		}
	})
}
