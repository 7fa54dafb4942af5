// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"testing"
)

// testMember returns the i-th member of a LAN.
func testMember(i int) Member {
	addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
	return Member{ID: fmt.Sprintf("%016x", i), Addr: netip.AddrPortFrom(addr, 9977)}
}

func testMembers(n int) []Member {
	members := make([]Member, n)
	for i := range members {
		members[i] = testMember(i)
	}
	return members
}

func testDigest(i int) Digest {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
}

func TestRingAgrees(t *testing.T) {
	members := testMembers(9)
	a := NewRing(members[0], members[1:])
	b := NewRing(members[8], append([]Member{members[3]}, members[:8]...))
	for i := range 1000 {
		homesA, n := a.Homes(testDigest(i), nil)
		homesB, m := b.Homes(testDigest(i), nil)
		if homesA != homesB || n != 2 || m != 2 || homesA[0] == homesA[1] {
			t.Fatalf("blob %d: %v (%d) and %v (%d)", i, homesA, n, homesB, m)
		}
	}
}

// The score is part of the protocol: these homes must never change.
func TestRingScore(t *testing.T) {
	ring := NewRing(testMember(0), testMembers(50))
	for i, want := range [][2]int{{36, 48}, {2, 16}, {28, 33}} {
		homes, _ := ring.Homes(testDigest(i), nil)
		if homes != [2]Member{testMember(want[0]), testMember(want[1])} {
			t.Errorf("blob %d: homes %v, want members %v", i, homes, want)
		}
	}
}

func TestRingSkips(t *testing.T) {
	ring := NewRing(testMember(0), testMembers(4))
	blob := testDigest(1)
	dead := map[string]bool{}
	skip := func(id string) bool { return dead[id] }
	var order []Member
	for range 4 {
		homes, n := ring.Homes(blob, skip)
		if n == 0 {
			t.Fatalf("no homes with %d of 4 dead", len(dead))
		}
		if want := min(2, 4-len(dead)); n != want {
			t.Errorf("%d homes with %d of 4 dead, want %d", n, len(dead), want)
		}
		if len(order) > 0 && order[len(order)-1] != homes[0] {
			t.Errorf("the second home %v does not follow the first, but %v", order[len(order)-1], homes[0])
		}
		dead[homes[0].ID] = true
		if n == 2 {
			order = append(order, homes[1])
		}
	}
	if _, n := ring.Homes(blob, skip); n != 0 {
		t.Errorf("%d homes though all are dead", n)
	}
}

func TestRingIsEven(t *testing.T) {
	const members, blobs = 200, 100_000
	ring := NewRing(testMember(0), testMembers(members))
	var load [2]map[string]int
	load[0], load[1] = map[string]int{}, map[string]int{}
	for i := range blobs {
		homes, _ := ring.Homes(testDigest(i), nil)
		load[0][homes[0].ID]++
		load[1][homes[1].ID]++
	}
	// Six standard deviations of a fair share.
	const share = float64(blobs) / members
	bound := 6 * math.Sqrt(share)
	for rank := range load {
		if len(load[rank]) != members {
			t.Errorf("%d members are homes, want all", len(load[rank]))
		}
		for id, n := range load[rank] {
			if math.Abs(float64(n)-share) > bound {
				t.Errorf("%s is home %d of %d blobs, the fair share is %.0f ± %.0f", id, rank, n, share, bound)
			}
		}
	}
}

// When one of 200 joins or leaves, only its own share is told again.
func TestRingMoves(t *testing.T) {
	const members = 200
	all := testMembers(members + 1)
	without, with := NewRing(all[0], all[:members]), NewRing(all[0], all)
	for name, tt := range map[string]struct {
		old, new *Ring
		blobs    int // of each node
	}{"joins": {without, with, 5000}, "leaves": {with, without, 500}} {
		told, blobs := 0, tt.blobs
		for node := range members {
			for i := range blobs {
				homes, n := tt.new.Moved(tt.old, testDigest(node*blobs+i))
				told += n
				if name == "joins" && n > 0 && homes[0] != all[members] {
					t.Fatalf("told %v, which was a home before", homes[0])
				}
			}
		}
		ideal := float64(members*blobs) * 2 / (members + 1)
		if ratio := float64(told) / ideal; ratio > 1.2 || ratio < 0.8 {
			t.Errorf("one %s: %d told again, %.3f of the ideal", name, told, ratio)
		} else {
			t.Logf("one %s: %d told again, %.3f of the ideal", name, told, ratio)
		}
	}
}

func TestRingAlone(t *testing.T) {
	ring := NewRing(testMember(7), nil)
	if homes, n := ring.Homes(testDigest(1), nil); n != 1 || homes[0] != testMember(7) {
		t.Errorf("homes %v (%d), want the node itself", homes, n)
	}
	if _, n := ring.Moved(ring, testDigest(1)); n != 0 {
		t.Errorf("%d homes moved between a ring and itself", n)
	}
}

func BenchmarkRingHomes(b *testing.B) {
	ring := NewRing(testMember(0), testMembers(200))
	alive := map[string]bool{}
	for _, m := range testMembers(200) {
		alive[m.ID] = true
	}
	skip := func(id string) bool { return !alive[id] }
	blob := testDigest(1)
	b.ReportAllocs()
	for b.Loop() {
		blob[0]++
		ring.Homes(blob, skip)
	}
}
