// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// order takes all that is due at now out of s.
func order(s *schedule, now time.Time) []Key {
	var keys []Key
	for o, _ := s.take(now); o != nil; o, _ = s.take(now) {
		keys = append(keys, o.key)
	}
	return keys
}

func TestScheduleOrder(t *testing.T) {
	s := newSchedule()
	hours := func(n int) time.Time { return noon.Add(-time.Duration(n) * time.Hour) }
	for _, c := range []struct {
		key   int
		added time.Time
		row   Row
	}{
		{1, hours(1), Row{}},
		{2, hours(2), Row{}},
		{3, hours(1), Row{Peers: 1, Looked: hours(1)}},  // as if 7 h old
		{4, hours(1), Row{Peers: 10, Looked: hours(1)}}, // as if 25 h old
		{5, hours(20), Row{}},
		{6, noon, Row{Announced: hours(0)}},                    // not due
		{7, hours(2), Row{Peers: plenty, Looked: hours(1)}},    // has plenty
		{8, hours(3), Row{Announced: hours(1)}},                // to be renewed
		{9, hours(90), Row{Peers: plenty, Looked: hours(25)}},  // to be looked at again
		{10, hours(90), Row{Peers: plenty, Looked: hours(23)}}, // not yet
		{11, hours(6), Row{Peers: plenty, Looked: hours(3)}},   // a younger one is
		{12, hours(9), Row{Peers: plenty, Looked: hours(3)}},   // not yet
	} {
		s.add(keyOf(c.key), c.added, c.row)
	}
	want := []int{1, 2, 8, 3, 5, 4, 11, 9}
	got := order(s, noon)
	if len(got) != len(want) {
		t.Fatalf("%d keys are due, want %d", len(got), len(want))
	}
	for i, key := range got {
		if key != keyOf(want[i]) {
			t.Errorf("in place %d is %x, want key %d", i, key, want[i])
		}
	}
	if o, wait := s.take(noon); o != nil || wait != renewAfter {
		t.Errorf("the next is due in %v, want %v", wait, renewAfter)
	}
	if _, wait := newSchedule().take(noon); wait >= 0 {
		t.Errorf("an empty schedule has one due in %v", wait)
	}
}

func TestScheduleChanges(t *testing.T) {
	s := newSchedule()
	for i := range 10 {
		s.add(keyOf(i), noon.Add(-time.Duration(i)*time.Minute), Row{})
	}
	first, _ := s.take(noon)
	s.add(keyOf(9), noon.Add(time.Minute), Row{}) // newer now
	s.remove(keyOf(1))
	s.remove(keyOf(77))
	second, _ := s.take(noon)
	if first.key != keyOf(0) || second.key != keyOf(9) {
		t.Errorf("first %x, second %x", first.key, second.key)
	}
	s.remove(first.key)
	if s.giveBack(first, noon) {
		t.Error("a withdrawn key came back")
	}
	s.remove(second.key)
	s.add(second.key, noon, Row{})
	if s.giveBack(second, noon) {
		t.Error("a key that was withdrawn and offered anew is there twice")
	}
	if got := len(order(s, noon)); got != 8 {
		t.Errorf("%d keys are left", got)
	}
}

func TestScheduleIsBounded(t *testing.T) {
	s := newSchedule()
	for i := range maxOffered + 10 {
		s.add(keyOf(i), noon.Add(time.Duration(i)*time.Second), Row{})
	}
	if len(s.offers) > maxOffered || len(s.offers) < maxOffered*3/4 {
		t.Fatalf("%d keys are kept", len(s.offers))
	}
	if s.waiting.Len() != len(s.offers) {
		t.Errorf("%d of %d keys wait", s.waiting.Len(), len(s.offers))
	}
	if s.offers[keyOf(0)] != nil || s.offers[keyOf(maxOffered+9)] == nil {
		t.Error("not the oldest were forgotten")
	}
}

func TestScheduleCounts(t *testing.T) {
	s := newSchedule()
	s.add(keyOf(1), noon, Row{Announced: noon})
	s.add(keyOf(2), noon, Row{Announced: noon.Add(-announceTTL)})
	s.add(keyOf(3), noon, Row{Announced: noon})
	if offered, announced := s.counts(noon, nil); offered != 3 || announced != 2 {
		t.Errorf("%d offered, %d announced; want 3, 2", offered, announced)
	}
	if offered, announced := s.counts(noon, []Key{keyOf(3), keyOf(4)}); offered != 2 || announced != 1 {
		t.Errorf("without one: %d offered, %d announced; want 2, 1", offered, announced)
	}
}

func TestRow(t *testing.T) {
	for _, row := range []Row{{}, {noon, noon.Add(time.Hour), 7, 3}, {time.Time{}, noon, 65535, 0}} {
		b, err := row.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var got Row
		if err := got.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		if !got.Announced.Equal(row.Announced) || !got.Looked.Equal(row.Looked) || got.Peers != row.Peers {
			t.Errorf("%v became %v", row, got)
		}
	}
	var r Row
	if err := r.UnmarshalBinary(make([]byte, rowLength-1)); err == nil {
		t.Error("a short row is read")
	}
}

func FuzzRow(f *testing.F) {
	f.Add(make([]byte, rowLength))
	f.Add([]byte("\x00\x00\x00\x00\x69\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x07"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Row
		if r.UnmarshalBinary(b) != nil {
			return
		}
		back, err := r.MarshalBinary()
		if err != nil || string(back) != string(b) {
			t.Errorf("%x became %+v and then %x (%v)", b, r, back, err)
		}
	})
}
