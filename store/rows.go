// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// A row is one key of the database. A nil value deletes it.
type row struct {
	key, value []byte
	meta       byte  // kept beside the key, to be had without reading the value
	expires    int64 // Unix time in s at which it vanishes; 0: never
}

func (r row) expired(now time.Time) bool { return r.expires != 0 && r.expires <= now.Unix() }

// rows is the database of what is known of blobs. It always works: while there is no room for
// badger on the disk, new rows are held in memory, up to a bound, and reads see them.
type rows struct {
	dir  string
	log  *slog.Logger
	free func() (int64, error)

	writeMu  sync.Mutex // one writer at a time; guards following
	wal      walSpace
	failures int  // of opening the database
	crowded  bool // too many tables, and no room to merge them

	dbMu sync.RWMutex // held for reading while db is used, for writing while it comes and goes; guards following
	db   *badger.DB   // nil: not open

	heldMu    sync.RWMutex // guards following
	held      map[string]row
	heldBytes int64
	skipping  bool // said in the log
}

const (
	// maxYoungTables, of about 1.5 MB each, come of some 20,000 blobs.
	maxYoungTables = 4
	// maxTables bounds what a disk without room for compaction has to bear: 100 MB.
	maxTables = 64
)

// maxFailures: badger leaks some goroutines each time it cannot open a database.
const maxFailures = 3

// maxHeld bounds the memory of rows that wait for room, as entryCost counts it: some 20,000.
const maxHeld = 4 << 20

func openRows(dir string, log *slog.Logger, free func() (int64, error)) *rows {
	r := &rows{dir: dir, log: log, free: free, held: make(map[string]row)}
	r.reopen()
	return r
}

// reopen opens the database unless it is open or there is no room for it.
func (r *rows) reopen() {
	r.writeMu.Lock()
	defer r.writeMu.Unlock()
	if r.open() || r.failures == maxFailures || !r.room(rotateReserve) {
		return
	}
	db, err := openBadger(r.dir, r.log)
	if err != nil {
		r.failures++
		r.log.Error("store: database cannot be opened; new knowledge of blobs stays in memory", "error", err)
		return
	}
	r.wal = walSpace{dir: r.dir}
	if err := r.wal.fill(); err != nil {
		r.log.Debug("store: database has no preallocated log", "error", err)
	}
	r.dbMu.Lock()
	defer r.dbMu.Unlock()
	r.db = db
}

func (r *rows) open() bool {
	r.dbMu.RLock()
	defer r.dbMu.RUnlock()
	return r.db != nil
}

// room reports whether need bytes are free, and logs when that changes. Once they were not, it takes
// rotateReserve to go on, so that the log does not fill with changes.
func (r *rows) room(need int64) bool {
	free, err := r.free()
	r.heldMu.Lock()
	defer r.heldMu.Unlock()
	if r.skipping {
		need = max(need, rotateReserve)
	}
	ok := err == nil && free >= need
	if ok == r.skipping {
		r.skipping = !ok
		if ok {
			r.log.Info("store: disk has room again; writing to the database")
		} else {
			r.log.Warn("store: too little free disk space for the database; new knowledge of blobs stays in memory", "free", free, "needed", need, "error", err)
		}
	}
	return ok
}

// close flushes what is held and closes the database. It returns ErrNoSpace if rows had to be left
// in memory. With no room for the table that badger writes when it is closed, badger is left as it
// is: its log has all rows, and the next Open reads them from there.
func (r *rows) close() error {
	r.writeMu.Lock()
	defer r.writeMu.Unlock()
	err := r.drainLocked()
	r.compactLocked()
	r.dbMu.Lock()
	defer r.dbMu.Unlock()
	if r.db == nil {
		return err
	}
	db := r.db
	r.db = nil
	if !r.room(rotateReserve) {
		return errors.Join(err, fmt.Errorf("%w: database left open", ErrNoSpace))
	}
	return errors.Join(err, closeWithin(db, closeTime), removeUnusedLogs(r.dir))
}

// closeTime is how long badger may take to close. Where its directory has been deleted it tries for
// ever to write its last table.
const closeTime = 5 * time.Second

func closeWithin(db *badger.DB, limit time.Duration) error {
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(limit):
		return fmt.Errorf("store: the database was not closed within %v; it will be rebuilt", limit)
	}
}

// write makes rows known. The error is ErrNoSpace when there is room for them neither on disk nor
// among those held.
func (r *rows) write(batch []row) error {
	r.writeMu.Lock()
	defer r.writeMu.Unlock()
	err := r.drainLocked()
	for len(batch) > 0 && err == nil {
		var done int
		done, err = r.commitLocked(batch)
		batch = batch[done:]
	}
	if len(batch) == 0 {
		return nil
	}
	return r.hold(batch)
}

// flush writes what is held, if there is room.
func (r *rows) flush() error {
	r.writeMu.Lock()
	defer r.writeMu.Unlock()
	r.compactLocked()
	return r.drainLocked()
}

// commitLocked writes as many rows as one transaction takes.
func (r *rows) commitLocked(batch []row) (n int, err error) {
	cost := int64(0)
	for n < len(batch) && (n == 0 || cost+entryCost(batch[n]) <= maxTxn) {
		cost += entryCost(batch[n])
		n++
	}
	if !r.room(r.wal.needs(cost)) || r.crowded {
		return 0, ErrNoSpace
	}
	r.dbMu.RLock()
	defer r.dbMu.RUnlock()
	if r.db == nil {
		return 0, ErrNoSpace
	}
	err = r.db.Update(func(txn *badger.Txn) error { return setAll(txn, batch[:n]) })
	if err != nil {
		r.log.Error("store: write to the database", "error", err)
		return 0, err
	}
	if r.wal.wrote(cost) {
		r.compactOpen()
	}
	return n, nil
}

// compactLocked merges badger's young tables if there are many and the disk has room for it.
func (r *rows) compactLocked() {
	r.dbMu.RLock()
	defer r.dbMu.RUnlock()
	if r.db != nil {
		r.compactOpen()
	}
}

// compactOpen is compactLocked for those who hold dbMu.
func (r *rows) compactOpen() {
	young := 0
	for _, t := range r.db.Tables() {
		if t.Level == 0 {
			young++
		}
	}
	r.crowded = young >= maxTables
	if young <= maxYoungTables {
		return
	}
	if free, err := r.free(); err != nil || free < compactReserve {
		return
	}
	if err := r.db.Flatten(1); err != nil {
		r.log.Warn("store: compact the database", "error", err)
		return
	}
	r.crowded = false
}

func setAll(txn *badger.Txn, batch []row) error {
	for _, row := range batch {
		var err error
		if row.value == nil {
			err = txn.Delete(row.key)
		} else {
			entry := badger.NewEntry(row.key, row.value).WithMeta(row.meta)
			entry.ExpiresAt = uint64(row.expires)
			err = txn.SetEntry(entry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *rows) hold(batch []row) error {
	r.heldMu.Lock()
	defer r.heldMu.Unlock()
	for _, row := range batch {
		old, ok := r.held[string(row.key)]
		if ok {
			r.heldBytes -= entryCost(old)
		} else if r.heldBytes+entryCost(row) > maxHeld {
			return fmt.Errorf("%w for the database", ErrNoSpace)
		}
		r.held[string(row.key)] = row
		r.heldBytes += entryCost(row)
	}
	return nil
}

func (r *rows) drainLocked() error {
	batch := r.heldRows(nil)
	for len(batch) > 0 {
		n, err := r.commitLocked(batch)
		if err != nil {
			return err
		}
		r.unhold(batch[:n])
		batch = batch[n:]
	}
	return nil
}

func (r *rows) unhold(batch []row) {
	r.heldMu.Lock()
	defer r.heldMu.Unlock()
	for _, row := range batch {
		delete(r.held, string(row.key))
		r.heldBytes -= entryCost(row)
	}
}

func (r *rows) heldRows(prefix []byte) []row {
	r.heldMu.RLock()
	defer r.heldMu.RUnlock()
	var out []row
	for _, row := range r.held {
		if bytes.HasPrefix(row.key, prefix) {
			out = append(out, row)
		}
	}
	return out
}

// get returns a copy of the value, or nil.
func (r *rows) get(key []byte) []byte {
	value, _ := r.getMeta(key)
	return value
}

func (r *rows) getMeta(key []byte) (value []byte, meta byte) {
	r.heldMu.RLock()
	held, ok := r.held[string(key)]
	r.heldMu.RUnlock()
	if ok && held.expired(time.Now()) {
		return nil, 0
	}
	if ok {
		return held.value, held.meta
	}
	r.view(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err == badger.ErrKeyNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		meta = item.UserMeta()
		value, err = item.ValueCopy([]byte{})
		return err
	})
	return value, meta
}

func (r *rows) view(fn func(*badger.Txn) error) {
	r.dbMu.RLock()
	defer r.dbMu.RUnlock()
	if r.db == nil {
		return
	}
	if err := r.db.View(fn); err != nil {
		r.log.Error("store: read from the database", "error", err)
	}
}

// each calls fn with every row whose key begins with prefix, until it returns false. What fn gets is
// valid until it returns; it must not use rows.
func (r *rows) each(prefix []byte, fn func(row) bool) {
	held := make(map[string]bool)
	now := time.Now()
	for _, row := range r.heldRows(prefix) {
		held[string(row.key)] = true
		if row.value != nil && !row.expired(now) && !fn(row) {
			return
		}
	}
	r.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			if held[string(item.Key())] {
				continue
			}
			more := false
			err := item.Value(func(value []byte) error {
				more = fn(row{key: item.Key(), value: value, meta: item.UserMeta()})
				return nil
			})
			if err != nil || !more {
				return err
			}
		}
		return nil
	})
}
