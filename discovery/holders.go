// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"log/slog"
	"slices"
	"time"
)

const (
	// maxHolders is how many holders of one blob are kept, the newest.
	maxHolders = 16
	// maxTold is how many holders an asker is told.
	maxTold = 4
	// maxMemberRows is how many blobs of one holder are kept.
	maxMemberRows = 100_000
	// maxRows bounds all rows; in memory they take some 20 MB then. 200 nodes
	// of 5,000 blobs need 10,000.
	maxRows = 200_000
	// maxPending bounds the changes that wait to be written. What does not fit
	// is not written: rows are renewed, and age.
	maxPending = 50_000
	// rewriteAfter is how old a row is when its renewal is worth a write.
	rewriteAfter = time.Hour
)

// Row is one holder of one blob.
type Row struct {
	Digest Digest
	Holder Member
	At     time.Time // when it last said so
}

// Rows keeps rows over restarts; a row is named by its Digest and Holder. Calls
// are batches, never concurrent, and may take their time.
type Rows interface {
	// Put adds rows or renews them. A row vanishes by itself a day after At;
	// nobody deletes those of members that left.
	Put([]Row) error
	// Delete removes rows, of which At is not set; some may not exist.
	Delete([]Row) error
	// Each calls yield with every row until it returns false.
	Each(yield func(Row) bool) error
}

type holder struct {
	slot uint32 // of its peer in the roster
	at   uint32 // when it last said so, in Unix seconds
}

func (e holder) age(now time.Time) time.Duration {
	return now.Sub(time.Unix(int64(e.at), 0))
}

type rowKey struct {
	digest Digest
	holder Member
}

// holders is the table of who holds what. An entry takes 8 bytes a holder and
// some 70 a blob.
type holders struct {
	blobs   map[Digest][]holder
	rows    int
	turn    int                  // spreads askers over holders
	pending map[rowKey]time.Time // to be written, a zero time deletes; nil: rows are not kept
	unsaved int                  // changes dropped because pending was full
	swept   time.Time            // when ages were last looked at
}

func newHolders(keep bool) holders {
	t := holders{blobs: make(map[Digest][]holder), swept: time.Now()}
	if keep {
		t.pending = make(map[rowKey]time.Time)
	}
	return t
}

// remove drops the row that says that p holds a blob, if there is one.
func (t *holders) remove(blob Digest, p *peer) bool {
	i := slices.IndexFunc(t.blobs[blob], func(e holder) bool { return e.slot == p.slot })
	if i < 0 {
		return false
	}
	t.removeAt(blob, i, p)
	return true
}

// has reports whether there is a row that says that p holds a blob.
func (t *holders) has(blob Digest, p *peer) bool {
	return slices.ContainsFunc(t.blobs[blob], func(e holder) bool { return e.slot == p.slot })
}

func (t *holders) removeAt(blob Digest, i int, p *peer) {
	t.note(blob, p, time.Time{})
	p.rows--
	t.rows--
	list := slices.Delete(t.blobs[blob], i, i+1)
	if len(list) == 0 {
		delete(t.blobs, blob)
		return
	}
	t.blobs[blob] = list
}

// note remembers a change to be written.
func (t *holders) note(blob Digest, p *peer, at time.Time) {
	if t.pending == nil {
		return
	}
	key := rowKey{blob, p.Member}
	if _, known := t.pending[key]; !known && len(t.pending) >= maxPending {
		t.unsaved++
		return
	}
	t.pending[key] = at
}

// holdLocked records that p has a blob.
func (h *Home) holdLocked(now time.Time, p *peer, blob Digest) {
	if h.cfg.Has != nil && p.Member == h.cfg.Self {
		return // it knows without a row
	}
	t := &h.holders
	list := t.blobs[blob]
	for i := range list {
		if list[i].slot == p.slot {
			if list[i].age(now) >= rewriteAfter {
				t.note(blob, p, now)
			}
			list[i].at = uint32(now.Unix())
			return
		}
	}
	if p.slot == noSlot || p.rows >= maxMemberRows {
		return
	}
	if len(list) >= maxHolders {
		oldest := oldestOf(list)
		t.removeAt(blob, oldest, h.roster.slots[list[oldest].slot])
	}
	if !h.roomLocked(p) {
		return
	}
	h.insertLocked(p, blob, now)
	t.note(blob, p, now)
}

func (h *Home) insertLocked(p *peer, blob Digest, at time.Time) {
	t := &h.holders
	t.blobs[blob] = append(t.blobs[blob], holder{slot: p.slot, at: uint32(at.Unix())})
	p.rows++
	t.rows++
}

// roomLocked makes room for one row of p: who takes the most room gives way.
func (h *Home) roomLocked(p *peer) bool {
	t := &h.holders
	if t.rows < maxRows {
		return true
	}
	fat := h.roster.fattest()
	if fat == p {
		return false
	}
	// Maps are ranged over from a random place, and the fattest has at least
	// the average share, so this finds one of its rows soon.
	for blob := range t.blobs {
		if t.remove(blob, fat) {
			return true
		}
	}
	return false
}

func oldestOf(list []holder) int {
	oldest := 0
	for i, e := range list {
		if e.at < list[oldest].at {
			oldest = i
		}
	}
	return oldest
}

// pickLocked returns holders that w's asker may take the blob from, each time
// beginning with another.
func (h *Home) pickLocked(now time.Time, asker *peer, w *Want) []Member {
	list := h.holders.blobs[w.Hash]
	here := h.cfg.Has != nil && h.cfg.Has(w.Hash)
	if len(list) == 0 && !here {
		return nil
	}
	h.holders.turn++
	var from []Member
	for i := range list {
		e := list[(h.holders.turn+i)%len(list)]
		p := h.roster.slots[e.slot]
		if e.age(now) < holderAge && p.Member != h.cfg.Self && h.usableLocked(now, p, asker) && !w.silent(p) {
			if from = append(from, p.Member); len(from) == maxTold {
				break
			}
		}
	}
	if self := h.roster.peers[h.cfg.Self]; here && h.usableLocked(now, self, asker) && !w.silent(self) {
		from = slices.Insert(from, h.holders.turn%(len(from)+1), self.Member)
	}
	return from[:min(len(from), maxTold)]
}

// usableLocked reports whether an asker can be sent to p.
func (h *Home) usableLocked(now time.Time, p, asker *peer) bool {
	return p.ID != asker.ID && p.Addr != asker.Addr && h.presentLocked(now, p)
}

// load reads the kept rows.
func (h *Home) load() {
	if h.cfg.Rows == nil {
		return
	}
	now := time.Now()
	err := h.cfg.Rows.Each(func(row Row) bool {
		if age := now.Sub(row.At); age < 0 || age >= holderAge {
			return true
		}
		p := h.roster.mention(row.Holder)
		if p != nil && p.rows < maxMemberRows && len(h.holders.blobs[row.Digest]) < maxHolders {
			h.insertLocked(p, row.Digest, row.At)
		}
		return h.holders.rows < maxRows
	})
	if err != nil {
		h.cfg.Log.Warn("cannot read what other nodes announced; they will announce it again", slog.Any("err", err))
	}
}

// sweep drops what is over: aged rows, blobs that nobody asks for any more, and
// all that belongs to members that are gone.
func (h *Home) sweep() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.sweepHerdsLocked(now)
	if ages := now.Sub(h.holders.swept) >= rewriteAfter; ages || h.roster.gone {
		h.holders.swept = now
		h.sweepRowsLocked(now)
	}
	h.roster.forget(func(p *peer) bool { return p.idle(now) })
	h.roster.clean()
}

func (h *Home) sweepRowsLocked(now time.Time) {
	t := &h.holders
	for blob, list := range t.blobs {
		for i := len(list) - 1; i >= 0; i-- {
			p := h.roster.slots[list[i].slot]
			if p.gone || list[i].age(now) >= holderAge {
				t.removeAt(blob, i, p)
			}
		}
	}
}

// flush writes what changed since the last time.
func (h *Home) flush() {
	if h.cfg.Rows == nil {
		return
	}
	h.mu.Lock()
	pending, unsaved := h.holders.pending, h.holders.unsaved
	h.holders.pending, h.holders.unsaved = make(map[rowKey]time.Time), 0
	h.mu.Unlock()
	var put, del []Row
	for key, at := range pending {
		row := Row{Digest: key.digest, Holder: key.holder, At: at}
		if at.IsZero() {
			del = append(del, row)
		} else {
			put = append(put, row)
		}
	}
	if err := h.write(put, del); err != nil {
		h.cfg.Log.Warn("cannot keep what other nodes announced; it will be announced again", slog.Any("err", err))
	}
	if unsaved > 0 {
		h.cfg.Log.Warn("too much is announced to keep all of it", slog.Int("dropped", unsaved))
	}
}

func (h *Home) write(put, del []Row) error {
	if len(put) > 0 {
		if err := h.cfg.Rows.Put(put); err != nil {
			return err
		}
	}
	if len(del) > 0 {
		return h.cfg.Rows.Delete(del)
	}
	return nil
}
