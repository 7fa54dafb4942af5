// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"slices"
	"sync"
	"time"
)

// An entry is what the store keeps of a blob in memory: 24 bytes beside its digest, no pointers.
type entry struct {
	size     int64
	used     int64  // last Get or Commit, ns since the Unix epoch
	verified uint32 // s since the Unix epoch; 0: never, verify before the next Get answers
	flags    flags
}

type flags uint8

const (
	flagKeep flags = 1 << iota
	flagShareable
)

func (f flags) has(g flags) bool { return f&g != 0 }

func (e entry) shareable() bool { return e.flags.has(flagShareable) }

// A table holds the entries of all blobs.
type table struct {
	mu      sync.RWMutex // guards following
	entries map[Digest]entry
	touched map[Digest]struct{} // entries that are newer than their rows
	bytes   int64
	gone    []Digest // since takeGone
}

func newTable() *table {
	return &table{entries: make(map[Digest]entry), touched: make(map[Digest]struct{})}
}

func (t *table) get(d Digest) (entry, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e, ok := t.entries[d]
	return e, ok
}

// use notes a use of d, if it is here.
func (t *table) use(d Digest, now time.Time) {
	t.change(d, func(e *entry) { e.used = now.UnixNano() })
}

func (t *table) put(d Digest, e entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes += e.size - t.entries[d].size
	t.entries[d] = e
}

func (t *table) remove(d Digest) (entry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[d]
	if ok {
		t.bytes -= e.size
		delete(t.entries, d)
		delete(t.touched, d)
		t.gone = append(t.gone, d)
	}
	return e, ok
}

// takeGone hands over the blobs that have gone since it last did. One that is back is none.
func (t *table) takeGone() []Digest {
	t.mu.Lock()
	defer t.mu.Unlock()
	gone := t.gone
	t.gone = nil
	return slices.DeleteFunc(gone, func(d Digest) bool {
		_, here := t.entries[d]
		return here
	})
}

// change applies fn to d's entry, if there is one; its size must stay.
func (t *table) change(d Digest, fn func(*entry)) (entry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[d]
	if !ok {
		return e, false
	}
	fn(&e)
	t.entries[d] = e
	t.touched[d] = struct{}{}
	return e, true
}

// takeTouched hands over the entries that are newer than their rows.
func (t *table) takeTouched() map[Digest]entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[Digest]entry, len(t.touched))
	for d := range t.touched {
		out[d] = t.entries[d]
	}
	clear(t.touched)
	return out
}

// touch gives back what takeTouched handed over.
func (t *table) touch(untold map[Digest]entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for d := range untold {
		if _, ok := t.entries[d]; ok {
			t.touched[d] = struct{}{}
		}
	}
}

func (t *table) usage() (blobs int, bytes int64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.entries), t.bytes
}

// digests returns the names of all blobs.
func (t *table) digests() []Digest {
	return t.digestsOf(func(entry) bool { return true })
}

func (t *table) digestsOf(which func(entry) bool) []Digest {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]Digest, 0, len(t.entries))
	for d, e := range t.entries {
		if which(e) {
			out = append(out, d)
		}
	}
	return out
}
