// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/dht"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
)

// Nodes that only the DHT has in common find each other, and bytes go over.
func TestSeek(t *testing.T) {
	d := newFakeDHT()
	a, b, c := startNode(t, d, 1, nil), startNode(t, d, 2, nil), startNode(t, d, 3, nil)
	body := bytesOf(0, 100_000)
	blob := b.put(t, body)
	c.put(t, body)
	d.put(keyOf(blob), deadAddr(t))
	if found := a.seek(t, blob); !slices.Equal(found, []netip.AddrPort{b.addr, c.addr}) {
		t.Errorf("it found %v, not %v and %v", found, b.addr, c.addr)
	}
	if _, got, err := a.get(b, blob, 0, -1); string(got) != string(body) {
		t.Errorf("%d bytes came: %v", len(got), err)
	}
	if found := b.seek(t, Digest{1}); len(found) != 0 {
		t.Errorf("of what nobody has it found %v", found)
	}
	eventually(t, "all has been given", func() bool { return b.Status().BytesTo == 100_000 })
	s := a.Status()
	if s.BytesFrom != 100_000 || len(s.Peers) != 2 || b.Status().Offered != 1 {
		t.Errorf("the status is %+v, of the giver %+v", s, b.Status())
	}
	b.Gone(blob)
	if found := c.seek(t, blob); len(found) != 0 {
		t.Errorf("when it has gone it is found at %v", found)
	}
}

// Who has been met is asked for all that is wanted, and the DHT for nothing that
// those have.
func TestWhoIsKnownIsAskedFirst(t *testing.T) {
	d := newFakeDHT()
	a, b := startNode(t, d, 1, nil), startNode(t, d, 2, nil)
	blob := b.put(t, bytesOf(0, 10))
	a.seek(t, blob)
	asked := d.asked()
	for i := range 20 {
		other := b.put(t, bytesOf(byte(i+1), 10))
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		a.Seek(ctx, other, func(p fetch.Peer) {
			if p.Addr != b.addr {
				t.Errorf("it found %v", p)
			}
			cancel()
		})
	}
	if more := d.asked() - asked; more != 0 {
		t.Errorf("the DHT was asked %d times", more)
	}
}

// One that the DHT names for one blob is asked for all that are sought.
func TestOneAnswerForAllThatIsSought(t *testing.T) {
	d := newFakeDHT()
	a, b := startNode(t, d, 1, nil), startNode(t, d, 2, nil)
	var blobs []Digest
	for i := range 30 {
		blobs = append(blobs, b.put(t, bytesOf(byte(i), 10)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, blob := range blobs[1:] { // the DHT knows of the first alone
		seat{d, b.addr}.Withdraw(keyOf(blob))
	}
	var held []*seek
	for _, blob := range blobs[1:] {
		s := a.seeks.add(blob)
		defer a.seeks.remove(s)
		held = append(held, s)
	}
	a.Seek(ctx, blobs[0], func(fetch.Peer) {})
	for i, s := range held {
		eventually(t, fmt.Sprintf("blob %d is found", i), func() bool { any, _ := s.state(); return any })
	}
	if dials := a.dials(); len(dials) != 1 {
		t.Errorf("the other was dialled %d times", len(dials))
	}
}

// Nothing that the DHT says makes the node connect to what no node should be.
func TestPoisonedAddressesAreNotDialled(t *testing.T) {
	blob := Digest{7}
	poison := []string{
		"10.0.0.1:9978", "127.0.0.1:9978", "192.168.1.1:9978", "172.16.0.1:9978", "169.254.169.254:8080", "100.64.0.1:9978",
		"0.0.0.0:9978", "224.0.0.1:9978", "255.255.255.255:9978", "8.8.8.8:0", "8.8.8.8:53", "8.8.8.8:1023",
		"198.51.100.1:9978", "[::1]:9978", "[fe80::1]:9978", "[fd00::1]:9978", "[ff02::1]:9978", "[::ffff:8.8.8.8]:9978",
		"[2002:7f00:1::]:9978", "[2001:db8::1]:9978", "[2001::1]:9978", "5.6.7.8:4711",
	}
	private := []string{"8.8.8.8:0", "8.8.8.8:1023", "0.0.0.0:9978", "224.0.0.1:9978", "[ff02::1]:9978", "[::ffff:8.8.8.8]:9978", "5.6.7.8:4711"}
	for name, test := range map[string]struct {
		private bool
		poison  []string
	}{"public": {false, poison}, "private": {true, private}} {
		t.Run(name, func(t *testing.T) {
			d := newFakeDHT()
			node := startNode(t, d, 1, func(cfg *Config) {
				cfg.Private = test.private
				cfg.External = func(bool) (netip.AddrPort, bool) { return netip.MustParseAddrPort("5.6.7.8:4711"), true }
			})
			for _, text := range test.poison {
				addr := netip.MustParseAddrPort(text)
				d.put(keyOf(blob), addr)
				if _, err := node.Fetch(context.Background(), peerAt(addr), blob, 0, -1); err == nil {
					t.Errorf("it fetched from %s", addr)
				}
			}
			if found := node.seek(t, blob); len(found) != 0 {
				t.Errorf("it found %v", found)
			}
			if dials := node.dials(); len(dials) != 0 {
				t.Errorf("it dialled %v", dials)
			}
		})
	}
}

// A node does not take itself for another, whatever the DHT says.
func TestItself(t *testing.T) {
	d := newFakeDHT()
	node := startNode(t, d, 1, func(cfg *Config) { cfg.DHT = seat{d, netip.AddrPort{}} })
	blob := node.put(t, bytesOf(0, 10))
	d.put(keyOf(blob), node.addr)
	if found := node.seek(t, blob); len(found) != 0 {
		t.Errorf("it found %v", found)
	}
}

// Thousands of dead addresses cost a bounded number of connections at a time.
func TestDeadAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDHT()
		node, err := New(Config{DHT: seat{d, netip.AddrPort{}}, Port: 9978, IPv4: true})
		if err != nil {
			t.Fatal(err)
		}
		defer node.end()
		var now, most atomic.Int64
		node.connect = func(ctx context.Context, _, _ string) (net.Conn, error) {
			defer now.Add(-1)
			for n := now.Add(1); n > most.Load(); {
				most.Store(n)
			}
			peer.Sleep(ctx, dialTimeout)
			return nil, os.ErrDeadlineExceeded
		}
		blob := Digest{7}
		for i := range 4000 {
			d.put(keyOf(blob), netip.AddrPortFrom(netip.AddrFrom4([4]byte{5, byte(i / 500), byte(i % 50), byte(i)}), 9978))
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		node.Seek(ctx, blob, func(p fetch.Peer) { t.Errorf("it found %v", p) })
		if took := time.Since(began); took > answerTimeout {
			t.Errorf("it took %s", took)
		}
		if n := most.Load(); n > maxStrangers || n < maxStrangers/2 {
			t.Errorf("%d connections were tried at a time", n)
		}
	})
}

// A node that ends ends its searches.
func TestSearchesEndWithTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, err := New(Config{DHT: endless{seat{newFakeDHT(), netip.AddrPort{}}}, Port: 9978, IPv4: true})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			node.Seek(context.Background(), Digest{}, func(fetch.Peer) {})
		}()
		synctest.Wait()
		node.end()
		<-ended
		node.Seek(context.Background(), Digest{}, func(fetch.Peer) {})
	})
}

// endless is a DHT that does not come to an end.
type endless struct{ seat }

func (endless) Lookup(ctx context.Context, _ dht.Key) iter.Seq[netip.AddrPort] {
	return func(func(netip.AddrPort) bool) { <-ctx.Done() }
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{Port: 1}, {DHT: seat{}}, {DHT: seat{}, Port: 1, UploadLimit: -1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

// A liar is asked nothing; one that fails is left alone for a while.
func TestLiarsAndFailures(t *testing.T) {
	d := newFakeDHT()
	a, b, c := startNode(t, d, 1, nil), startNode(t, d, 2, nil), startNode(t, d, 3, nil)
	blob := b.put(t, bytesOf(0, 10))
	c.put(t, bytesOf(0, 10))
	a.Liar(peerAt(b.addr), blob, "its last piece is not the file's")
	if found := a.seek(t, blob); !slices.Equal(found, []netip.AddrPort{c.addr}) {
		t.Errorf("it found %v", found)
	}
	a.Failed(peerAt(c.addr))
	if found := a.seek(t, blob); len(found) != 0 {
		t.Errorf("when one lies and the other fails it found %v", found)
	}
	if peers := a.Status().Peers; len(peers) != 1 || !peers[0].Resting {
		t.Errorf("the peers are %+v", peers)
	}
}

// A public liar is blamed with all its ports, in a DHT of one's own with one.
func TestWhoIsBlamed(t *testing.T) {
	for _, test := range []struct {
		private     bool
		liar, other string
		blamed      bool
	}{
		{false, "5.6.7.8:4000", "5.6.7.8:4001", true},
		{false, "5.6.7.8:4000", "5.6.7.9:4000", false},
		{false, "[2a00::1]:4000", "[2a00::2]:4000", true},
		{false, "[2a00::1]:4000", "[2a00:0:0:1::1]:4000", false},
		{true, "10.0.0.1:4000", "10.0.0.1:4001", false},
		{true, "10.0.0.1:4000", "10.0.0.1:4000", true},
	} {
		node, err := New(Config{DHT: seat{newFakeDHT(), netip.AddrPort{}}, Port: 1, IPv4: true, Private: test.private})
		if err != nil {
			t.Fatal(err)
		}
		node.Liar(peerAt(netip.MustParseAddrPort(test.liar)), Digest{}, "it lied")
		if blamed := node.liars.Has(node.liarAt(netip.MustParseAddrPort(test.other))); blamed != test.blamed {
			t.Errorf("private %t: for what %s did, %s is blamed: %t", test.private, test.liar, test.other, blamed)
		}
	}
}
