// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"context"
	"iter"
	"os"
	"slices"
	"testing"
	"time"
)

func TestEvictionOrder(t *testing.T) {
	type item struct {
		name        string
		age         time.Duration
		keep, named bool
		root        bool
	}
	items := []item{ // in the order in which they should go
		{name: "old index, unnamed", age: 80 * time.Hour, keep: true},
		{name: "unnamed, unused for a day", age: 30 * time.Hour},
		{name: "named, older", age: 50 * time.Hour, named: true},
		{name: "unnamed, used today", age: 23 * time.Hour},
		{name: "index replaced today", age: 22 * time.Hour, keep: true},
		{name: "named, young", age: time.Hour, named: true},
		{name: "index in use", age: 90 * time.Hour, keep: true, named: true},
		{name: "current root", age: 60 * time.Hour, keep: true, root: true},
	}
	named := make(map[Digest]bool)
	s := open(t, Config{InUse: inUse(named)})
	byDigest := make(map[Digest]string)
	for i, it := range items {
		b, d := blob(uint64(i), 1000)
		add(t, s, b, Meta{Keep: it.keep})
		age(s, d, it.age)
		byDigest[d] = it.name
		if it.named {
			named[d] = true
		}
		if it.root {
			if err := s.PutURL("http://a/InRelease", URLRecord{Digest: d, Root: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []string
	for _, v := range s.victims(time.Now()) {
		got = append(got, byDigest[v.digest])
	}
	for i, it := range items {
		if got[i] != it.name {
			t.Errorf("victim %d is %q, want %q", i, got[i], it.name)
		}
	}
	t.Run("GC", func(t *testing.T) {
		n, freed, err := s.GC(t.Context())
		if n != 2 || freed != 2000 || err != nil {
			t.Errorf("GC = %d, %d, %v", n, freed, err)
		}
		if n, _, err := s.GC(t.Context()); n != 0 || err != nil {
			t.Errorf("second GC = %d, %v", n, err)
		}
	})
	t.Run("nothing known", func(t *testing.T) {
		clear(named)
		if n, _, err := s.GC(t.Context()); n != 0 || err != nil {
			t.Errorf("GC without an index = %d, %v", n, err)
		}
		v := s.victims(time.Now())
		if last := byDigest[v[len(v)-1].digest]; last != "index replaced today" {
			t.Errorf("without an index, kept blobs go last; last is %q", last)
		}
	})
}

func inUse(named map[Digest]bool) iter.Seq[Digest] {
	return func(yield func(Digest) bool) {
		for d := range named {
			if !yield(d) {
				return
			}
		}
	}
}

func TestQuota(t *testing.T) {
	const quota = 320_000
	s := open(t, Config{Quota: quota})
	var all []Digest
	for i := range 50 {
		b, d := blob(uint64(i), 10_000)
		add(t, s, b, Meta{})
		all = append(all, d)
		if _, bytes, _ := s.Usage(); bytes > quota {
			t.Fatalf("%d bytes after blob %d", bytes, i)
		}
	}
	n, _, _ := s.Usage()
	if len(files(t, s, "blobs")) != n || n < 25 {
		t.Errorf("%d files, %d blobs", len(files(t, s, "blobs")), n)
	}
	for i, d := range all {
		if _, ok := s.Stat(d); ok != (i >= len(all)-n) {
			t.Errorf("blob %d of %d: there is %v", i, len(all), ok)
		}
	}
	_, err := s.Create(Digest{1}, quota+1)
	wantErr(t, err, ErrNoSpace)
	g := create(t, s, Digest{2}, -1)
	for err = nil; err == nil && g.Len() < 100<<20; {
		_, err = g.Write(make([]byte, 1<<20))
	}
	wantErr(t, err, ErrNoSpace)
	if g.Len() > quota+spaceCheck {
		t.Errorf("wrote %d bytes with a quota of %d", g.Len(), quota)
	}
}

func TestQuotaLoweredBetweenRuns(t *testing.T) {
	s := open(t, Config{})
	for i := range 10 {
		b, _ := blob(uint64(i), 1000)
		add(t, s, b, Meta{})
	}
	s.cfg.Quota = 5000
	s = reopen(t, s)
	s.tidy()
	if _, bytes, _ := s.Usage(); bytes > 5000 || bytes < 4000 {
		t.Errorf("%d bytes", bytes)
	}
}

// free lets a test say how much of the disk is free: what it says, and what is evicted.
func setFree(s *Store, free int64) {
	_, before := s.table.usage()
	s.free = func() (int64, error) {
		_, now := s.table.usage()
		return free + before - now, nil
	}
}

func TestFloorOfFreeSpace(t *testing.T) {
	s := open(t, Config{FreeFloor: 5000})
	var cool, hot []Digest
	for i := range 10 {
		b, d := blob(uint64(i), 1000)
		add(t, s, b, Meta{})
		if i < 5 {
			age(s, d, 2*time.Hour+time.Duration(5-i)*time.Second)
			cool = append(cool, d)
		} else {
			hot = append(hot, d)
		}
	}
	setFree(s, 3000)
	g := create(t, s, Digest{1}, 1000) // needs 3000 more than are free
	for i, d := range cool {
		if _, ok := s.Stat(d); ok != (i >= 3) {
			t.Errorf("cool blob %d: there is %v", i, ok)
		}
	}
	setFree(s, 0)
	_, err := s.Create(Digest{2}, 1000) // 2000 can be had, 6000 are needed
	wantErr(t, err, ErrNoSpace)
	if _, err := g.Write(make([]byte, 1000)); err != nil {
		t.Errorf("a small write looked at the disk: %v", err)
	}
	for _, d := range append(hot, cool[3:]...) {
		if _, ok := s.Stat(d); !ok {
			t.Error("evicted although it was not enough")
		}
	}
	setFree(s, 4500)
	s.tidy() // within fullPause nothing is looked for
	if _, ok := s.Stat(cool[3]); !ok {
		t.Error("evicted within the pause")
	}
	s.fullUntil = time.Time{}
	s.tidy()
	if _, ok := s.Stat(cool[3]); ok {
		t.Error("the floor is not restored in the background")
	}
}

func TestPartialsArePruned(t *testing.T) {
	const quota = 100_000
	s := open(t, Config{Quota: quota})
	suspend := func(seed uint64, size int, age time.Duration) Digest {
		b, d := blob(seed, size)
		g := create(t, s, d, int64(size)+1)
		write(t, g, b)
		if err := g.Suspend(); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(s.partialPath(d), when, when); err != nil {
			t.Fatal(err)
		}
		return d
	}
	suspend(1, 1000, partialAge+time.Hour)
	busy := create(t, s, suspend(2, 1000, 2*partialAge), 1001)
	older := suspend(3, 40_000, 5*time.Hour)
	younger := suspend(4, 40_000, time.Hour)
	if n, freed := s.prunePartials(); n != 1 || freed != 1000 {
		t.Errorf("pruned %d, %d bytes", n, freed)
	}
	b, _ := blob(5, 30_000)
	add(t, s, b, Meta{})
	if n, freed := s.prunePartials(); n != 1 || freed != 40_000 {
		t.Errorf("over the quota: pruned %d, %d bytes", n, freed)
	}
	left := files(t, s, "partial")
	slices.Sort(left)
	want := []string{s.partialPath(busy.want), s.partialPath(younger)}
	slices.Sort(want)
	if len(left) != 2 || !slices.Contains(want, s.partialDir()+"/"+left[0]) || !slices.Contains(want, s.partialDir()+"/"+left[1]) {
		t.Errorf("left %q, want %q; %x should be gone", left, want, older)
	}
}

func TestGCCancelled(t *testing.T) {
	s := open(t, Config{InUse: inUse(map[Digest]bool{{1}: true})})
	b, d := blob(1, 1000)
	add(t, s, b, Meta{})
	age(s, d, 30*time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.GC(ctx)
	wantErr(t, err, context.Canceled)
	wantBlob(t, s, d)
}

// Last uses survive a stop, and so does their order.
func TestUseIsRemembered(t *testing.T) {
	s := open(t, Config{})
	var order []Digest
	for i := range 3 {
		b, d := blob(uint64(i), 1000)
		add(t, s, b, Meta{})
		order = append(order, d)
	}
	wantBlob(t, s, order[0])
	s.tidy()
	s = crash(t, s) // after the flush of tidy
	var got []Digest
	for _, v := range s.victims(time.Now()) {
		got = append(got, v.digest)
	}
	if want := []Digest{order[1], order[2], order[0]}; !slices.Equal(got, want) {
		t.Errorf("order %x, want %x", got, want)
	}
}

// What Peek gives out is not used here, nor are pieces that are only counted.
func TestPeekIsNoUse(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, PieceSize+1)
	add(t, s, b, Meta{})
	if err := s.rows.write([]row{{key: statesKey(d, 0)}}); err != nil {
		t.Fatal(err)
	}
	age(s, d, 48*time.Hour)
	before, _ := s.table.get(d)
	peeked, err := s.Peek(d)
	if err != nil {
		t.Fatal(err)
	}
	peeked.Close()
	if states, err := s.Pieces(d); err != nil || len(states) != 1 {
		t.Errorf("%d states, %v", len(states), err)
	}
	now, _ := s.table.get(d)
	if now.used != before.used || now.verified == before.verified {
		t.Errorf("used at %d, was %d; verified at %d, was %d", now.used, before.used, now.verified, before.verified)
	}
	wantBlob(t, s, d)
	if now, _ = s.table.get(d); now.used == before.used {
		t.Error("Get is a use, and is not noted")
	}
}
