// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"fmt"
	"testing"
)

func TestCompareDistance(t *testing.T) {
	target := Key{0x80}
	near, far := Key{0x81}, Key{0x01}
	for _, c := range []struct {
		a, b Key
		want int
	}{{near, far, -1}, {far, near, 1}, {near, near, 0}, {target, near, -1}} {
		if got := compareDistance(target, c.a, c.b); got != c.want {
			t.Errorf("compareDistance(%x, %x, %x) = %d, want %d", target, c.a, c.b, got, c.want)
		}
	}
}

func TestRandomKeySharesBits(t *testing.T) {
	self := keyOf(1)
	for n := range 161 {
		if got := sharedBits(self, randomKey(self, n)); got != n {
			t.Errorf("randomKey(self, %d) shares %d bits", n, got)
		}
	}
	if a, b := randomKey(self, -1), randomKey(self, -1); a == b {
		t.Error("two random keys are the same")
	}
}

func TestRecentForgetsTheOldest(t *testing.T) {
	r := newRecent[string, int](10)
	for i := range 100 {
		r.put(fmt.Sprint(i), i)
		if held := len(r.young) + len(r.old); held > 20 {
			t.Fatalf("holds %d entries", held)
		}
		for back := range min(i, 10) {
			if v, ok := r.get(fmt.Sprint(i - back)); !ok || v != i-back {
				t.Fatalf("after %d: entry %d is %d, %v", i, i-back, v, ok)
			}
		}
	}
	r.put("99", -1)
	if v, _ := r.get("99"); v != -1 {
		t.Errorf("the old value %d came back", v)
	}
}
