// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// smallPiece is the proof's unit in these tests: any whole number of SHA-256's blocks will do.
const smallPiece = sha256.BlockSize

// A claim is a piece as a sender gives it.
type claim struct {
	start Digest
	bytes []byte
}

// claims cuts b into pieces, each with its true start.
func claims(b []byte) (out []claim) {
	state := initialState
	for n := 0; n < len(b); n += smallPiece {
		c := claim{start: state, bytes: b[n:min(n+smallPiece, len(b))]}
		if out = append(out, c); len(c.bytes) == smallPiece {
			state = c.leads(len(out)-1, false)
		}
	}
	return out
}

// leads hashes piece i.
func (c claim) leads(i int, last bool) (end Digest) {
	h := hashFrom(c.start, int64(i)*smallPiece)
	h.Write(c.bytes)
	if !last {
		return stateOf(h)
	}
	h.Sum(end[:0])
	return end
}

func wantMismatch(t testing.TB, err error) {
	t.Helper()
	if mismatch := (*MismatchError)(nil); !errors.As(err, &mismatch) {
		t.Errorf("error is %v, want a *MismatchError", err)
	}
}

func TestProof(t *testing.T) {
	b, d := blob(1, 3*smallPiece+5)
	right := claims(b)
	prove := func(p *proof, i int, c claim) error { return p.prove(i, c.start, c.leads(i, i == len(right)-1)) }
	wrongBytes := func(i int) claim {
		other := slices.Clone(right[i].bytes)
		other[0] ^= 1
		return claim{right[i].start, other}
	}
	wrongStart := func(i int) claim {
		c := right[i]
		c.start[31] ^= 0x80
		return c
	}
	type step struct {
		i    int
		c    claim
		want error // nil: proven; errLie: convicted
	}
	errLie := errors.New("lie")
	for name, steps := range map[string][]step{
		"in order": {{3, right[3], nil}, {2, right[2], nil}, {1, right[1], nil}, {0, right[0], nil}},
		"too early": {{0, right[0], ErrUnproven}, {2, right[2], ErrUnproven}, {3, right[3], nil},
			{1, right[1], ErrUnproven}, {2, right[2], nil}},
		"twice":                {{3, right[3], nil}, {3, right[3], ErrTaken}, {3, wrongBytes(3), ErrTaken}},
		"last piece's bytes":   {{3, wrongBytes(3), errLie}, {3, right[3], nil}},
		"last piece's start":   {{3, wrongStart(3), errLie}, {3, right[3], nil}},
		"inner piece's bytes":  {{3, right[3], nil}, {2, wrongBytes(2), errLie}, {2, right[2], nil}},
		"inner piece's start":  {{3, right[3], nil}, {2, wrongStart(2), errLie}, {2, right[2], nil}},
		"another piece":        {{3, right[3], nil}, {2, right[1], errLie}},
		"bytes of another":     {{3, right[3], nil}, {2, claim{right[2].start, right[1].bytes}, errLie}},
		"lie not judged early": {{2, wrongBytes(2), ErrUnproven}, {3, right[3], nil}, {2, wrongBytes(2), errLie}},
	} {
		p := newProof(len(right), d)
		for k, s := range steps {
			before := p
			err := prove(&p, s.i, s.c)
			if s.want == errLie {
				wantMismatch(t, err)
			} else if !errors.Is(err, s.want) {
				t.Errorf("%s: step %d: %v, want %v", name, k, err, s.want)
			}
			if err != nil && (p.at != before.at || p.next != before.next || len(p.states) != len(before.states)) {
				t.Errorf("%s: step %d changed the proof", name, k)
			}
		}
	}
}

// FuzzProof lets senders tell the truth and lie about any pieces, in any order. Each is judged as it
// deserves, and in the end all states are known.
func FuzzProof(f *testing.F) {
	f.Add([]byte("hello, world"), uint8(3), uint64(1))
	f.Add([]byte{}, uint8(20), uint64(2))
	f.Add([]byte("a"), uint8(1), uint64(3))
	f.Fuzz(func(t *testing.T, end []byte, pieces uint8, seed uint64) {
		b, _ := blob(seed, int(pieces)*smallPiece)
		b = append(b, end...)
		right := claims(b)
		if len(right) == 0 {
			return
		}
		random := rand.New(rand.NewPCG(seed, 0))
		p := newProof(len(right), sha256.Sum256(b))
		for steps := 0; p.at > 0; steps++ {
			i := p.at - 1
			if random.IntN(3) == 0 {
				i = random.IntN(len(right))
			}
			c, honest := right[i], true
			if random.IntN(2) == 0 {
				c, honest = lie(random, right, i)
			}
			at := p.at
			judge(t, p.prove(i, c.start, c.leads(i, i == len(right)-1)), i, at, honest)
		}
		checkStates(t, p, b, random)
	})
}

// lie changes a piece. It may come out as the truth, where pieces are the same.
func lie(random *rand.Rand, right []claim, i int) (c claim, honest bool) {
	c = claim{right[i].start, slices.Clone(right[i].bytes)}
	switch other := right[random.IntN(len(right))]; random.IntN(4) {
	case 0:
		c.bytes[random.IntN(len(c.bytes))] ^= 1 << random.IntN(8)
	case 1:
		c.start[random.IntN(len(c.start))] ^= 1 << random.IntN(8)
	case 2:
		c.start = other.start
	case 3:
		copy(c.bytes, other.bytes)
	}
	if i == 0 {
		c.start = initialState // PutPiece sees to that
	}
	return c, c.start == right[i].start && slices.Equal(c.bytes, right[i].bytes)
}

func judge(t *testing.T, err error, i, at int, honest bool) {
	t.Helper()
	switch {
	case i < at-1:
		wantErr(t, err, ErrUnproven)
	case i >= at:
		wantErr(t, err, ErrTaken)
	case honest && err != nil:
		t.Errorf("the truth about piece %d: %v", i, err)
	case !honest:
		wantMismatch(t, err)
	}
}

// checkStates compares what was proven with what hashing the front leads to, wherever they had met.
func checkStates(t *testing.T, p proof, b []byte, random *rand.Rand) {
	t.Helper()
	var want []Digest
	for _, c := range claims(b)[1:] {
		want = append(want, c.start)
	}
	at := random.IntN(len(p.states)) // where the front would have met the tail
	p.states = p.states[:len(p.states)-at]
	p.at = at
	if got := p.inner(want[:at]); !slices.Equal(got, want) {
		t.Errorf("%d states, met at %d of %d", len(got), at, len(want))
	}
}
