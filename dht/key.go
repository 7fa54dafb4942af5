// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"cmp"
	"crypto/rand"
	"math/bits"
	"net/netip"
)

// Key is the place of a blob in the DHT: the first 20 bytes of its SHA-256. Ids
// of nodes share its space.
type Key = [20]byte

// contact is a node as the DHT names it.
type contact struct {
	id   Key
	addr netip.AddrPort
}

// compareDistance orders a and b by their XOR distance to target (BEP 5).
func compareDistance(target, a, b Key) int {
	for i := range target {
		if c := cmp.Compare(a[i]^target[i], b[i]^target[i]); c != 0 {
			return c
		}
	}
	return 0
}

// sharedBits is the length of the common prefix of a and b, 160 if they are equal.
func sharedBits(a, b Key) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			return i*8 + bits.LeadingZeros8(x)
		}
	}
	return len(a) * 8
}

// randomKey is a random key that shares exactly n bits with self; any key if n is
// negative.
func randomKey(self Key, n int) Key {
	var k Key
	rand.Read(k[:])
	for i := range max(0, min(n+1, len(k)*8)) {
		mask := byte(0x80) >> (i % 8)
		k[i/8] = k[i/8]&^mask | self[i/8]&mask
	}
	if n >= 0 && n < len(k)*8 {
		k[n/8] ^= 0x80 >> (n % 8)
	}
	return k
}
