// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"cmp"
	"slices"
	"time"
)

// turn is a call's place among the waiting ones of its pool: start-time fair queueing (Goyal, Vin, Cheng 1996)
// over the bytes asked by each flow, so that who asks for much at once does not keep the others waiting. Within
// a flow it is the order asked.
type turn struct {
	start int64 // in bytes, on the pool's clock
	asked uint64
}

func (t turn) compare(o turn) int {
	return cmp.Or(cmp.Compare(t.start, o.start), cmp.Compare(t.asked, o.asked))
}

func (p *pool) turnLocked(ca *call) turn {
	p.client.asked++
	start := max(p.clock, p.flows[ca.flow])
	p.flows[ca.flow] = start + ca.size
	return turn{start, p.client.asked}
}

// waitLocked puts a call among the waiting ones, where its turn wants it.
func (p *pool) waitLocked(ca *call) {
	if ca.settled {
		return
	}
	ca.conn, ca.sent = nil, false
	i, _ := slices.BinarySearchFunc(p.waiting, ca, func(a, b *call) int { return a.turn.compare(b.turn) })
	if i == 0 {
		p.frontAt = time.Now()
	}
	p.waiting = slices.Insert(p.waiting, i, ca)
}
