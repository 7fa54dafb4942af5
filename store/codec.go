// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"encoding/binary"
	"encoding/json"
	"time"
)

// Keys begin with a letter for their kind; doc.go lists them.
const (
	kindMeta   = 'b'
	kindTimes  = 't'
	kindStates = 'p'
	kindURL    = 'u'
	kindImport = 'i'
	kindHolder = 'h'
	kindTold   = 'a'
	kindDHT    = 'd'
)

func blobKey(kind byte, d Digest) []byte { return append([]byte{kind}, d[:]...) }

// A metaRow is Meta without what the table holds.
type metaRow struct {
	Modified    int64  `json:"m,omitempty"`
	Added       int64  `json:"a,omitempty"`
	ContentType string `json:"c,omitempty"`
	Origin      string `json:"o,omitempty"`
}

func encodeMeta(d Digest, m Meta) row {
	value, _ := json.Marshal(metaRow{ // strings and integers: cannot fail
		Modified:    unixOf(m.Modified),
		Added:       unixOf(m.Added),
		ContentType: m.ContentType,
		Origin:      m.Origin,
	})
	return row{key: blobKey(kindMeta, d), value: value}
}

// Seconds are all that HTTP dates have.
func unixOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func timeOf(sec int64) time.Time {
	if sec <= 0 {
		return time.Time{}
	}
	return time.Unix(sec, 0).UTC()
}

// A times row: 8 bytes of last use in ns, 4 of last verification in s, 1 of flags, 8 of size.
const timesLen = 21

func encodeTimes(d Digest, e entry) row {
	value := binary.BigEndian.AppendUint64(make([]byte, 0, timesLen), uint64(e.used))
	value = binary.BigEndian.AppendUint32(value, e.verified)
	value = append(value, byte(e.flags))
	return row{key: blobKey(kindTimes, d), value: binary.BigEndian.AppendUint64(value, uint64(e.size))}
}

func (e *entry) decodeTimes(value []byte) bool {
	if len(value) != timesLen {
		return false
	}
	e.used = int64(binary.BigEndian.Uint64(value))
	e.verified = binary.BigEndian.Uint32(value[8:])
	e.flags = flags(value[12])
	e.size = int64(binary.BigEndian.Uint64(value[13:]))
	return true
}

// statesPerRow keeps a row at 32 KiB, far below what badger takes in a transaction.
const statesPerRow = 1024

func statesKey(d Digest, i int) []byte {
	return binary.BigEndian.AppendUint16(blobKey(kindStates, d), uint16(i))
}

func stateRows(d Digest, states []Digest) (out []row) {
	for i := 0; len(states) > 0; i++ {
		k := min(len(states), statesPerRow)
		value := make([]byte, 0, k*len(Digest{}))
		for _, s := range states[:k] {
			value = append(value, s[:]...)
		}
		out = append(out, row{key: statesKey(d, i), value: value})
		states = states[k:]
	}
	return out
}

// states returns the recorded chaining states of d, or nil unless all of them are there.
func (r *rows) states(d Digest, want int) []Digest {
	out := make([]Digest, 0, want)
	for i := 0; len(out) < want; i++ {
		value := r.get(statesKey(d, i))
		if len(value) == 0 {
			return nil
		}
		for ; len(value) >= len(Digest{}); value = value[len(Digest{}):] {
			out = append(out, Digest(value))
		}
	}
	if len(out) != want {
		return nil
	}
	return out
}

// forget deletes all rows of a blob of size bytes.
func (r *rows) forget(d Digest, size int64) error {
	batch := []row{{key: blobKey(kindMeta, d)}, {key: blobKey(kindTimes, d)}, {key: blobKey(kindTold, d)}}
	for i := range (innerStates(size) + statesPerRow - 1) / statesPerRow {
		batch = append(batch, row{key: statesKey(d, i)})
	}
	return r.write(batch)
}
