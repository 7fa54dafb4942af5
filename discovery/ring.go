// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// A Ring says which members are the homes of a blob, by rendezvous hashing
// (Thaler and Ravishankar, 1998): every member has a score for every blob, and
// the two highest are its first and second home. All nodes that see the same
// members agree, and a member that comes or goes moves only its own share.
//
// The score is the SplitMix64 finaliser of k XOR b, where k is the first eight
// bytes of SHA-256(member id) and b the first eight of the blob's hash, both
// big-endian. Of equal scores the lower id wins.
//
// A Ring is immutable.
type Ring struct {
	members []Member // sorted by id
	keys    []uint64 // k of each
}

// NewRing returns the ring of this node and the others. Of members with the
// same id, one counts.
func NewRing(self Member, others []Member) *Ring {
	members := append([]Member{self}, others...)
	slices.SortStableFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	members = slices.CompactFunc(members, func(a, b Member) bool { return a.ID == b.ID })
	keys := make([]uint64, len(members))
	for i, m := range members {
		sum := sha256.Sum256([]byte(m.ID))
		keys[i] = binary.BigEndian.Uint64(sum[:])
	}
	return &Ring{members: members, keys: keys}
}

// Homes returns the first n homes of a blob, n being 2, or less where fewer
// members are left. Members for which skip returns true are passed over, and
// the next in order take their places; nil skips none.
func (r *Ring) Homes(blob Digest, skip func(id string) bool) (homes [2]Member, n int) {
	first, second := r.best(blob, skip)
	if first < 0 {
		return homes, 0
	}
	homes[0] = r.members[first]
	if second < 0 {
		return homes, 1
	}
	homes[1] = r.members[second]
	return homes, 2
}

// best returns the indexes of the two highest scores, -1 where there is none.
func (r *Ring) best(blob Digest, skip func(id string) bool) (first, second int) {
	b := binary.BigEndian.Uint64(blob[:])
	first, second = -1, -1
	var high, low uint64
	for i, k := range r.keys {
		score := mix(k ^ b)
		switch {
		case second >= 0 && score <= low:
		case skip != nil && skip(r.members[i].ID):
		case first < 0 || score > high:
			first, second = i, first
			high, low = score, high
		default:
			second, low = i, score
		}
	}
	return first, second
}

// Moved returns the n homes of a blob that were not its homes in the old ring:
// those that a holder has to tell when membership changes. It is 0 where
// nothing moved; a first and a second home that change places both know.
func (r *Ring) Moved(old *Ring, blob Digest) (homes [2]Member, n int) {
	before, b := old.Homes(blob, nil)
	after, a := r.Homes(blob, nil)
	for _, m := range after[:a] {
		if !slices.ContainsFunc(before[:b], func(o Member) bool { return o.ID == m.ID }) {
			homes[n] = m
			n++
		}
	}
	return homes, n
}

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
