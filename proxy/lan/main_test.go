// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/lookahead"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// digestOf names test blobs by number.
func digestOf(i int) Digest {
	return sha256.Sum256(binary.BigEndian.AppendUint32([]byte("blob"), uint32(i)))
}

// fakeMembers is the membership as a test sets it.
type fakeMembers struct {
	onProbe func(id string) // set before use

	mu      sync.Mutex // guards following
	list    []discovery.Member
	failed  map[string]int
	dead    map[string]bool
	probed  []string
	heard   []discovery.Member
	offLink map[netip.Addr]bool
	changed chan struct{}
}

func newFakeMembers() *fakeMembers {
	return &fakeMembers{changed: make(chan struct{}), failed: map[string]int{}, dead: map[string]bool{}, offLink: map[netip.Addr]bool{}}
}

func (f *fakeMembers) set(list []discovery.Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = list
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeMembers) Members() []discovery.Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list
}

func (f *fakeMembers) Alive(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.dead[id] && slices.ContainsFunc(f.list, func(m discovery.Member) bool { return m.ID == id })
}

func (f *fakeMembers) Failed(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead[id] = true
	f.failed[id]++
}

func (f *fakeMembers) revive(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.dead, id)
}

func (f *fakeMembers) failures(id string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed[id]
}

func (f *fakeMembers) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fakeMembers) OnLink(addr netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return addr.IsLoopback() && !f.offLink[addr]
}

func (f *fakeMembers) ProbeNow(id string) {
	f.mu.Lock()
	f.probed = append(f.probed, id)
	f.mu.Unlock()
	if f.onProbe != nil {
		f.onProbe(id)
	}
}

func (f *fakeMembers) probes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.probed)
}

func (f *fakeMembers) Heard(m discovery.Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = append(f.heard, m)
}

func (f *fakeMembers) strangers() []discovery.Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.heard)
}

// fakeStore is what a node has.
type fakeStore struct {
	dir string

	mu       sync.Mutex // guards following
	blobs    map[Digest][]byte
	told     map[Digest]time.Time
	arriving map[Digest]*arriving
	modified time.Time
}

func newFakeStore(dir string) *fakeStore {
	return &fakeStore{dir: dir, blobs: map[Digest][]byte{}, told: map[Digest]time.Time{}, arriving: map[Digest]*arriving{}}
}

func (s *fakeStore) put(d Digest, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d] = body
}

func (s *fakeStore) has(d Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.blobs[d]
	return ok
}

func (s *fakeStore) each(yield func(Digest, time.Time) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.blobs {
		if !yield(d, s.told[d]) {
			return
		}
	}
}

// toldAt is when a blob was announced last.
func (s *fakeStore) toldAt(d Digest) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[d]
}

func (s *fakeStore) announced(blobs []Digest, at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range blobs {
		s.told[d] = at
	}
	return nil
}

func (s *fakeStore) OpenShared(_ context.Context, d Digest) (*fetch.Shared, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.arriving[d]; a != nil {
		return &fetch.Shared{Size: a.size, Modified: s.modified, Arriving: a, Release: func() { a.closed.Add(1) }}, nil
	}
	body, ok := s.blobs[d]
	if !ok {
		return nil, fetch.ErrNotHere
	}
	path := filepath.Join(s.dir, fmt.Sprintf("%x", d))
	if err := os.WriteFile(path, body, 0o600); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &fetch.Shared{Size: int64(len(body)), Modified: s.modified, File: f, Release: func() { f.Close() }}, nil
}

// arriving is a blob that grows as a test writes it.
type arriving struct {
	size   int64
	closed atomic.Int32

	mu   sync.Mutex // guards following
	body []byte
	end  error // io.EOF: whole
	more chan struct{}
}

func (s *fakeStore) grow(d Digest, size int64) *arriving {
	a := &arriving{size: size, more: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arriving[d] = a
	return a
}

// write appends, and ends the blob if end is not nil.
func (a *arriving) write(p []byte, end error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.body, a.end = append(a.body, p...), end
	close(a.more)
	a.more = make(chan struct{})
}

func (a *arriving) Wait(ctx context.Context, off int64) (int64, error) {
	for {
		a.mu.Lock()
		n, end, more := int64(len(a.body)), a.end, a.more
		a.mu.Unlock()
		if n > off || end != nil {
			if n <= off {
				return n, end
			}
			return n, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
	}
}

func (a *arriving) ReadAt(p []byte, off int64) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.NewReader(a.body).ReadAt(p, off)
}

// testNode is a node that listens.
type testNode struct {
	*Node
	discovery.Member // as others know it
	members          *fakeMembers
	store            *fakeStore
	log              *lockedBuffer
	server           *http.Server
	asked            atomic.Int64 // questions that reached it
	paused           atomic.Pointer[chan struct{}]
	stop             func()
}

// lockedBuffer is a log.
type lockedBuffer struct {
	mu  sync.Mutex // guards following
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// newTestNode starts node i at an address of its own.
func newTestNode(tb testing.TB, i int) *testNode {
	tb.Helper()
	t := newIdleNode(tb, i)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t.Run(ctx)
	}()
	t.stop = sync.OnceFunc(func() {
		t.resume()
		cancel()
		<-ended
		t.server.Close()
	})
	tb.Cleanup(t.stop)
	return t
}

// newIdleNode is node i without what Run does.
func newIdleNode(tb testing.TB, i int) *testNode {
	tb.Helper()
	ip := netip.AddrFrom4([4]byte{127, 0, byte(1 + i/200), byte(1 + i%200)})
	listener, err := net.Listen("tcp", netip.AddrPortFrom(ip, 0).String())
	if err != nil {
		tb.Fatal(err)
	}
	addr := netip.MustParseAddrPort(listener.Addr().String())
	t := &testNode{
		Member:  discovery.Member{ID: fmt.Sprintf("%016x", 0xabc000+i), Addr: addr},
		members: newFakeMembers(),
		store:   newFakeStore(tb.TempDir()),
		log:     new(lockedBuffer),
	}
	t.Node, err = New(Config{
		ID: t.ID, Port: addr.Port(), Version: "test", Members: t.members,
		Has: t.store.has, EachBlob: t.store.each, Announced: t.store.announced,
		Log: slog.New(slog.NewTextHandler(t.log, nil)),
	})
	if err != nil {
		tb.Fatal(err)
	}
	from := &net.TCPAddr{IP: ip.AsSlice()}
	for _, transport := range []*http.Transport{t.transport, t.probing} {
		transport.DialContext = (&net.Dialer{Timeout: patience, LocalAddr: from}).DialContext
	}
	t.Share(t.store)
	t.serve(listener)
	tb.Cleanup(func() {
		t.end()
		t.server.Close()
	})
	return t
}

func (t *testNode) serve(l net.Listener) {
	handler := t.Handler()
	t.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.asked.Add(1)
		if gate := t.paused.Load(); gate != nil {
			<-*gate
		}
		handler.ServeHTTP(w, r)
	})}
	go t.server.Serve(&lookahead.Listener{Listener: l, Sink: func(net.Conn) lookahead.Sink { return blind{} }})
}

// blind sees what a connection has pipelined and does nothing. The proxy's
// connections read ahead, too, which must not disturb questions.
type blind struct{}

func (blind) Seen([]byte) {}
func (blind) Closed()     {}

// pause has the node take questions without answering, as SIGSTOP does.
func (t *testNode) pause() {
	gate := make(chan struct{})
	t.paused.Store(&gate)
}

func (t *testNode) resume() {
	if gate := t.paused.Swap(nil); gate != nil {
		close(*gate)
	}
}

// startNodes starts n nodes that know each other.
func startNodes(tb testing.TB, n int) []*testNode {
	tb.Helper()
	nodes := make([]*testNode, n)
	for i := range nodes {
		nodes[i] = newTestNode(tb, i)
	}
	introduce(tb, nodes...)
	return nodes
}

// introduce makes the nodes each other's members and waits until they have
// taken notice.
func introduce(tb testing.TB, nodes ...*testNode) {
	tb.Helper()
	for _, t := range nodes {
		var others []discovery.Member
		for _, o := range nodes {
			if o != t {
				others = append(others, o.Member)
			}
		}
		t.members.set(others)
	}
	for _, t := range nodes {
		eventually(tb, "the ring is known", func() bool { return len(t.view.Load().members) == len(nodes)-1 })
	}
}

// eventually waits for what others do.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not within 10 s: %s", what)
		}
	}
}

// digestID is a node id.
func digestID(i int) string { return fmt.Sprintf("%016x", 0xdef000+i) }

// blobOf returns a blob, the next from number on, whose homes are these nodes.
func blobOf(t *testNode, number int, homes ...*testNode) Digest {
	ring := t.view.Load().ring
	for ; ; number++ {
		d := digestOf(number)
		all, _ := ring.Homes(d, nil)
		fits := true
		for i, home := range homes {
			fits = fits && all[i].ID == home.ID
		}
		if fits {
			return d
		}
	}
}

// findNow is a whole lookup.
func (t *testNode) findNow(d Digest, lease bool, silent ...fetch.Peer) fetch.Answer {
	return t.Find(context.Background(), fetch.Question{Digest: d, Size: 1000, Lease: lease, Silent: silent})()
}

// describe is an answer in short.
func describe(a fetch.Answer) string {
	from := ""
	for _, p := range a.From {
		from += " " + p.ID[len(p.ID)-1:]
	}
	return [...]string{"nowhere", "held", "coming", "leased"}[a.State] + from
}

// get reads a blob from a node as another node.
func (t *testNode) get(from *testNode, d Digest, start, end int64) (*fetch.PeerBody, []byte, error) {
	body, err := t.Fetch(context.Background(), fetch.Peer(from.Member), d, start, end)
	if err != nil {
		return nil, nil, err
	}
	defer body.Close()
	all, err := io.ReadAll(body)
	return body, all, err
}
