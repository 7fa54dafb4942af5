// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"encoding/binary"
	"errors"
	"iter"
	"log/slog"
	"time"
)

// Row is what is to be kept of an announced key across restarts.
type Row struct {
	Announced time.Time // when a node last took the announce; zero: never
	Looked    time.Time // when its peers were last counted; zero: never
	Peers     int       // how many others there were then, at most 65535
	Families  uint8     // where Announced was: 1 in the IPv4 DHT, 2 in the IPv6 DHT, 3 in both
}

// Rows keeps the rows of announced keys. Its methods are called by one goroutine
// at a time, may take a while, and an error is only logged: without its rows, a
// node announces more often than it has to.
type Rows interface {
	// Announced yields all rows.
	Announced() iter.Seq2[Key, Row]
	// PutAnnounced writes the row of a key.
	PutAnnounced(Key, Row) error
	// DropAnnounced deletes it, if it is there.
	DropAnnounced(Key) error
}

// RowLasts is how long the row of a key that nobody offers any more is of use.
const RowLasts = 24 * time.Hour

// rowLength is that of a row on disk: two Unix times and the number of peers,
// big-endian, and the families. A zero time is 0.
const rowLength = 8 + 8 + 2 + 1

// maxUnix is the last time that a row can have, in the year 2514.
const maxUnix = 1 << 34

// MarshalBinary gives the row as it is stored, 19 bytes.
func (r Row) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, rowLength)
	b = binary.BigEndian.AppendUint64(b, unixOf(r.Announced))
	b = binary.BigEndian.AppendUint64(b, unixOf(r.Looked))
	b = binary.BigEndian.AppendUint16(b, uint16(min(r.Peers, 1<<16-1)))
	return append(b, r.Families), nil
}

// UnmarshalBinary reads a stored row. It fails if b is not one.
func (r *Row) UnmarshalBinary(b []byte) error {
	if len(b) != rowLength {
		return errors.New("the row of an announced key does not have 19 bytes")
	}
	announced, looked := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	if announced > maxUnix || looked > maxUnix {
		return errors.New("the row of an announced key has a time beyond all clocks")
	}
	*r = Row{timeOf(announced), timeOf(looked), int(binary.BigEndian.Uint16(b[16:])), b[18]}
	return nil
}

func unixOf(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.Unix())
}

func timeOf(unix uint64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(int64(unix), 0)
}

// recent reports whether a row is worth keeping. One from the future, written by
// a clock that was wrong, would keep its key from being announced.
func (r Row) recent(now time.Time) bool {
	if r.Announced.After(now) || r.Looked.After(now) {
		return false
	}
	return now.Sub(r.Announced) < RowLasts || now.Sub(r.Looked) < RowLasts
}

// since is the row without an announce from before t.
func (r Row) since(t time.Time) Row {
	if r.Announced.Before(t) {
		r.Announced = time.Time{}
	}
	return r
}

// load reads the rows, and drops what is of no use any more.
func (a *announcer) load() {
	var since time.Time // announces before this name another address
	for _, f := range a.node.families {
		if _, moved := f.standing.last(); moved.After(since) {
			since = moved
		}
	}
	var old []Key
	for key, row := range a.rows.Announced() {
		if !row.recent(time.Now()) {
			old = append(old, key)
			continue
		}
		a.rowOf[key] = row.since(since)
	}
	for _, key := range old {
		a.dropRow(key)
	}
}

func (a *announcer) putRow(key Key, row Row) {
	if a.rows == nil {
		return
	}
	a.rowsMu.Lock()
	defer a.rowsMu.Unlock()
	if err := a.rows.PutAnnounced(key, row); err != nil {
		a.node.log.Warn("what was announced is not kept for the next start", slog.Any("error", err))
	}
}

func (a *announcer) dropRow(key Key) {
	if a.rows == nil {
		return
	}
	a.rowsMu.Lock()
	defer a.rowsMu.Unlock()
	if err := a.rows.DropAnnounced(key); err != nil {
		a.node.log.Warn("what was announced is not forgotten", slog.Any("error", err))
	}
}
