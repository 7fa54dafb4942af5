// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// inBucket is the n-th of contacts that share bits bits with self.
func inBucket(self Key, bits, n int) contact {
	return contact{randomKey(self, bits), publicAddr(bits*1000 + n)}
}

func TestTableKeepsGoodNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		self := keyOf(1)
		tbl := newTable(self, false)
		var first []contact
		for i := range bucketSize {
			c := inBucket(self, 0, i)
			first = append(first, c)
			tbl.add(c, time.Now())
		}
		late := inBucket(self, 0, 100)
		tbl.add(late, time.Now())
		if tbl.wants(late) || len(tbl.nodes(anyNode)) != bucketSize {
			t.Fatal("a ninth node replaced a good one")
		}
		tbl.failed(first[3].addr)
		if !tbl.wants(late) {
			t.Fatal("a failing node is kept against one that answers")
		}
		tbl.add(late, time.Time{})
		if len(tbl.nearest(late.id, 1)) != 1 || tbl.nearest(late.id, 1)[0] == late {
			t.Fatal("one that has not answered replaced a node")
		}
		tbl.add(late, time.Now())
		if got := tbl.nearest(late.id, 1); got[0] != late {
			t.Errorf("nearest is %v, want the one that came last", got)
		}
		time.Sleep(goodFor)
		if got := tbl.nearest(self, bucketSize); len(got) != 0 {
			t.Errorf("%d nodes are good after %v of silence", len(got), goodFor)
		}
	})
}

func TestTableDropsTheDead(t *testing.T) {
	self := keyOf(1)
	tbl := newTable(self, false)
	answered, restored := inBucket(self, 3, 1), inBucket(self, 3, 2)
	tbl.add(answered, time.Now())
	tbl.add(restored, time.Time{})
	tbl.failed(answered.addr)
	tbl.failed(restored.addr)
	if got := tbl.nodes(anyNode); len(got) != 1 || got[0] != answered {
		t.Fatalf("after one failure each: %v", got)
	}
	tbl.add(answered, time.Now())
	tbl.failed(answered.addr)
	if len(tbl.nodes(anyNode)) != 1 {
		t.Fatal("an answer did not clear the failures")
	}
	tbl.failed(answered.addr)
	if len(tbl.nodes(anyNode)) != 0 {
		t.Fatal("two failures in a row do not drop a node")
	}
}

func TestTableAgainstOneOwner(t *testing.T) {
	self := keyOf(1)
	tbl := newTable(self, false)
	ip := netip.MustParseAddr("5.9.9.9")
	for i := range 40 {
		tbl.add(contact{randomKey(self, i), netip.AddrPortFrom(ip, uint16(2000+i))}, time.Now())
	}
	if got := len(tbl.nodes(anyNode)); got != 1 {
		t.Errorf("one address has %d nodes in the table", got)
	}
	for i := range 40 {
		addr := netip.AddrFrom4([4]byte{5, 8, 8, byte(i)})
		tbl.add(contact{randomKey(self, 2), netip.AddrPortFrom(addr, 2000)}, time.Now())
	}
	if got := len(tbl.buckets[2]); got > maxPerNetwork+1 {
		t.Errorf("one network has %d nodes in a bucket", got)
	}
	private := newTable(self, true)
	for i := range bucketSize {
		private.add(contact{randomKey(self, 0), netip.AddrPortFrom(ip, uint16(2000+i))}, time.Now())
	}
	if got := len(private.nodes(anyNode)); got != bucketSize {
		t.Errorf("a private table took %d of %d nodes of one address", got, bucketSize)
	}
}

func TestTableIdsChange(t *testing.T) {
	self := keyOf(1)
	tbl := newTable(self, false)
	addr := publicAddr(1)
	tbl.add(contact{randomKey(self, 0), addr}, time.Now())
	moved := contact{randomKey(self, 5), addr}
	tbl.add(moved, time.Now())
	tbl.add(contact{self, publicAddr(2)}, time.Now())
	if got := tbl.nodes(anyNode); len(got) != 1 || got[0] != moved {
		t.Errorf("the table holds %v", got)
	}
	// A stranger that claims a good node's id does not get its place.
	tbl.add(contact{moved.id, publicAddr(3)}, time.Now())
	if got := tbl.nodes(anyNode); len(got) != 1 || got[0] != moved {
		t.Errorf("the table holds %v", got)
	}
	tbl.rebase(moved.id)
	if got := tbl.nodes(anyNode); len(got) != 0 {
		t.Errorf("we are in our own table: %v", got)
	}
}

func TestTableNearest(t *testing.T) {
	self := keyOf(1)
	tbl := newTable(self, false)
	for i := range 100 {
		tbl.add(contact{keyOf(i + 10), publicAddr(i)}, time.Now())
	}
	all := tbl.nodes((*tableNode).good)
	got := tbl.nearest(keyOf(5), bucketSize)
	for _, c := range all {
		nearer := 0
		for _, g := range got {
			if compareDistance(keyOf(5), g.id, c.id) <= 0 {
				nearer++
			}
		}
		if nearer == 0 {
			t.Fatalf("%v is nearer than all of %v", c, got)
		}
	}
	for i := 1; i < len(got); i++ {
		if compareDistance(keyOf(5), got[i-1].id, got[i].id) > 0 {
			t.Error("nearest is not in order")
		}
	}
	if tbl.depth() < 2 {
		t.Errorf("depth is %d", tbl.depth())
	}
}
