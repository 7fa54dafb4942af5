// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
	"apt-dht/store"
)

// bytesOf is the content of a test blob.
func bytesOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>16 ^ i>>8 ^ i)
	}
	return b
}

func TestStoredBlob(t *testing.T) {
	nodes := startNodes(t, 2)
	body := bytesOf(3<<20 + 17)
	d := sha256.Sum256(body)
	nodes[1].store.put(d, body)
	nodes[1].store.modified = time.Unix(1_600_000_000, 0)
	states := []Digest{{1}, {2}, {3}}
	nodes[1].cfg.Pieces = func(Digest) ([]Digest, error) { return states, nil }
	size := int64(len(body))
	for _, test := range []struct {
		from, to int64
		state    *Digest
	}{
		{0, -1, nil},
		{0, 5, nil},
		{0, size, nil},
		{7, -1, nil},
		{store.PieceSize, 2 * store.PieceSize, &states[0]},
		{2 * store.PieceSize, 2*store.PieceSize + 1, &states[1]},
		{3 * store.PieceSize, -1, &states[2]},
		{size - 1, size, nil},
	} {
		t.Run(fmt.Sprint(test.from, test.to), func(t *testing.T) {
			head, got, err := nodes[0].get(nodes[1], d, test.from, test.to)
			if err != nil {
				t.Fatal(err)
			}
			to := test.to
			if to < 0 {
				to = size
			}
			if !bytes.Equal(got, body[test.from:to]) {
				t.Errorf("%d bytes came, not those from %d up to %d", len(got), test.from, to)
			}
			if head.Size != size || head.Growing || !head.Modified.Equal(nodes[1].store.modified) {
				t.Errorf("size %d, growing %t, modified %s", head.Size, head.Growing, head.Modified)
			}
			if (head.State == nil) != (test.state == nil) || head.State != nil && *head.State != *test.state {
				t.Errorf("the state is %x", head.State)
			}
		})
	}
	if from, to := nodes[0].BytesFrom(), nodes[1].BytesTo(); from != to || from < size {
		t.Errorf("%d bytes were taken, %d given", from, to)
	}
	if p := nodes[0].Peers()[0]; p.BytesFrom != nodes[0].BytesFrom() || p.BytesTo != 0 || p.ID != nodes[1].ID || !p.Alive {
		t.Errorf("the status of node 1 is %+v", p)
	}
	if p := nodes[1].Peers()[0]; p.BytesTo != nodes[1].BytesTo() {
		t.Errorf("the status of node 0 is %+v", p)
	}
}

func TestBlobNotHere(t *testing.T) {
	nodes := startNodes(t, 2)
	if _, _, err := nodes[0].get(nodes[1], digestOf(1), 0, -1); !errors.Is(err, fetch.ErrNotHere) {
		t.Errorf("the error is %v", err)
	}
	nodes[1].store.put(digestOf(1), []byte("short"))
	if _, _, err := nodes[0].get(nodes[1], digestOf(1), 100, -1); !errors.Is(err, fetch.ErrNotHere) {
		t.Errorf("beyond its end the error is %v", err)
	}
	nodes[1].stop()
	if _, _, err := nodes[0].get(nodes[1], digestOf(1), 0, -1); err == nil || errors.Is(err, fetch.ErrNotHere) {
		t.Errorf("of a dead node the error is %v", err)
	}
}

// A peer that accepts and says nothing is probed, and left as soon as it proves
// dead; one that lives has time.
func TestSilentPeer(t *testing.T) {
	for _, dead := range []bool{true, false} {
		nodes := startNodes(t, 2)
		nodes[1].pause()
		if dead {
			nodes[0].members.onProbe = nodes[0].members.Failed
		}
		began := time.Now()
		_, _, err := nodes[0].get(nodes[1], digestOf(1), 0, -1)
		took := time.Since(began)
		if probed := nodes[0].members.probes(); !slices.Contains(probed, nodes[1].ID) {
			t.Errorf("dead %v: %v were probed", dead, probed)
		}
		if dead && took > headPatience/2 || !dead && took < headPatience {
			t.Errorf("dead %v: it took %s", dead, took)
		}
		if err == nil || errors.Is(err, fetch.ErrNotHere) {
			t.Errorf("dead %v: the error is %v", dead, err)
		}
	}
}

func TestArrivingBlob(t *testing.T) {
	body := bytesOf(300_000)
	for _, test := range []struct {
		size, from, to int64
	}{
		{300_000, 0, -1},
		{300_000, 100_000, -1},
		{300_000, 100_000, 200_000},
		{-1, 0, -1},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			nodes := startNodes(t, 2)
			d := digestOf(1)
			a := nodes[1].store.grow(d, test.size)
			// The head must come before the first byte.
			head, err := nodes[0].Fetch(context.Background(), fetch.Peer(nodes[1].Member), d, test.from, test.to)
			if err != nil {
				t.Fatal(err)
			}
			defer head.Close()
			if head.Size != test.size || !head.Growing || head.State != nil {
				t.Errorf("size %d, growing %t, state %x", head.Size, head.Growing, head.State)
			}
			var got []byte
			for off := 0; off < len(body); off += 100_000 {
				end := error(nil)
				if off+100_000 == len(body) {
					end = io.EOF
				}
				a.write(body[off:off+100_000], end)
				if int64(off) >= test.from && (test.to < 0 || int64(off) < test.to) {
					part := make([]byte, 100_000) // it must come before there is more
					if _, err := io.ReadFull(head, part); err != nil {
						t.Fatal(err)
					}
					got = append(got, part...)
				}
			}
			if _, err := head.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after its end there is %v", err)
			}
			to := test.to
			if to < 0 {
				to = int64(len(body))
			}
			if !bytes.Equal(got, body[test.from:to]) {
				t.Error("other bytes came than were written")
			}
			eventually(t, "the blob is released", func() bool { return a.closed.Load() == 1 })
		})
	}
}

// What breaks off must not look complete, whatever is known of its size.
func TestArrivingBlobFails(t *testing.T) {
	for _, size := range []int64{1000, -1} {
		nodes := startNodes(t, 2)
		a := nodes[1].store.grow(digestOf(1), size)
		a.write(bytesOf(10), errors.New("the mirror has gone"))
		if _, got, err := nodes[0].get(nodes[1], digestOf(1), 0, -1); err == nil {
			t.Errorf("%d bytes of %d came, and no error", len(got), size)
		}
		nodes[0].stop()
		nodes[1].stop()
	}
}

// A range cannot be named where the size is unknown: who asks for one is not
// given the beginning for it.
func TestRangeOfUnknownSize(t *testing.T) {
	nodes := startNodes(t, 2)
	nodes[1].store.grow(digestOf(1), -1).write(bytesOf(10), nil)
	if _, _, err := nodes[0].get(nodes[1], digestOf(1), 5, -1); !errors.Is(err, fetch.ErrNotHere) {
		t.Errorf("the error is %v", err)
	}
	nodes[1].store.grow(digestOf(2), 10).write(bytesOf(10), nil)
	if _, _, err := nodes[0].get(nodes[1], digestOf(2), 10, -1); !errors.Is(err, fetch.ErrNotHere) {
		t.Errorf("at its end the error is %v", err)
	}
}

// Who waits for a blob that does not grow is let go when the node stops.
func TestStoppingEndsArrivingBlobs(t *testing.T) {
	nodes := startNodes(t, 2)
	a := nodes[1].store.grow(digestOf(1), 100)
	head, err := nodes[0].Fetch(context.Background(), fetch.Peer(nodes[1].Member), digestOf(1), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer head.Close()
	go nodes[1].stop()
	if _, err := head.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the reader got %v", err)
	}
	eventually(t, "the blob is released", func() bool { return a.closed.Load() == 1 })
}

func TestTooManyBlobs(t *testing.T) {
	nodes := startNodes(t, 2)
	nodes[1].store.put(digestOf(1), []byte("x"))
	source := nodes[0].Addr.Addr()
	for range maxBlobsEach {
		nodes[1].inflight.Take(source)
	}
	if _, _, err := nodes[0].get(nodes[1], digestOf(1), 0, -1); !errors.Is(err, fetch.ErrNotHere) || !strings.Contains(err.Error(), "429") {
		t.Errorf("the error is %v", err)
	}
	nodes[1].inflight.Put(source)
	if _, got, err := nodes[0].get(nodes[1], digestOf(1), 0, -1); string(got) != "x" {
		t.Errorf("one less, and %q came: %v", got, err)
	}
}

// A holder's answer is checked before a byte of it is taken.
func TestAnswersForBlobs(t *testing.T) {
	for name, test := range map[string]struct {
		code   int
		fields map[string]string
		from   int64
		want   string
	}{
		"whole":               {200, nil, 0, "size 5"},
		"whole for a part":    {200, nil, 3, "another range"},
		"part":                {206, map[string]string{"Content-Range": "bytes 3-7/99"}, 3, "size 99"},
		"part of unknown":     {206, map[string]string{"Content-Range": "bytes 3-7/*"}, 3, "size -1"},
		"other part":          {206, map[string]string{"Content-Range": "bytes 4-8/99"}, 3, "another range"},
		"part of no range":    {206, nil, 3, "another range"},
		"impossible range":    {206, map[string]string{"Content-Range": "bytes 3-2/99"}, 3, "another range"},
		"beyond the end":      {206, map[string]string{"Content-Range": "bytes 3-99/99"}, 3, "another range"},
		"moved":               {302, map[string]string{"Location": "http://127.0.0.1:1/"}, 0, "302"},
		"state":               {206, map[string]string{"Content-Range": "bytes 1048576-1048580/1048581", peer.StateField: strings.Repeat("ab", 32)}, 1 << 20, "state ab"},
		"state off a border":  {206, map[string]string{"Content-Range": "bytes 3-7/99", peer.StateField: strings.Repeat("ab", 32)}, 3, "no state"},
		"state that is none":  {206, map[string]string{"Content-Range": "bytes 1048576-1048580/1048581", peer.StateField: "xyz"}, 1 << 20, "no state"},
		"date that is none":   {200, map[string]string{"Last-Modified": "yesterday"}, 0, "no date"},
		"growing":             {200, map[string]string{peer.GrowingField: "1"}, 0, "growing"},
		"says it is growing?": {200, nil, 0, "not growing"},
	} {
		t.Run(name, func(t *testing.T) {
			node := newTestNode(t, 0)
			holder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for key, value := range test.fields {
					w.Header().Set(key, value)
				}
				w.WriteHeader(test.code)
				io.WriteString(w, "12345")
			}))
			defer holder.Close()
			p := fetch.Peer{ID: "0123456789abcdef", Addr: netip.MustParseAddrPort(holder.Listener.Addr().String())}
			body, err := node.Fetch(context.Background(), p, digestOf(1), test.from, -1)
			got := fmt.Sprint(err)
			if err == nil {
				body.Close()
				got = fmt.Sprintf("size %d, %s, %s, %s", body.Size,
					map[bool]string{true: "growing", false: "not growing"}[body.Growing],
					map[bool]string{true: "no date", false: "date"}[body.Modified.IsZero()], stateText(body.State))
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("the answer is read as %s, want %s", got, test.want)
			}
		})
	}
}

func stateText(state *Digest) string {
	if state == nil {
		return "no state"
	}
	return fmt.Sprintf("state %x", *state)
}

// A body ends with its context, and a closed one frees its connection.
func TestFetchEndsWithItsContext(t *testing.T) {
	nodes := startNodes(t, 2)
	a := nodes[1].store.grow(digestOf(1), 100)
	ctx, cancel := context.WithCancel(context.Background())
	body, err := nodes[0].Fetch(ctx, fetch.Peer(nodes[1].Member), digestOf(1), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := body.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	body.Close()
	eventually(t, "the blob is released", func() bool { return a.closed.Load() == 1 })
}

// Nothing listens there.
func TestFetchFromNowhere(t *testing.T) {
	node := newTestNode(t, 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	p := fetch.Peer{ID: "0123456789abcdef", Addr: netip.MustParseAddrPort(l.Addr().String())}
	if _, err := node.Fetch(context.Background(), p, digestOf(1), 0, -1); err == nil || errors.Is(err, fetch.ErrNotHere) {
		t.Errorf("the error is %v", err)
	}
}
