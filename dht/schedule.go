// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"container/heap"
	"math/bits"
	"slices"
	"time"
)

const (
	// announceTTL is how long the nodes of the mainline DHT keep an announce.
	announceTTL = 30 * time.Minute
	// renewAfter is when an announce is renewed: early enough to have waited for
	// a place, late enough not to waste packets.
	renewAfter = 27 * time.Minute
	// plenty of peers do without us.
	plenty = 20
	// lookAgainFirst and lookAgainLast bound when a key that had plenty of peers
	// is looked at again: else after as long as its blob has been here. What many
	// have, many look after, and most of what a node holds is old.
	lookAgainFirst = 2 * time.Hour
	lookAgainLast  = 24 * time.Hour
	// retryAfter is when a key is tried again that no node took.
	retryAfter = 30 * time.Second
	// rarityWorth is how much newer a key must be to stand before one with half
	// its peers.
	rarityWorth = 6 * time.Hour
	// maxOffered bounds the keys in the schedule: about 200 bytes each.
	maxOffered = 32768
)

// offer is a key to announce.
type offer struct {
	key   Key
	added time.Time
	row   Row
	due   time.Time
	queue *queue // nil: in work, or withdrawn
	at    int    // its place there
}

// better reports whether o goes before other when both are due.
func (o *offer) better(other *offer) bool { return o.rank().After(other.rank()) }

// rank is when the blob came, moved back for each doubling of its peers.
func (o *offer) rank() time.Time {
	return o.added.Add(-rarityWorth * time.Duration(bits.Len(uint(o.row.Peers))))
}

// nextDue is when to turn to o after what row says, by a node that announces in the
// families: at once if it was announced in fewer.
func (o *offer) nextDue(families uint8) time.Time {
	if o.row.Peers >= plenty {
		age := o.row.Looked.Sub(o.added)
		return o.row.Looked.Add(min(max(age, lookAgainFirst), lookAgainLast))
	}
	if families&^o.row.Families != 0 {
		return time.Time{}
	}
	return o.row.Announced.Add(renewAfter)
}

// schedule says which key is to be announced next: of those that are due, the
// one of the best rank. So what does not fit in the budget is always the worst.
// It has no lock.
type schedule struct {
	offers   map[Key]*offer
	waiting  *queue // by due
	ready    *queue // due, by rank
	families uint8  // in which this node announces, as Row.Families
}

func newSchedule() *schedule {
	return &schedule{
		offers:  make(map[Key]*offer),
		waiting: &queue{before: func(a, b *offer) bool { return a.due.Before(b.due) }},
		ready:   &queue{before: (*offer).better},
	}
}

// add puts a key in, or notes that its blob came anew.
func (s *schedule) add(key Key, added time.Time, row Row) {
	o, ok := s.offers[key]
	if !ok {
		s.makeRoom()
		o = &offer{key: key, added: added, row: row}
		o.due = o.nextDue(s.families)
		s.offers[key] = o
		heap.Push(s.waiting, o)
		return
	}
	if added.After(o.added) {
		o.added = added
		if o.queue == s.ready {
			heap.Fix(s.ready, o.at)
		}
	}
}

// makeRoom drops the worst eighth of a full schedule.
func (s *schedule) makeRoom() {
	if len(s.offers) < maxOffered {
		return
	}
	all := make([]*offer, 0, len(s.offers))
	for _, o := range s.offers {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b *offer) int { return b.rank().Compare(a.rank()) })
	for _, o := range all[maxOffered/8*7:] {
		s.remove(o.key)
	}
}

func (s *schedule) remove(key Key) {
	o, ok := s.offers[key]
	if !ok {
		return
	}
	delete(s.offers, key)
	if o.queue != nil {
		heap.Remove(o.queue, o.at)
	}
}

// take hands out the best key that is due. If there is none, wait says how long
// until there is; negative: none is waiting.
func (s *schedule) take(now time.Time) (o *offer, wait time.Duration) {
	for s.waiting.Len() > 0 && !s.waiting.offers[0].due.After(now) {
		heap.Push(s.ready, heap.Pop(s.waiting))
	}
	if s.ready.Len() > 0 {
		return heap.Pop(s.ready).(*offer), 0
	}
	if s.waiting.Len() == 0 {
		return nil, -1
	}
	return nil, s.waiting.offers[0].due.Sub(now)
}

// giveBack puts what take handed out in again, unless it was withdrawn meanwhile.
func (s *schedule) giveBack(o *offer, due time.Time) bool {
	if s.offers[o.key] != o {
		return false
	}
	o.due = due
	heap.Push(s.waiting, o)
	return true
}

// forgetAnnounces has all keys announced again, as if they never had been.
func (s *schedule) forgetAnnounces() {
	for _, o := range s.offers {
		o.row.Announced = time.Time{}
	}
	s.reorder()
}

// announceIn notes in which families this node announces now, and reports whether
// one is new: what is not announced there is due.
func (s *schedule) announceIn(families uint8) (more bool) {
	more = families&^s.families != 0
	s.families = families
	if more {
		s.reorder()
	}
	return more
}

// reorder looks anew at when each waiting key is due.
func (s *schedule) reorder() {
	for _, o := range s.waiting.offers {
		o.due = o.nextDue(s.families)
	}
	heap.Init(s.waiting)
}

// counts is how many keys there are but for some, and how many of them nodes still
// hold from us.
func (s *schedule) counts(now time.Time, except []Key) (offered, announced int) {
	for key, o := range s.offers {
		if slices.Contains(except, key) {
			continue
		}
		offered++
		if now.Sub(o.row.Announced) < announceTTL {
			announced++
		}
	}
	return offered, announced
}

// queue is a heap of offers that know their place in it.
type queue struct {
	offers []*offer
	before func(a, b *offer) bool
}

func (q *queue) Len() int           { return len(q.offers) }
func (q *queue) Less(i, j int) bool { return q.before(q.offers[i], q.offers[j]) }

func (q *queue) Swap(i, j int) {
	q.offers[i], q.offers[j] = q.offers[j], q.offers[i]
	q.offers[i].at, q.offers[j].at = i, j
}

func (q *queue) Push(x any) {
	o := x.(*offer)
	o.queue, o.at = q, len(q.offers)
	q.offers = append(q.offers, o)
}

func (q *queue) Pop() any {
	last := len(q.offers) - 1
	o := q.offers[last]
	q.offers[last] = nil
	q.offers, o.queue = q.offers[:last], nil
	return o
}
