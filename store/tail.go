// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"sync/atomic"
)

// A tail is what a Growing of several pieces may have beyond its front: pieces that PutPiece brought,
// of which the last ones are proven.
type tail struct {
	slots []slot
	puts  atomic.Uint64 // PutPiece calls so far
	front int           // pieces that the front has entered; its writer's own
	aside func() error  // Growing.moveAside, once

	proof proof // Growing.mu guards it
}

// A slot is the place of a piece in the file. Its lock comes before Growing.mu. It is what keeps the
// bytes of two sources apart: a piece that has changed hands is written by nobody else any more.
type slot struct {
	mu     sync.Mutex // held while PutPiece writes to the file; guards following
	put    uint64     // the number of the PutPiece call whose piece it is; earlier ones have lost it
	closed bool       // to PutPiece: it is the front's, or proven, or the blob has ended
}

// A Piece has been written by PutPiece, and Prove can judge it.
type Piece struct {
	i          int
	put        uint64
	start, end Digest
}

// newTailLocked makes room for pieces, once the size is known and is that of several.
func (g *Growing) newTailLocked() {
	pieces := innerStates(g.size) + 1
	if !g.known || pieces < 2 || g.tail != nil {
		return
	}
	t := &tail{slots: make([]slot, pieces), proof: newProof(pieces, g.want), aside: sync.OnceValue(g.moveAside)}
	for ; int64(t.front)*PieceSize < g.n; t.front++ {
		t.slots[t.front].closed = true
	}
	g.tail = t
}

// Tail returns the offset from which on all bytes are proven: the size while none are, -1 if that is
// unknown.
func (g *Growing) Tail() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tailLocked()
}

func (g *Growing) tailLocked() int64 {
	if g.tail == nil {
		return g.size
	}
	return min(int64(g.tail.proof.at)*PieceSize, g.size)
}

// PutPiece reads piece i from r and writes it to its place, where it is not readable and Len does not
// count it. The sender claims that SHA-256 comes to the state start before that piece; for piece 0
// start is disregarded. Prove tells whether both are right. Digest and size of the blob must be known,
// and its pieces at least two. Of a blob that was suspended Resume comes first.
//
// Any number of goroutines may put pieces; each takes 64 KiB of memory. Of several calls for the same
// piece the latest gets its place, as soon as its first bytes have come. PutPiece fails with ErrTaken
// when the place is lost to another call or to the front, or the piece is proven, or the blob has
// ended; with ErrNoSpace; and with r's error, which is io.ErrUnexpectedEOF where r is too short. It
// reads nothing beyond the piece.
func (g *Growing) PutPiece(i int, start Digest, r io.Reader) (Piece, error) {
	t, size, err := g.pieced(i)
	if err != nil {
		return Piece{}, err
	}
	if i == 0 {
		start = initialState
	}
	from := int64(i) * PieceSize
	want := min(PieceSize, size-from)
	if err := g.s.makeRoom(want); err != nil {
		return Piece{}, err
	}
	h := hashFrom(start, from)
	w := &pieceWriter{g: g, t: t, slot: &t.slots[i], put: t.puts.Add(1), off: from}
	buf := copyBuffers.Get().(*[64 << 10]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(io.MultiWriter(w, h), io.LimitReader(r, want), buf[:])
	if err == nil && n < want {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return Piece{}, fmt.Errorf("store: piece %d of blob %x: %w", i, g.want, noSpace(err))
	}
	return Piece{i: i, put: w.put, start: start, end: endOf(h, from+want == size)}, nil
}

// endOf returns what a piece leads to: the state after it, the digest after the last one.
func endOf(h hash.Hash, last bool) (d Digest) {
	if last {
		return Digest(h.Sum(d[:0]))
	}
	return stateOf(h)
}

var copyBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

var errNoPiece = errors.New("store: no such piece")

// pieced returns the tail, and the size, if piece i is one of it.
func (g *Growing) pieced(i int) (*tail, int64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.end != nil {
		return nil, 0, fmt.Errorf("%w: the blob has ended: %w", ErrTaken, g.end)
	}
	if !g.hashed {
		return nil, 0, fmt.Errorf("store: piece %d of blob %x: what was kept of it has not been resumed", i, g.want)
	}
	if g.tail == nil || i < 0 || i >= len(g.tail.slots) {
		return nil, 0, fmt.Errorf("%w: %d of blob %x of %d bytes", errNoPiece, i, g.want, g.size)
	}
	return g.tail, g.size, nil
}

// A pieceWriter writes one piece, as long as its place is its own.
type pieceWriter struct {
	g    *Growing
	t    *tail
	slot *slot
	put  uint64
	off  int64
}

func (w *pieceWriter) Write(b []byte) (int, error) {
	w.slot.mu.Lock()
	defer w.slot.mu.Unlock()
	if w.slot.closed || w.slot.put > w.put {
		return 0, ErrTaken
	}
	w.slot.put = w.put
	if err := w.t.aside(); err != nil {
		return 0, err
	}
	n, err := w.g.file.WriteAt(b, w.off)
	w.off += int64(n)
	return n, err
}

// moveAside gives the file another name before the first piece makes it longer than its front: at
// the next start a file with a hole would else be taken for the beginning of the blob. Its note comes
// first, so that no kill loses the front.
func (g *Growing) moveAside() error {
	to := g.s.holesPath(g.want)
	g.mu.Lock()
	from := g.path
	g.mu.Unlock()
	if from == to {
		return nil // it has a hole since before it was suspended
	}
	g.keepNote(true)
	if err := os.Rename(from, to); err != nil {
		g.s.dropNote(g.want)
		return err
	}
	g.mu.Lock()
	g.path = to
	g.mu.Unlock()
	return nil
}

// Prove judges a piece: nil says that it is right, and so is the state claimed with it. Pieces are
// proven from the last one down: ErrUnproven says that the one behind it has not been. The error is a
// *MismatchError if the sender lied, whose bytes then count as absent, and ErrTaken if they have
// been replaced.
//
// The proof that reaches the front's end completes the blob, if the front is right; Write and Commit
// tell whether it is.
func (g *Growing) Prove(p Piece) error {
	err := g.prove(p)
	if err == nil {
		g.keepNote(false)
	}
	return err
}

func (g *Growing) prove(p Piece) error {
	t, _, err := g.pieced(p.i)
	if err != nil {
		return err
	}
	s := &t.slots[p.i]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.put != p.put {
		return ErrTaken
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	err = t.proof.prove(p.i, p.start, p.end)
	switch {
	case err == nil:
		s.closed = true
		g.meetLocked()
	case !errors.Is(err, ErrUnproven):
		s.put = t.puts.Add(1) // nobody's
	}
	return err
}

// enter takes piece i for the front. It returns false if the piece is proven.
func (t *tail) enter(i int) bool {
	if i < t.front {
		return true
	}
	s := &t.slots[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closed = true
	t.front++
	return true
}

// shut keeps PutPiece from touching the file from here on.
func (t *tail) shut() {
	for i := range t.slots {
		t.slots[i].mu.Lock()
		t.slots[i].closed = true
		t.slots[i].mu.Unlock()
	}
}

func (g *Growing) shutTail() {
	g.mu.Lock()
	t := g.tail
	g.mu.Unlock()
	if t != nil {
		t.shut()
	}
}

// meetLocked completes the blob if front and tail have met and their states agree.
func (g *Growing) meetLocked() {
	if g.tail == nil || !g.hashed || g.met != nil || g.n != g.tailLocked() || g.n == g.size {
		return
	}
	if g.border != g.tail.proof.next {
		g.met = fmt.Errorf("store: the first %d bytes do not lead to the proven rest: %w", g.n, &MismatchError{Want: g.want, Got: g.border, WantSize: -1})
		return
	}
	was := g.spanLocked()
	g.met, g.verified, g.n = ErrMet, true, g.size
	g.wakeLocked(was)
}
