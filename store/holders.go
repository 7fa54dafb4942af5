// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// lanAge is how long it counts what the LAN's nodes tell each other. They say it anew twice as often.
const lanAge = 24 * time.Hour

// rowsAtOnce bounds the memory that writing many rows takes.
const rowsAtOnce = 512

// A Holder is a node of the LAN that has a blob, and said so.
type Holder struct {
	Digest Digest
	ID     string // the node's: 16 hexadecimal digits
	Addr   netip.AddrPort
	At     time.Time // when it said so, to the second
}

// PutHolders keeps holders, until a day after their At; one replaces another of the same Digest and
// ID. The error is ErrNoSpace if neither the disk nor memory has room for all of them.
func (s *Store) PutHolders(holders []Holder) error { return writeAll(s.rows, holders, encodeHolder) }

// DeleteHolders forgets holders, of which only Digest and ID matter; they need not be there.
func (s *Store) DeleteHolders(holders []Holder) error {
	return writeAll(s.rows, holders, func(h Holder) (row, error) {
		key, err := holderKey(h)
		return row{key: key}, err
	})
}

// EachHolder yields all holders. yield must not call the store.
func (s *Store) EachHolder(yield func(Holder) bool) {
	s.rows.each([]byte{kindHolder}, func(r row) bool {
		h, ok := decodeHolder(r)
		return !ok || yield(h)
	})
}

// Announced notes that this node told the LAN at that time that it has these blobs.
func (s *Store) Announced(blobs []Digest, at time.Time) error {
	return writeAll(s.rows, blobs, func(d Digest) (row, error) { return encodeTold(d, at), nil })
}

// EachBlob yields all blobs, with when they were last announced; zero: not for a day, or never. yield
// may call the store.
func (s *Store) EachBlob(yield func(d Digest, announced time.Time) bool) {
	blobs := s.table.digests()
	slices.SortFunc(blobs, func(a, b Digest) int { return bytes.Compare(a[:], b[:]) })
	var told map[Digest]time.Time
	for i, d := range blobs {
		if i == 0 || d[0] != blobs[i-1][0] { // 256 times: few rows in memory, and few walks through them
			told = s.told(d[0])
		}
		if !yield(d, told[d]) {
			return
		}
	}
}

// told returns when the blobs whose digests begin with first were announced.
func (s *Store) told(first byte) map[Digest]time.Time {
	out := make(map[Digest]time.Time)
	s.rows.each([]byte{kindTold, first}, func(r row) bool {
		if len(r.value) == timeLen {
			out[Digest(r.key[1:])] = decodeTime(r.value)
		}
		return true
	})
	return out
}

// writeAll writes a row for each item, some at a time.
func writeAll[T any](r *rows, items []T, encode func(T) (row, error)) error {
	for part := range slices.Chunk(items, rowsAtOnce) {
		batch := make([]row, 0, len(part))
		for _, item := range part {
			row, err := encode(item)
			if err != nil {
				return err
			}
			batch = append(batch, row)
		}
		if err := r.write(batch); err != nil {
			return err
		}
	}
	return nil
}

const (
	idLen        = 8
	holderKeyLen = 1 + len(Digest{}) + idLen
	timeLen      = 8
)

func holderKey(h Holder) ([]byte, error) {
	id, err := hex.DecodeString(h.ID)
	if err != nil || len(id) != idLen {
		return nil, fmt.Errorf("store: %q is not the id of a node", h.ID)
	}
	return append(blobKey(kindHolder, h.Digest), id...), nil
}

func encodeHolder(h Holder) (row, error) {
	key, err := holderKey(h)
	if err != nil {
		return row{}, err
	}
	value, err := h.Addr.AppendBinary(encodeTime(h.At))
	return row{key: key, value: value, expires: h.At.Add(lanAge).Unix()}, err
}

func decodeHolder(r row) (h Holder, ok bool) {
	if len(r.key) != holderKeyLen || len(r.value) < timeLen || h.Addr.UnmarshalBinary(r.value[timeLen:]) != nil {
		return h, false
	}
	h.Digest = Digest(r.key[1:])
	h.ID = hex.EncodeToString(r.key[1+len(h.Digest):])
	h.At = decodeTime(r.value)
	return h, true
}

func encodeTold(d Digest, at time.Time) row {
	return row{key: blobKey(kindTold, d), value: encodeTime(at), expires: at.Add(lanAge).Unix()}
}

func encodeTime(t time.Time) []byte { return binary.BigEndian.AppendUint64(nil, uint64(unixOf(t))) }

func decodeTime(b []byte) time.Time { return timeOf(int64(binary.BigEndian.Uint64(b))) }
