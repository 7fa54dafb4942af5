// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/store"
)

// altered is a body of which Read's bytes are changed.
type altered struct {
	io.ReadCloser
	at     int64
	change func(at int64, p []byte) (int, error) // n and the error to return
}

func (a *altered) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	at := a.at
	a.at += int64(n)
	if err != nil {
		return n, err
	}
	return a.change(at, p[:n])
}

// spoilBody changes a body that begins at from.
func spoilBody(change func(at int64, p []byte) (int, error)) spoil {
	return func(_ context.Context, _ Digest, from, _ int64, body *PeerBody) (*PeerBody, error) {
		if body != nil {
			body.ReadCloser = &altered{ReadCloser: body.ReadCloser, at: from, change: change}
		}
		return body, nil
	}
}

// flip changes the byte at an offset.
func flip(offset int64) spoil {
	return spoilBody(func(at int64, p []byte) (int, error) {
		if offset >= at && offset < at+int64(len(p)) {
			p[offset-at] ^= 1
		}
		return len(p), nil
	})
}

var errReset = errors.New("connection reset")

// badHolders are peers that say that they have a blob.
var badHolders = []struct {
	name  string
	spoil spoil
	liar  bool          // it can be convicted
	whole bool          // only where it is to send several pieces
	delay time.Duration // at most
}{
	{name: "wrong first byte", spoil: flip(0), liar: true},
	{name: "wrong bytes in piece 2", spoil: flip(2*store.PieceSize + 99), liar: true, whole: true},
	{name: "wrong bytes in each", spoil: spoilBody(func(_ int64, p []byte) (int, error) { p[0] ^= 1; return len(p), nil }), liar: true},
	{name: "wrong states", liar: true, whole: true, spoil: func(_ context.Context, _ Digest, from, _ int64, body *PeerBody) (*PeerBody, error) {
		if body.State != nil {
			body.State = &Digest{1}
		}
		return body, nil
	}},
	{name: "no states", whole: true, spoil: func(_ context.Context, _ Digest, _, _ int64, body *PeerBody) (*PeerBody, error) {
		body.State = nil
		return body, nil
	}},
	{name: "not here", spoil: func(_ context.Context, _ Digest, _, _ int64, body *PeerBody) (*PeerBody, error) {
		body.Close()
		return nil, fmt.Errorf("404: %w", ErrNotHere)
	}},
	{name: "refuses", spoil: func(_ context.Context, _ Digest, _, _ int64, body *PeerBody) (*PeerBody, error) {
		body.Close()
		return nil, errRefused
	}},
	{name: "another size", spoil: func(_ context.Context, _ Digest, _, _ int64, body *PeerBody) (*PeerBody, error) {
		body.Size++
		return body, nil
	}},
	{name: "growing", spoil: func(_ context.Context, _ Digest, _, _ int64, body *PeerBody) (*PeerBody, error) {
		body.Growing = true
		return body, nil
	}},
	{name: "short", spoil: spoilBody(func(at int64, p []byte) (int, error) { return len(p) / 2, errReset })},
	{name: "short without an error", spoil: spoilBody(func(at int64, p []byte) (int, error) { return len(p) / 2, io.EOF })},
	{name: "endless", liar: true, spoil: func(_ context.Context, _ Digest, _, _ int64, body *PeerBody) (*PeerBody, error) {
		body.Close()
		body.ReadCloser = io.NopCloser(zeros{})
		return body, nil
	}},
	{name: "silent at once", delay: peerSilence, spoil: func(ctx context.Context, _ Digest, _, _ int64, body *PeerBody) (*PeerBody, error) {
		body.Close()
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}},
	{name: "silent in the body", delay: peerSilence, spoil: func(ctx context.Context, _ Digest, from, _ int64, body *PeerBody) (*PeerBody, error) {
		body.ReadCloser = &altered{ReadCloser: body.ReadCloser, at: from, change: func(at int64, p []byte) (int, error) {
			if at > from {
				<-ctx.Done()
				return 0, context.Cause(ctx)
			}
			return len(p) / 2, nil
		}}
		return body, nil
	}},
	{name: "a byte per second", delay: slowWindow, spoil: func(ctx context.Context, _ Digest, _, _ int64, body *PeerBody) (*PeerBody, error) {
		body.ReadCloser = &trickle{body.ReadCloser, ctx}
		return body, nil
	}},
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// trickle gives a byte per second.
type trickle struct {
	io.ReadCloser
	ctx context.Context
}

func (b *trickle) Read(p []byte) (int, error) {
	if !sleep(b.ctx, time.Second) {
		return 0, context.Cause(b.ctx)
	}
	return b.ReadCloser.Read(p[:min(len(p), 1)])
}

// A bad holder costs a bounded delay, never a wrong byte, and a liar is found
// out; an honest one beside it is not.
func TestBadHolders(t *testing.T) {
	for _, size := range []int{100, 3*store.PieceSize + 5} {
		for _, bad := range badHolders {
			if size < 3*store.PieceSize && bad.whole {
				continue
			}
			for _, others := range []int{0, 1} {
				t.Run(fmt.Sprintf("%s/%d/%d", bad.name, size, others), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := newSite(t, 2+others)
						data := randomBytes(3, size)
						want := s.file("f", data)
						reader, liar := s.node(0), s.node(1)
						for _, n := range s.list()[1:] {
							n.has(data)
						}
						liar.spoil = bad.spoil
						g := reader.mustRead(want, data)
						if g.took > bad.delay+2*time.Second {
							t.Errorf("it took %v", g.took)
						}
						if requests := len(s.requests(want)); others > 0 && requests > 0 && bad.delay < proofWait || others == 0 && requests != 1 {
							t.Errorf("the mirror was asked %d times", requests)
						}
						for _, n := range s.list()[1:] {
							if what := reader.liars[n.peer()]; what != "" && (n != liar || !bad.liar) {
								t.Errorf("node %s was set aside: %s", n.self.ID, what)
							}
						}
						if others == 0 && bad.liar && reader.liars[liar.peer()] == "" {
							t.Error("the liar was not set aside")
						}
					})
				})
			}
		}
	}
}

// Whichever piece is wrong, its sender is convicted, and nobody else.
func TestEachWrongPieceIsFound(t *testing.T) {
	const pieces = 6
	data := randomBytes(4, pieces*store.PieceSize-100)
	for k := range int64(pieces) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 4)
			want := s.file("f", data)
			for i := range 3 {
				s.node(i).has(data)
				s.node(i).spoil = flip(k*store.PieceSize + 1000)
			}
			s.node(int(k) % 3).spoil = nil
			n := s.node(3)
			n.mustRead(want, data)
			if len(n.liars) > 2 || n.liars[s.node(int(k)%3).peer()] != "" {
				t.Errorf("piece %d: set aside were %v", k, n.liars)
			}
			if len(s.requests(want)) > 0 {
				t.Errorf("piece %d: the mirror was asked", k)
			}
		})
	}
}

// A blob of unknown size is held by a liar: found out as a whole.
func TestLiarOfAnUnsizedBlob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 3)
		data := randomBytes(5, 200_000)
		want := s.file("f", data)
		want.Size = -1
		s.node(0).has(data)
		s.node(1).has(data)
		s.node(0).spoil, s.node(1).spoil = flip(7), flip(8)
		n := s.node(2)
		n.mustRead(want, data)
		if len(n.liars) != 2 || len(s.requests(want)) != 1 {
			t.Errorf("set aside %v, requests %d", n.liars, len(s.requests(want)))
		}
	})
}

// A peer cannot fill the store with a file of which nobody knows the size.
func TestEndlessUnsizedBlob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		data := randomBytes(5, 200_000)
		want := s.file("f", data)
		want.Size = -1
		liar := s.node(1)
		liar.claims(want)
		liar.spoil = func(context.Context, Digest, int64, int64, *PeerBody) (*PeerBody, error) {
			return &PeerBody{ReadCloser: io.NopCloser(zeros{}), Size: math.MaxInt64}, nil
		}
		if g := s.node(0).mustRead(want, data); g.took > time.Second {
			t.Errorf("it took %v", g.took)
		}
	})
}
