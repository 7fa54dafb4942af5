// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"apt-dht/dht"
	"apt-dht/proxy/peer"
)

// offered are the blobs that may be given, by the first eight bytes of their
// hashes: that takes a quarter of the memory. A stranger who contrives two that
// share them learns no more than that one of them is here, and gets 404.
type offered struct {
	mu  sync.Mutex // guards following
	set map[uint64]struct{}
}

func shortOf(d Digest) uint64 { return binary.BigEndian.Uint64(d[:8]) }

func (o *offered) add(d Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.set == nil {
		o.set = make(map[uint64]struct{})
	}
	o.set[shortOf(d)] = struct{}{}
}

func (o *offered) drop(d Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.set, shortOf(d))
}

func (o *offered) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.set)
}

// among returns those of the wanted blobs that are offered, in their order.
func (o *offered) among(want []peer.Hash) []peer.Hash {
	o.mu.Lock()
	defer o.mu.Unlock()
	have := []peer.Hash{}
	for _, h := range want {
		if _, ok := o.set[shortOf(Digest(h))]; ok {
			have = append(have, h)
		}
	}
	return have
}

// keyOf is the place of a blob in the DHT.
func keyOf(d Digest) dht.Key { return dht.Key(d[:len(dht.Key{})]) }

// Have tells that a blob which Config.Open opens has been stored, and when.
func (n *Node) Have(d Digest, added time.Time) {
	n.offered.add(d)
	n.cfg.DHT.Offer(keyOf(d), added)
}

// Gone tells that a blob is not there any more, or not to be given.
func (n *Node) Gone(d Digest) {
	n.offered.drop(d)
	n.cfg.DHT.Withdraw(keyOf(d))
}

// offerAll offers what is there from earlier, and this node's help.
func (n *Node) offerAll(ctx context.Context) error {
	n.cfg.DHT.Offer(HelpersKey, time.Now())
	if n.cfg.EachShareable == nil {
		return nil
	}
	n.cfg.EachShareable(func(d Digest, added time.Time) bool {
		n.Have(d, added)
		return ctx.Err() == nil
	})
	return nil
}
