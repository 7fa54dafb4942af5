// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// maxUnasked bounds the packets per second that are read of one owner of
// addresses unless they answer us: more than a node in a network of two asks.
const maxUnasked = 100

// fewUnasked is how many are a stranger's due: answers are kept for those who ask no
// more, so that a few who do not cease leave some for the others.
const fewUnasked = 3

// floods keeps a stranger from keeping us busy. Counters are shared by hash: two
// strangers in one slot share the allowance, which costs them an answer. It
// belongs to the one goroutine that reads the socket.
type floods struct {
	seed   maphash.Seed
	second int64
	counts [1024]uint16
}

func newFloods() *floods { return &floods{seed: maphash.MakeSeed()} }

// count returns how many packets of from there have been in this second, with this
// one, up to one more than maxUnasked.
func (f *floods) count(from netip.AddrPort) int {
	if now := time.Now().Unix(); now != f.second {
		f.second, f.counts = now, [1024]uint16{}
	}
	slot := &f.counts[maphash.Comparable(f.seed, from)%uint64(len(f.counts))]
	*slot = min(*slot+1, maxUnasked+1)
	return int(*slot)
}
