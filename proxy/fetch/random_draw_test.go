// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"apt-dht/store"
)

// A drawn is a case in which everything is left to chance.
type drawn struct {
	seed     uint64
	rtt      time.Duration
	patience time.Duration // the world's, and so on
	finding  time.Duration
	over     time.Duration
	uplink   int64
	mirror   mirrorKind
	share    int // of each file: where the mirror breaks, if it does, in percent
	peers    []*drawnPeer
	files    []drawnFile
}

type drawnFile struct {
	name    string
	data    []byte
	readers []drawnReader
}

// A drawnReader reads one file.
type drawnReader struct {
	comes  time.Duration // after the first one
	from   int64         // the first byte that it wants
	leaves time.Duration // after it came; 0: it stays
}

// A mirrorKind is what a mirror is like.
type mirrorKind struct {
	name   string
	good   bool                                      // everything comes from it
	begins bool                                      // something comes from it, so that a reader waits for the rest
	serves func(data []byte, n int) http.HandlerFunc // n: where a first answer ends that is cut
}

var mirrorKinds = []mirrorKind{
	{"serves all", true, true, func(data []byte, _ int) http.HandlerFunc { return serving(data) }},
	{"breaks and goes on", true, true, func(data []byte, n int) http.HandlerFunc { return breaking(data, n, serving(data)) }},
	{"breaks for good", false, true, func(data []byte, n int) http.HandlerFunc { return breaking(data, n, refusing) }},
	{"has nothing", false, false, func([]byte, int) http.HandlerFunc { return http.NotFound }},
}

// breaking breaks after n bytes; rest answers who asks for the rest.
func breaking(data []byte, n int, rest http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if n == len(data) || r.Header.Get("Range") != "" {
			rest(w, r)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:n])
		panic(http.ErrAbortHandler)
	}
}

// refusing refuses slowly.
func refusing(_ http.ResponseWriter, r *http.Request) {
	sleep(r.Context(), 5*time.Second)
	panic(http.ErrAbortHandler)
}

// draw has one case for each seed.
func draw(seed uint64) *drawn {
	r := rand.New(rand.NewPCG(seed, 0))
	c := &drawn{
		seed:     seed,
		rtt:      drawMS(r, 5, 20, 150),
		patience: drawMS(r, 0, 100, 100, 1500),
		finding:  drawMS(r, 10, 30, 300, 1400),
		over:     drawMS(r, 10, 300, 3000, 30_000),
		uplink:   pick[int64](r, 300_000, 1_000_000, 2_000_000, 10_000_000),
		mirror:   mirrorKinds[pick(r, 0, 0, 0, 1, 2, 3)],
		share:    1 + r.IntN(99),
	}
	bad := pick(r, 0, 0.3, 0.7, 1)
	for range r.IntN(6) {
		c.peers = append(c.peers, drawPeer(r, bad))
	}
	for i := range pick(r, 1, 1, 1, 2, 4) {
		c.files = append(c.files, drawFile(r, i))
	}
	return c
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

const largest = 12 * store.PieceSize

// noise is what files are made of.
var noise = sync.OnceValue(func() []byte { return randomBytes(99, 2*largest) })

func drawFile(r *rand.Rand, i int) drawnFile {
	const piece = store.PieceSize
	size := pick(r, 1, 100, WorthSeeking-1, WorthSeeking, 300_000, piece-1, piece, piece+1, 2*piece-1, 2*piece,
		3*piece+5, 6*piece, 1+r.IntN(largest))
	f := drawnFile{name: fmt.Sprint(i), data: noise()[i*1000:][:size], readers: []drawnReader{{}}}
	if r.IntN(8) == 0 {
		f.readers[0].leaves = drawTime(r, 10*time.Second)
	}
	for range pick(r, 0, 0, 1, 2) {
		f.readers = append(f.readers, drawReader(r, size))
	}
	return f
}

// drawReader is one that comes when another reads already.
func drawReader(r *rand.Rand, size int) drawnReader {
	reader := drawnReader{comes: drawTime(r, 3*time.Second), leaves: drawTime(r, pick(r, time.Second, 10*time.Second))}
	if r.IntN(2) == 0 {
		reader.from = r.Int64N(int64(size))
	}
	return reader
}

func drawMS(r *rand.Rand, of ...time.Duration) time.Duration {
	return pick(r, of...) * time.Millisecond
}

func drawTime(r *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(1 + r.Int64N(int64(most)))
}

// stays is for how long it waits.
func (r drawnReader) stays() time.Duration {
	if r.leaves > 0 {
		return r.leaves
	}
	return stay
}

// size is that of all files.
func (c *drawn) size() (n int64) {
	for _, f := range c.files {
		n += int64(len(f.data))
	}
	return n
}

// peersSuffice tells whether peers must bring everything where the mirror does not:
// an honest one is fast enough, and never busy. It may be late where others are
// slower, but not so slow that they are left: a piece is taken from one of them but
// once, by one that may be as slow. And a reader that has got a beginning is bored if
// the rest is not whole within lanPatience: peers bring the end first, and a liar's
// end may have to wait for the mirror to tell who is wrong.
func (c *drawn) peersSuffice() bool {
	rate := int64(fastEnough)
	if c.mirror.begins {
		rate = max(rate, c.size()/int64(lanPatience/2/time.Second))
	}
	good := func(p *drawnPeer) bool { return p.spoil == nil && p.most >= maxBodiesWAN && p.rate >= rate }
	bad := func(p *drawnPeer) bool { return p.rate < fastEnough || p.liar && c.mirror.begins }
	return slices.ContainsFunc(c.peers, good) && !slices.ContainsFunc(c.peers, bad)
}

func (c *drawn) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: round trip %v, patience %v, found after %v, sought for %v\n", c.seed, c.rtt, c.patience, c.finding, c.over)
	fmt.Fprintf(&b, "mirror %s (%d %%), %d B/s\n", c.mirror.name, c.share, c.uplink)
	for i, p := range c.peers {
		fmt.Fprintf(&b, "peer %d %s, %d B/s, %d bodies, found after %v more\n", i, p.name, p.rate, p.most, p.after)
	}
	for _, f := range c.files {
		fmt.Fprintf(&b, "file %s of %d bytes, readers", f.name, len(f.data))
		for _, r := range f.readers {
			fmt.Fprintf(&b, " (from %d, comes after %v, leaves after %v)", r.from, r.comes, r.stays())
		}
		b.WriteByte('\n')
	}
	return b.String()
}
