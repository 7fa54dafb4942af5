// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/store"
)

// A world is the internet of a site, in one process: strangers that have blobs.
type world struct {
	t   testing.TB
	rtt time.Duration

	mu        sync.Mutex // guards following
	strangers []*stranger
	patience  time.Duration
	finding   time.Duration // until Seek finds somebody
	over      time.Duration // and until it returns
	sought    []Digest
	brought   map[Digest][]int64
	failed    map[Peer]int
	liars     map[Peer]string
	learn     func(brought int64) // expects mu to be held; may be nil
}

// A stranger is one node on the internet.
type stranger struct {
	self  Peer
	link  *pipe
	spoil spoil
	after time.Duration // until it is found

	mu    sync.Mutex // guards following
	has   map[Digest]*held
	most  int // bodies at a time
	open  int
	many  int           // refusals because of most
	gave  map[int64]int // how often what begins at an offset
	bytes int64
}

// held is a blob that a stranger has.
type held struct {
	data   []byte
	states []Digest
}

func newHeld(data []byte) *held {
	h := &held{data: data}
	sum := sha256.New()
	for at := store.PieceSize; at < len(data); at += store.PieceSize {
		sum.Write(data[at-store.PieceSize : at])
		state, _ := sum.(encoding.BinaryMarshaler).MarshalBinary()
		h.states = append(h.states, Digest(state[4:36]))
	}
	return h
}

// newWorld gives a site's nodes, of which there are none yet, so many strangers.
func newWorld(s *site, strangers int) *world {
	w := &world{t: s.t, rtt: 20 * time.Millisecond, finding: 30 * time.Millisecond, over: 300 * time.Millisecond,
		patience: 100 * time.Millisecond, brought: map[Digest][]int64{}, failed: map[Peer]int{}, liars: map[Peer]string{}}
	for i := range strangers {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}), 9978)
		w.strangers = append(w.strangers, &stranger{
			self: Peer{ID: addr.String(), Addr: addr}, link: newPipe(25_000_000), most: 4,
			has: map[Digest]*held{}, gave: map[int64]int{},
		})
	}
	s.world = w
	return w
}

// file puts a file on the mirror, and gives it to all strangers.
func (w *world) file(s *site, name string, data []byte) Want {
	want := s.file(name, data)
	want.Shareable = func(context.Context) bool { return true }
	h := newHeld(data)
	for _, p := range w.strangers {
		p.mu.Lock()
		p.has[want.Digest] = h
		p.mu.Unlock()
	}
	return want
}

// Patience implements WAN.
func (w *world) Patience() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.patience
}

// Seek implements WAN.
func (w *world) Seek(ctx context.Context, d Digest, found func(Peer)) {
	w.mu.Lock()
	w.sought = append(w.sought, d)
	w.mu.Unlock()
	began := time.Now()
	for _, p := range w.strangers {
		if p.held(d) == nil {
			continue
		}
		if !sleep(ctx, max(0, w.finding+p.after-time.Since(began))) {
			return
		}
		found(p.self)
	}
	sleep(ctx, max(0, w.over-time.Since(began)))
}

// Brought implements WAN.
func (w *world) Brought(d Digest, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.brought[d] = append(w.brought[d], n)
	if w.learn != nil {
		w.learn(n)
	}
}

// Failed implements WAN.
func (w *world) Failed(p Peer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed[p]++
}

// Liar implements WAN.
func (w *world) Liar(p Peer, _ Digest, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.liars[p] = what
}

// Fetch implements WAN.
func (w *world) Fetch(ctx context.Context, p Peer, d Digest, from, to int64) (*PeerBody, error) {
	i := slices.IndexFunc(w.strangers, func(s *stranger) bool { return s.self == p })
	if i < 0 {
		return nil, errRefused
	}
	if !sleep(ctx, w.rtt) {
		return nil, context.Cause(ctx)
	}
	return w.strangers[i].give(ctx, d, from, to)
}

func (s *stranger) held(d Digest) *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has[d]
}

func (s *stranger) give(ctx context.Context, d Digest, from, to int64) (*PeerBody, error) {
	h := s.held(d)
	if h == nil {
		return nil, fmt.Errorf("404: %w", ErrNotHere)
	}
	if !s.takes(from) {
		return nil, fmt.Errorf("429: %w", ErrBusy)
	}
	body := &PeerBody{Size: int64(len(h.data)), Modified: modified}
	body.ReadCloser = &sending{Reader: bytes.NewReader(h.data[from:to]), s: s, ctx: ctx}
	if i := from / store.PieceSize; from > 0 && from%store.PieceSize == 0 {
		state := h.states[i-1]
		body.State = &state
	}
	if s.spoil != nil {
		return s.spoil(ctx, d, from, to, body)
	}
	return body, nil
}

// takes counts a request.
func (s *stranger) takes(from int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= s.most {
		s.many++
		return false
	}
	s.open++
	s.gave[from]++
	return true
}

// sending is a body on its way from a stranger.
type sending struct {
	*bytes.Reader
	s    *stranger
	ctx  context.Context
	once sync.Once
}

func (b *sending) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	n, err := b.Reader.Read(p[:min(len(p), 16<<10)])
	if n == 0 {
		return n, err
	}
	b.s.mu.Lock()
	b.s.bytes += int64(n)
	b.s.mu.Unlock()
	return n, b.s.link.pass(b.ctx, n)
}

func (b *sending) Close() error {
	b.once.Do(func() {
		b.s.mu.Lock()
		defer b.s.mu.Unlock()
		b.s.open--
	})
	return nil
}

// WriteTo would send all at once.
func (b *sending) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{b})
}

// told is what the world was told of a blob, -1 for nothing.
func (w *world) told(want Want) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if list := w.brought[want.Digest]; len(list) > 0 {
		return list[len(list)-1]
	}
	return -1
}

// asked is how many pieces it has been asked for.
func (s *stranger) asked() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, times := range s.gave {
		n += int64(times)
	}
	return n
}

// twice is how many pieces of a blob strangers were asked for again.
func (w *world) twice() (n int) {
	asked := map[int64]int{}
	for _, s := range w.strangers {
		for from, times := range s.gave {
			asked[from] += times
		}
	}
	for _, times := range asked {
		n += times - 1
	}
	return n
}

// withoutLAN makes a node that has no local network.
func (s *site) withoutLAN() *node {
	n := s.add(store.Config{})
	n.Fetcher.cfg.LAN = nil
	return n
}

// ends waits until the node's transfers have ended, and all that they have started.
func (n *node) ends() {
	for len(n.Transfers()) > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	synctest.Wait()
}
