// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"io"
	"slices"
	"testing"
)

func TestComplete(t *testing.T) {
	const p = PieceSize
	tests := []struct {
		name  string
		size  int
		front int // bytes of the front
		first int // the lowest proven piece, -1: none
	}{
		{"empty", 0, 0, -1},
		{"small", 1000, 0, -1},
		{"one piece", p, 0, -1},
		{"rest of a small one", 1000, 400, -1},
		{"rest of the last piece", 2*p + 100, p + 100, -1},
		{"between", 3*p + 9, p + 5, 2},
		{"first piece", 3*p + 9, 0, 1},
		{"nothing missing", 3*p + 9, p, 1},
	}
	s := open(t, Config{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b, d := blob(1, test.size)
			end := test.size
			g := create(t, s, d, int64(test.size))
			write(t, g, b[:test.front])
			if test.first >= 0 {
				putPieces(t, g, b, test.first)
				end = max(test.first*p, test.front)
			}
			missing := b[min(test.front, end):end]
			if test.front < end {
				wantLies(t, g, missing)
			}
			r := io.MultiReader(bytes.NewReader(missing), errReader{io.ErrClosedPipe})
			if err := g.Complete(r); err != nil {
				t.Error(err)
			}
			wantStored(t, g, b)
		})
	}
}

// wantLies completes g with what is wrong or too short, which must change nothing.
func wantLies(t *testing.T, g *Growing, missing []byte) {
	t.Helper()
	before, _, _ := g.readable(0)
	wrong := slices.Clone(missing)
	wrong[len(wrong)-1] ^= 1
	wantMismatch(t, g.Complete(bytes.NewReader(wrong)))
	wantErr(t, g.Complete(bytes.NewReader(missing[1:])), io.ErrUnexpectedEOF)
	wantErr(t, g.Complete(bytes.NewReader(nil)), io.ErrUnexpectedEOF)
	if after, _, _ := g.readable(0); after != before {
		t.Errorf("readable up to %d, was %d", after, before)
	}
}

func TestCompleteRefuses(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 2*PieceSize)
	for name, g := range map[string]*Growing{
		"digest unknown":    create(t, s, Digest{}, 10),
		"size unknown":      create(t, s, Digest{1}, -1),
		"more than a piece": create(t, s, d, PieceSize+1),
	} {
		if err := g.Complete(bytes.NewReader(b)); err == nil || g.Len() != 0 {
			t.Errorf("%s: %v, Len = %d", name, err, g.Len())
		}
	}
}

// A kept beginning that is wrong cannot be completed; nothing of it is stored.
func TestCompleteWrongFront(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, PieceSize)
	keep(t, s, d, PieceSize, b[5:10])
	g := create(t, s, d, PieceSize)
	wantMismatch(t, g.Complete(bytes.NewReader(b[5:])))
	wantNoBlob(t, s, d)
}
