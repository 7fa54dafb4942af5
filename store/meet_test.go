// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// A swarm is peers that put the pieces of a blob from its tail, some of which lie.
type swarm struct {
	t      *testing.T
	g      *Growing
	b      []byte
	starts []Digest
}

func (s *swarm) met() bool { return s.g.Len() >= s.g.Tail() }

// peer puts pieces near the tail until all is there.
func (s *swarm) peer(seed uint64) {
	random := rand.New(rand.NewPCG(seed, 2))
	for !s.met() {
		i := int((s.g.Tail()-1)/PieceSize) - random.IntN(3)
		if i < 0 {
			continue
		}
		start, piece, honest := s.starts[i], pieceOf(s.b, i), true
		if random.IntN(3) == 0 {
			start, piece, honest = s.lie(random, i)
		}
		p, err := s.g.PutPiece(i, start, &oddReader{bytes.NewReader(piece), random})
		if err != nil {
			if !errors.Is(err, ErrTaken) {
				s.t.Errorf("piece %d: %v", i, err)
			}
			continue
		}
		s.judge(p, honest)
	}
}

func (s *swarm) lie(random *rand.Rand, i int) (Digest, []byte, bool) {
	start, piece := s.starts[i], slices.Clone(pieceOf(s.b, i))
	if random.IntN(2) == 0 && i > 0 {
		start[0] ^= 1
	} else {
		piece[random.IntN(len(piece))] ^= 1
	}
	return start, piece, false
}

// judge asks for the proof until there is one.
func (s *swarm) judge(p Piece, honest bool) {
	err := s.g.Prove(p)
	for ; errors.Is(err, ErrUnproven) && !s.met(); err = s.g.Prove(p) {
		runtime.Gosched()
	}
	mismatch := (*MismatchError)(nil)
	if lied := errors.As(err, &mismatch); lied && honest || err == nil && !honest {
		s.t.Errorf("piece %d, honest %v: %v", p.i, honest, err)
	}
}

// An oddReader gives some bytes at a time.
type oddReader struct {
	r      io.Reader
	random *rand.Rand
}

func (r *oddReader) Read(p []byte) (int, error) {
	if r.random.IntN(4) == 0 {
		runtime.Gosched()
	}
	return r.r.Read(p[:min(len(p), 1+r.random.IntN(100_000))])
}

// front writes b slowly, until it meets the tail.
func (s *swarm) front(random *rand.Rand) {
	for rest := s.b; len(rest) > 0; {
		n, err := s.g.Write(rest[:min(len(rest), 1+random.IntN(60_000))])
		if err == ErrMet {
			return
		}
		if err != nil {
			s.t.Errorf("front: %v", err)
			return
		}
		rest = rest[n:]
		for range random.IntN(200) {
			runtime.Gosched()
		}
	}
}

// relay reads a Growing as another node would, of which nothing is held back.
func relay(ctx context.Context, g *Growing) (got []byte, err error) {
	r, err := g.NewReader()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for {
		end, err := r.WaitWritten(ctx, int64(len(got)))
		if end > int64(len(got)) {
			part := make([]byte, end-int64(len(got)))
			n, err := r.ReadWrittenAt(part, int64(len(got)))
			if err != nil {
				return got, err
			}
			got = append(got, part[:n]...)
		}
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}

// A front, peers that lie now and then, and readers, all at once.
func TestMeeting(t *testing.T) {
	s := open(t, Config{})
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 1))
		b, d := blob(seed, PieceSize+1+random.IntN(5*PieceSize))
		g := create(t, s, d, int64(len(b)))
		sw := &swarm{t: t, g: g, b: b, starts: startsOf(b)}
		var readers, writers sync.WaitGroup
		for range 3 {
			for _, read := range []func(context.Context, *Growing) ([]byte, error){follow, relay} {
				readers.Go(func() {
					if got, err := read(t.Context(), g); err != nil || !bytes.Equal(got, b) {
						t.Errorf("reader got %d bytes, %v", len(got), err)
					}
				})
			}
		}
		for i := range uint64(4) {
			writers.Go(func() { sw.peer(seed<<8 + i) })
		}
		if seed%3 > 0 {
			sw.front(random)
		}
		writers.Wait()
		from := g.Tail()
		if got, err := g.Commit(Meta{}); got != d || err != nil {
			t.Errorf("Commit = %x, %v", got, err)
		}
		readers.Wait()
		t.Logf("%d bytes, met at %d", len(b), from)
		wantBlob(t, s, d)
		wantPieces(t, s, d, b)
	}
	wantNoPartial(t, s)
}

func TestWrittenButHeldBack(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 2*heldBack)
	g := create(t, s, d, int64(len(b)))
	r, err := g.NewReader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	woken := make(chan int64)
	go func() {
		end, _ := g.WaitWritten(t.Context(), heldBack)
		woken <- end
	}()
	write(t, g, b[:heldBack])
	write(t, g, b[heldBack:heldBack+5])
	if end := <-woken; end != heldBack+5 {
		t.Errorf("woken at %d", end)
	}
	part := make([]byte, 10)
	n, err := r.ReadWrittenAt(part, heldBack)
	if n != 5 || err != io.EOF || !bytes.Equal(part[:n], b[heldBack:heldBack+5]) {
		t.Errorf("ReadWrittenAt = %d, %v", n, err)
	}
	if n, err := r.ReadAt(part, heldBack); n != 0 || err != io.EOF {
		t.Errorf("ReadAt of what is held back = %d, %v", n, err)
	}
	cause := errors.New("cable cut")
	g.Discard(cause)
	if end, err := g.WaitWritten(t.Context(), heldBack+5); end != heldBack+5 || !errors.Is(err, cause) {
		t.Errorf("WaitWritten at the end = %d, %v", end, err)
	}
}
