// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import "sync"

// maxNoted bounds the paths that wait to be looked at. With more, the directory is scanned.
const maxNoted = 16 << 10

// An inbox is where others leave work for Run's goroutine.
type inbox struct {
	mu     sync.Mutex // guards following
	fresh  map[string]struct{}
	older  map[string]struct{} // noted before the last call of take
	rescan bool
	damage bool
}

func newInbox() *inbox {
	return &inbox{fresh: make(map[string]struct{}), older: make(map[string]struct{})}
}

// note asks for a look at a path once it has not been noted again for one to two intervals of take.
func (b *inbox) note(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.fresh)+len(b.older) >= maxNoted {
		b.rescan = true
		return
	}
	delete(b.older, path)
	b.fresh[path] = struct{}{}
}

// hint is note for a path of which nothing new is known: one that rests already goes on resting.
func (b *inbox) hint(path string) {
	b.mu.Lock()
	_, fresh := b.fresh[path]
	_, older := b.older[path]
	b.mu.Unlock()
	if !fresh && !older {
		b.note(path)
	}
}

// take returns the paths that have rested.
func (b *inbox) take() map[string]struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	rested := b.older
	b.older, b.fresh = b.fresh, make(map[string]struct{})
	return rested
}

// scan asks for a scan of the whole directory.
func (b *inbox) scan() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rescan = true
}

// scanWanted reports whether scan was called; startScan forgets that.
func (b *inbox) scanWanted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rescan
}

func (b *inbox) startScan() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rescan = false
}

// repair says that the journal has a damaged record, repaired that it has none.
func (b *inbox) repair()   { b.setDamage(true) }
func (b *inbox) repaired() { b.setDamage(false) }

func (b *inbox) setDamage(damage bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.damage = damage
}

func (b *inbox) damaged() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.damage
}
