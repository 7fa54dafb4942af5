// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"apt-dht/dht"
	"apt-dht/proxy/fetch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bytesOf is the content of a test blob.
func bytesOf(seed byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>16^i>>8^i) + seed
	}
	return b
}

// fakeDHT is what all nodes of a test share.
type fakeDHT struct {
	mu      sync.Mutex // guards following
	keys    map[dht.Key][]netip.AddrPort
	lookups int
}

func newFakeDHT() *fakeDHT { return &fakeDHT{keys: make(map[dht.Key][]netip.AddrPort)} }

func (f *fakeDHT) put(key dht.Key, addrs ...netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, addr := range addrs {
		if !slices.Contains(f.keys[key], addr) {
			f.keys[key] = append(f.keys[key], addr)
		}
	}
}

func (f *fakeDHT) get(key dht.Key) []netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookups++
	return slices.Clone(f.keys[key])
}

func (f *fakeDHT) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lookups
}

// seat is the DHT as one node has it.
type seat struct {
	*fakeDHT
	addr netip.AddrPort
}

func (s seat) Lookup(ctx context.Context, key dht.Key) iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		for _, addr := range s.get(key) {
			if ctx.Err() != nil || addr != s.addr && !yield(addr) {
				return
			}
		}
	}
}

func (s seat) Offer(key dht.Key, _ time.Time) { s.put(key, s.addr) }

func (s seat) Withdraw(key dht.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[key] = slices.DeleteFunc(s.keys[key], func(a netip.AddrPort) bool { return a == s.addr })
}

// testNode is a node that listens.
type testNode struct {
	*Node
	addr netip.AddrPort
	dir  string

	mu      sync.Mutex // guards following
	dialled []string
}

// startNode starts node i, at an address of its own. change may be nil.
func startNode(tb testing.TB, d *fakeDHT, i int, change func(*Config)) *testNode {
	tb.Helper()
	ip := netip.AddrFrom4([4]byte{127, 0, byte(1 + i/200), byte(1 + i%200)})
	l, err := net.Listen("tcp", netip.AddrPortFrom(ip, 0).String())
	if err != nil {
		tb.Fatal(err)
	}
	t := &testNode{addr: netip.MustParseAddrPort(l.Addr().String()), dir: tb.TempDir()}
	cfg := Config{
		DHT: seat{d, t.addr}, Private: true, Port: t.addr.Port(), IPv4: true, Version: "test",
		Open: t.open, UploadLimit: 1 << 30,
	}
	if change != nil {
		change(&cfg)
	}
	if t.Node, err = New(cfg); err != nil {
		tb.Fatal(err)
	}
	dialer := net.Dialer{Timeout: dialTimeout, LocalAddr: &net.TCPAddr{IP: ip.AsSlice()}}
	t.connect = func(ctx context.Context, network, addr string) (net.Conn, error) {
		t.mu.Lock()
		t.dialled = append(t.dialled, addr)
		t.mu.Unlock()
		return dialer.DialContext(ctx, network, addr)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.offerAll(ctx) // of what Run does; checks would disturb
	group.Go(func() {
		if err := t.Serve(ctx, l, nil); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() {
		cancel()
		group.Wait()
		t.end()
	})
	return t
}

func (t *testNode) open(d Digest) (*fetch.Shared, error) {
	f, err := os.Open(filepath.Join(t.dir, fmt.Sprintf("%x", d)))
	if err != nil {
		return nil, fetch.ErrNotHere
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return &fetch.Shared{Size: st.Size(), Modified: st.ModTime(), File: f, Release: func() { f.Close() }}, nil
}

// put stores a blob at a node.
func (t *testNode) put(tb testing.TB, body []byte) Digest {
	tb.Helper()
	d := Digest(sha256.Sum256(body))
	if err := os.WriteFile(filepath.Join(t.dir, fmt.Sprintf("%x", d)), body, 0o600); err != nil {
		tb.Fatal(err)
	}
	t.Have(d, time.Now())
	return d
}

func (t *testNode) dials() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.dialled)
}

// seek is whom a node finds.
func (t *testNode) seek(tb testing.TB, d Digest) []netip.AddrPort {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	found := []netip.AddrPort{}
	t.Seek(ctx, d, func(p fetch.Peer) { found = append(found, p.Addr) })
	if ctx.Err() != nil {
		tb.Error("the search has not ended")
	}
	slices.SortFunc(found, netip.AddrPort.Compare)
	return found
}

// get reads a blob from another node.
func (t *testNode) get(from *testNode, d Digest, start, end int64) (*fetch.PeerBody, []byte, error) {
	body, err := t.Fetch(context.Background(), peerAt(from.addr), d, start, end)
	if err != nil {
		return nil, nil, err
	}
	defer body.Close()
	all, err := io.ReadAll(body)
	return body, all, err
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

// deadAddr is an address at which nobody is.
func deadAddr(tb testing.TB) netip.AddrPort {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.9.9:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}
