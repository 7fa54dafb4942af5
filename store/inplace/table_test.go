// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// A modelEntry is an entry as a plain map would hold it.
type modelEntry struct {
	entry
	present, telling bool
}

func digestOf(key uint64) (d Digest) {
	binary.BigEndian.PutUint64(d[:], key)
	return d
}

// TestTable compares a table with a map through random changes. Keys are few, so that chains are long.
func TestTable(t *testing.T) {
	const keys = 300
	tb := newTable()
	model := make(map[id]*modelEntry)
	count := func(digest uint64) (n int) {
		for _, m := range model {
			if m.present && m.digest == digest {
				n++
			}
		}
		return n
	}
	pick := func() id {
		for i := range model {
			return i
		}
		return 0
	}
	for step := range 8_000 {
		grow := step < 4_000
		switch i := pick(); {
		case i == 0 || grow && rand.IntN(2) == 0:
			e := entry{path: rand.Uint64N(keys), digest: rand.Uint64N(keys), stamp: rand.Uint32N(keys), place: place(step)}
			telling := rand.IntN(4) > 0
			i := tb.add(e, telling)
			if i == 0 || model[i] != nil {
				t.Fatalf("id %d is in use", i)
			}
			model[i] = &modelEntry{entry: e, telling: telling}
		case !model[i].present && (grow || rand.IntN(2) == 0):
			if added, want := tb.enter(i), count(model[i].digest) == 0; added != want {
				t.Fatalf("enter says %v", added)
			}
			model[i].present = true
		case model[i].present:
			model[i].present = false
			if gone, want := tb.leave(i), count(model[i].digest) == 0; gone != want {
				t.Fatalf("leave says %v", gone)
			}
		default:
			tb.drop(i)
			delete(model, i)
		}
		if step%2000 == 0 {
			compareTable(t, tb, model, keys)
		}
	}
	compareTable(t, tb, model, keys)
}

func compareTable(t *testing.T, tb *table, model map[id]*modelEntry, keys uint64) {
	t.Helper()
	room := make([]place, 0, 100_000)
	for k := range keys {
		var byPath []id
		var byStamp, byDigest []place
		for i, m := range model {
			if m.path == k {
				byPath = append(byPath, i)
			}
			if uint64(m.stamp) == k && m.telling {
				byStamp = append(byStamp, m.place)
			}
			if m.digest == k && m.present {
				byDigest = append(byDigest, m.place)
			}
		}
		if i := tb.byPath(k); i == 0 && len(byPath) > 0 || i != 0 && !slices.Contains(byPath, i) {
			t.Fatalf("path %d: found %d, want one of %v", k, i, byPath)
		}
		samePlaces(t, tb.byStamp(uint32(k), room), byStamp)
		samePlaces(t, tb.byDigest(digestOf(k), room), byDigest)
		if got := len(tb.byDigest(digestOf(k), make([]place, 0, 2))); got != min(2, len(byDigest)) {
			t.Fatalf("%d places where there is room for two", got)
		}
	}
	present := 0
	for i, m := range model {
		if m.present {
			present++
		}
		if tb.stateOf(i).present() != m.present {
			t.Fatalf("state of %d is %v", i, tb.stateOf(i))
		}
	}
	if tb.entries != len(model) || tb.present != present {
		t.Fatalf("%d entries, %d present; want %d, %d", tb.entries, tb.present, len(model), present)
	}
}

func samePlaces(t *testing.T, got, want []place) {
	t.Helper()
	got = slices.Clone(got)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("places %v, want %v", got, want)
	}
}

// TestGoneIsForgotten ages what is gone, and bounds it.
func TestGoneIsForgotten(t *testing.T) {
	b := newBench(t)
	d := b.write("a", random(10))
	b.write("b", random(10))
	b.start().comes(d)
	b.eventually("both are known", func() bool { return b.Stats().Files == 2 })
	b.stop()
	b.remove("a")
	b.cfg.Changed = nil
	s := must(Open(b.cfg))
	defer s.Close()
	for i := range keepScans + 1 {
		if s.table.entries != 2 {
			t.Fatalf("%d entries before scan %d", s.table.entries, i)
		}
		s.scan(t.Context())
	}
	if s.table.entries != 1 || s.table.present != 1 {
		t.Errorf("%d entries, %d present", s.table.entries, s.table.present)
	}
	b.rename("b", ".b")
	for range 2 * keepScans {
		s.scan(t.Context()) // finds nothing, so it does not count
	}
	b.rename(".b", "c") // another ctime: to be hashed
	s.scan(t.Context())
	if s.table.entries != 1 || s.table.present != 0 || s.Stats().Waiting != 1 {
		t.Errorf("%d entries, %d present, %+v", s.table.entries, s.table.present, s.Stats())
	}
}
