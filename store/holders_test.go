// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

func heldBy(blob byte, id, addr string, at time.Time) Holder {
	return Holder{Digest: Digest{blob}, ID: id, Addr: netip.MustParseAddrPort(addr), At: at.Truncate(time.Second).UTC()}
}

func wantHolders(t testing.TB, s *Store, want ...Holder) {
	t.Helper()
	got := make(map[string]Holder)
	for h := range s.EachHolder {
		got[fmt.Sprint(h.Digest, h.ID)] = h
	}
	if len(got) != len(want) {
		t.Errorf("%d holders, want %d", len(got), len(want))
	}
	for _, h := range want {
		if got[fmt.Sprint(h.Digest, h.ID)] != h {
			t.Errorf("holder %+v is %+v", h, got[fmt.Sprint(h.Digest, h.ID)])
		}
	}
}

func TestHolders(t *testing.T) {
	now := time.Now()
	a := heldBy(1, "00112233445566aa", "192.0.2.1:9977", now)
	b := heldBy(1, "00112233445566bb", "[fe80::1%eth0]:9977", now.Add(-time.Hour))
	c := heldBy(2, "00112233445566aa", "[2001:db8::1]:1", now.Add(time.Hour))
	old := heldBy(3, "00112233445566aa", "192.0.2.1:9977", now.Add(-lanAge))
	moved := a
	moved.Addr = netip.MustParseAddrPort("192.0.2.7:80")
	for _, room := range []bool{true, false} {
		t.Run(fmt.Sprint("room ", room), func(t *testing.T) {
			s := open(t, Config{})
			free := s.rows.free
			if !room {
				s.rows.free = func() (int64, error) { return 0, nil }
			}
			if err := s.PutHolders([]Holder{a, b, c, old}); err != nil {
				t.Fatal(err)
			}
			wantHolders(t, s, a, b, c)
			if err := s.PutHolders([]Holder{moved}); err != nil {
				t.Fatal(err)
			}
			if err := s.DeleteHolders([]Holder{{Digest: b.Digest, ID: b.ID}, {Digest: Digest{9}, ID: b.ID}}); err != nil {
				t.Fatal(err)
			}
			wantHolders(t, s, moved, c)
			s.rows.free = free
			s = reopen(t, s)
			wantHolders(t, s, moved, c)
			for range s.EachHolder {
				break
			}
		})
	}
}

func TestHoldersRefuses(t *testing.T) {
	s := open(t, Config{})
	for _, id := range []string{"", "0011", "00112233445566778899", "zz112233445566aa"} {
		h := []Holder{{ID: id}}
		if s.PutHolders(h) == nil || s.DeleteHolders(h) == nil {
			t.Errorf("took id %q", id)
		}
	}
	wantHolders(t, s)
}

func TestManyHolders(t *testing.T) {
	s := open(t, Config{})
	many := make([]Holder, 3*rowsAtOnce+1)
	for i := range many {
		many[i] = heldBy(byte(i), fmt.Sprintf("%016x", i), "192.0.2.1:9977", time.Now())
	}
	if err := s.PutHolders(many); err != nil {
		t.Fatal(err)
	}
	wantHolders(t, s, many...)
	if err := s.DeleteHolders(many); err != nil {
		t.Fatal(err)
	}
	wantHolders(t, s)
}

func wantAnnounced(t testing.TB, s *Store, want map[Digest]time.Time) {
	t.Helper()
	got := make(map[Digest]time.Time)
	for d, at := range s.EachBlob {
		got[d] = at
		s.Stat(d)
	}
	if len(got) != len(want) {
		t.Errorf("%d blobs, want %d", len(got), len(want))
	}
	for d, at := range want {
		if !got[d].Equal(at) {
			t.Errorf("blob %x was announced %v, want %v", d[:4], got[d], at)
		}
	}
}

func TestAnnounced(t *testing.T) {
	s := open(t, Config{})
	var blobs []Digest
	want := make(map[Digest]time.Time)
	for i := range uint64(6) {
		b, _ := blob(i, 100)
		d := add(t, s, b, Meta{})
		blobs = append(blobs, d)
		want[d] = time.Time{}
	}
	wantAnnounced(t, s, want)
	now := time.Unix(time.Now().Unix(), 0)
	err := errors.Join(s.Announced(blobs[:2], now), s.Announced(blobs[2:3], now.Add(-time.Hour)), s.Announced(blobs[3:4], now.Add(-lanAge)))
	if err != nil {
		t.Fatal(err)
	}
	want[blobs[0]], want[blobs[1]], want[blobs[2]] = now, now, now.Add(-time.Hour)
	wantAnnounced(t, s, want)
	s = reopen(t, s)
	wantAnnounced(t, s, want)
	b, _ := blob(0, 100)
	s.remove(blobs[0])
	add(t, s, b, Meta{})
	want[blobs[0]] = time.Time{} // others have been told meanwhile that it is gone
	wantAnnounced(t, s, want)
	for range s.EachBlob {
		break
	}
}

// Gone is told of what anybody might have had, once it is gone, and may use the store.
func TestGone(t *testing.T) {
	var s *Store
	var mu sync.Mutex
	var gone []Digest
	s = open(t, Config{Quota: 10_000, Gone: func(d Digest) {
		if _, here := s.Stat(d); here {
			t.Errorf("blob %x is here", d[:4])
		}
		s.evictMu.Lock() // none is held
		s.metaMu.Lock()
		s.publishMu.Lock()
		defer s.evictMu.Unlock()
		defer s.metaMu.Unlock()
		defer s.publishMu.Unlock()
		mu.Lock()
		defer mu.Unlock()
		gone = append(gone, d)
	}})
	wantGone := func(name string, want ...Digest) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(gone, want) {
			t.Errorf("%s: told %x, want %x", name, gone, want)
		}
		gone = nil
	}
	content := make([][]byte, 8)
	names := make([]Digest, 8)
	for i := range names {
		content[i], names[i] = blob(uint64(i), 3000)
	}
	put := func(i int, m Meta) { t.Helper(); add(t, s, content[i], m) }
	put(0, Meta{})
	put(1, Meta{})
	wantGone("nothing")
	spoil(t, s, names[0])
	age(s, names[0], 48*time.Hour)
	wantNoBlob(t, s, names[0])
	wantGone("bad", names[0])
	put(2, Meta{})
	if err := os.Remove(s.blobPath(names[2])); err != nil {
		t.Fatal(err)
	}
	wantNoBlob(t, s, names[2])
	wantGone("missing", names[2])
	put(3, Meta{})
	put(4, Meta{})
	put(5, Meta{}) // 12,000 bytes
	wantGone("quota", names[1])
	put(6, Meta{})
	wantGone("quota again", names[3])
	put(6, Meta{})
	wantGone("replaced")
	age(s, names[6], 48*time.Hour)
	s.cfg.InUse = func(yield func(Digest) bool) { yield(Digest{}) }
	if _, _, err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantGone("collected", names[6])
}

func FuzzHolder(f *testing.F) {
	h := heldBy(1, "00112233445566aa", "[fe80::1%eth0]:9977", time.Unix(1e9, 0))
	r, err := encodeHolder(h)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.key, r.value)
	f.Add([]byte("h"), []byte{})
	f.Add(r.key, r.value[:timeLen])
	f.Fuzz(func(t *testing.T, key, value []byte) {
		h, ok := decodeHolder(row{key: key, value: value})
		if !ok {
			return
		}
		r, err := encodeHolder(h)
		if err != nil {
			t.Fatal(err)
		}
		if again, ok := decodeHolder(r); !ok || again != h {
			t.Errorf("%+v became %+v, %v", h, again, ok)
		}
	})
}

// A row that is over counts no more, in the database or in memory.
func TestExpiredRowsAreNotSeen(t *testing.T) {
	var log recorder
	r, free := testRows(t, &log)
	defer closeRows(t, r)
	past := time.Now().Add(-time.Second).Unix()
	for _, room := range []int64{1 << 40, 0} {
		free.Store(room)
		key := fmt.Sprint("k", rand.Uint64())
		if err := r.write([]row{{key: []byte(key), value: []byte("v"), expires: past}}); err != nil {
			t.Fatal(err)
		}
		wantRow(t, r, key, "")
		wantRows(t, r, "k", map[string]string{})
	}
	free.Store(1 << 40)
}
