// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"testing"
	"time"
)

// What the DHT keeps survives a restart, until it is dropped or out of date.
func TestDHTRows(t *testing.T) {
	s := open(t, Config{})
	soon := time.Now().Add(time.Hour)
	kept, dropped, old := [20]byte{1}, [20]byte{2}, [20]byte{3}
	for key, expires := range map[[20]byte]time.Time{kept: soon, dropped: soon, old: time.Now().Add(-time.Hour)} {
		if err := s.PutDHTRow(key, []byte{key[0], 7}, expires); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DropDHTRow(dropped); err != nil {
		t.Fatal(err)
	}
	if err := s.PutDHTRow(kept, make([]byte, maxDHTRow+1), soon); !errors.Is(err, ErrTooLong) {
		t.Errorf("a row of %d bytes: %v", maxDHTRow+1, err)
	}
	s = reopen(t, s)
	got := map[[20]byte]string{}
	for key, value := range s.EachDHTRow {
		got[key] = string(value)
	}
	if len(got) != 1 || got[kept] != "\x01\x07" {
		t.Errorf("rows after a restart: %v", got)
	}
}

// Only what may be given to the world is named to it.
func TestEachShareable(t *testing.T) {
	s := open(t, Config{})
	public := add(t, s, []byte("public"), Meta{Shareable: true, Origin: "http://a.example/public"})
	local := add(t, s, []byte("local"), Meta{})
	for d, want := range map[Digest]bool{public: true, local: false, {}: false} {
		if got := s.Shareable(d); got != want {
			t.Errorf("Shareable(%x) = %v, want %v", d[:4], got, want)
		}
	}
	got := map[Digest]string{}
	for d, m := range s.EachShareable {
		got[d] = m.Origin
		if m.Added.IsZero() {
			t.Errorf("%x was added at no time", d[:4])
		}
	}
	if len(got) != 1 || got[public] != "http://a.example/public" {
		t.Errorf("shareable: %v", got)
	}
}
