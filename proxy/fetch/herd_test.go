// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/store"
)

// herd is a model of a site on which all want the same files at the same time.
type herd struct {
	*site
	rng   *rand.Rand
	wants []Want
	data  [][]byte

	badMirror bool
}

func newHerd(t *testing.T, seed uint64, nodes, files int) *herd {
	h := &herd{site: newSite(t, nodes), rng: rand.New(rand.NewPCG(seed, seed))}
	for i := range files {
		size := 1 + h.rng.IntN(100_000)
		if i%12 == 5 {
			size = h.rng.IntN(3 * store.PieceSize)
		}
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(h.rng.Uint32())
		}
		h.data = append(h.data, data)
		h.wants = append(h.wants, h.file(fmt.Sprintf("%03d", i), data))
	}
	h.uplink = newPipe(4_000_000)
	return h
}

// reads has a node read all files as apt does: it asks for all at once, takes
// them in order, and asks again for what was cut. Every other node has a client
// that does not ask again; its answers may be cut only where mirrors are bad.
func (h *herd) reads(n *node) (longest time.Duration) {
	apt := n.self.Addr.Addr().As4()[3]%2 == 0
	tries := 3
	if !apt && !h.badMirror {
		tries = 0
	}
	var holds []*Hold
	for i := range h.wants {
		want := h.wants[i]
		want.Unproven = apt
		if hold := n.Prefetch(want); hold != nil {
			holds = append(holds, hold)
		}
	}
	for i, want := range h.wants {
		want.Unproven = apt
		g := n.read(h.t.Context(), want)
		for try := 0; g.err != nil && try < tries && n.is(up); try++ {
			if len(g.data) > 0 && bytes.Equal(g.data, h.data[i]) {
				h.t.Errorf("an answer of all bytes ended with %v", g.err)
			}
			time.Sleep(time.Second << try)
			again := n.read(h.t.Context(), want)
			again.took += g.took
			g = again
		}
		if n.is(up) && (g.err != nil || !bytes.Equal(g.data, h.data[i])) {
			h.t.Errorf("node %s, file %d: %d bytes of %d after %v, %v", n.self.ID[14:], i, len(g.data), len(h.data[i]), g.took, g.err)
		}
		if !n.excused {
			longest = max(longest, g.first)
		}
	}
	for _, hold := range holds {
		hold.Release()
	}
	return longest
}

func (h *herd) run() (longest time.Duration) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, n := range h.list() {
		wg.Go(func() {
			time.Sleep(time.Duration(h.pick(50)) * time.Millisecond)
			took := h.reads(n)
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, took)
		})
	}
	wg.Wait()
	return longest
}

// pick is a number below n.
func (h *herd) pick(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rng.IntN(n)
}

// check looks at the stores: they may hold nothing but the files.
func (h *herd) check() {
	right := map[Digest]bool{}
	for _, want := range h.wants {
		right[want.Digest] = true
	}
	for _, n := range h.list() {
		if n.is(dead) {
			continue
		}
		for i, want := range h.wants {
			blob, err := n.store.Get(want.Digest)
			if err != nil {
				continue
			}
			data, err := io.ReadAll(blob)
			if err != nil || !bytes.Equal(data, h.data[i]) {
				h.t.Errorf("node %s stores wrong bytes", n.self.ID)
			}
			blob.Close()
		}
		if blobs, _, _ := n.store.Usage(); blobs > len(right) {
			h.t.Errorf("node %s stores %d blobs", n.self.ID, blobs)
		}
	}
}

func TestHerdHealthy(t *testing.T) {
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			h := newHerd(t, seed, 8, 50)
			longest := h.run()
			for i, want := range h.wants {
				if n := len(h.requests(want)); n != 1 {
					t.Errorf("seed %d: file %d was asked for %d times", seed, i, n)
				}
			}
			total := 0
			for _, data := range h.data {
				total += len(data)
			}
			wire := time.Duration(total) * time.Second / 4_000_000
			t.Logf("seed %d: %d bytes, the uplink needs %v, the longest wait was %v", seed, total, wire, longest)
			if longest > wire+2*time.Second {
				t.Errorf("seed %d: somebody waited %v", seed, longest)
			}
			h.check()
		})
	}
}

func TestHerdFaults(t *testing.T) {
	kinds := map[string]func(*herd){
		"liars":   (*herd).liars,
		"killed":  (*herd).killed,
		"paused":  (*herd).paused,
		"mirrors": (*herd).badMirrors,
		"all":     func(h *herd) { h.liars(); h.killed(); h.paused(); h.badMirrors() },
	}
	for name, spoil := range kinds {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2) {
				synctest.Test(t, func(t *testing.T) {
					h := newHerd(t, seed, 8, 50)
					spoil(h)
					longest := h.run()
					requests := 0
					for _, a := range h.asked {
						if !a.by.excused { // they ask by themselves while they hear nobody
							requests++
						}
					}
					t.Logf("seed %d: %d requests for %d files, the longest wait was %v", seed, requests, len(h.wants), longest)
					limit := 10 * time.Second
					if h.badMirror {
						limit = lanPatience + time.Second
					}
					if requests > 3*len(h.wants) || longest > limit {
						t.Errorf("seed %d: %d requests to the mirror, somebody waited %v", seed, requests, longest)
					}
					h.check()
				})
			}
		})
	}
}

// liars has two nodes send wrong bytes now and then, and say that they have what
// they have not.
func (h *herd) liars() {
	for i := range 2 {
		n := h.node(i)
		n.spoil = func(ctx context.Context, d Digest, from, to int64, body *PeerBody) (*PeerBody, error) {
			if body == nil {
				if h.pick(2) == 0 {
					return nil, ErrNotHere
				}
				return &PeerBody{ReadCloser: io.NopCloser(zeros{}), Size: -1, Growing: h.pick(2) == 0, State: &Digest{}}, nil
			}
			switch h.pick(4) {
			case 0:
				body.ReadCloser = &altered{ReadCloser: body.ReadCloser, at: from, change: func(at int64, p []byte) (int, error) {
					p[h.pick(len(p))] ^= 1
					return len(p), nil
				}}
			case 1:
				body.ReadCloser = &altered{ReadCloser: body.ReadCloser, at: from, change: func(at int64, p []byte) (int, error) {
					return len(p) / 2, errReset
				}}
			}
			return body, nil
		}
		for range 10 {
			want := h.wants[h.pick(len(h.wants))]
			time.AfterFunc(time.Duration(h.pick(3000))*time.Millisecond, func() { n.claims(want) })
		}
	}
}

func (h *herd) killed() {
	for i := range 2 {
		n := h.node(2 + i)
		time.AfterFunc(time.Duration(h.pick(1500))*time.Millisecond, func() { go n.kill(dead) })
	}
}

// paused has nodes stop, as SIGSTOP does.
func (h *herd) paused() {
	for i := range 2 {
		n := h.node(4 + i)
		n.excused = true
		time.AfterFunc(time.Duration(h.pick(1500))*time.Millisecond, func() { n.kill(deaf) })
		time.AfterFunc(20*time.Second, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.state == deaf {
				n.state = up
			}
		})
	}
}

// badMirrors breaks answers off, and lets some stall.
func (h *herd) badMirrors() {
	h.badMirror = true
	h.mirror = func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		data := h.files[r.URL.Path]
		h.mu.Unlock()
		switch h.pick(8) {
		case 0:
			cutAfter(data, len(data)/2, 1)(w, r)
		case 1:
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			w.Write(data[:len(data)/2])
			sleep(r.Context(), 8*time.Second)
			panic(http.ErrAbortHandler)
		default:
			serving(data)(w, r)
		}
	}
}
