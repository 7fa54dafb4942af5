// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"fmt"
	"time"
)

// EachShareable yields the blobs that may be given to the world, and what is known of them, in no
// order. yield may call the store.
func (s *Store) EachShareable(yield func(Digest, Meta) bool) {
	for _, d := range s.table.digestsOf(entry.shareable) {
		m, err := s.Meta(d)
		if err == nil && m.Shareable && !yield(d, m) {
			return
		}
	}
}

// Shareable tells, from memory, whether the blob is here and may be given to the world.
func (s *Store) Shareable(d Digest) bool {
	e, ok := s.table.get(d)
	return ok && e.shareable()
}

// dhtKeyLen is that of a key of the mainline DHT: the beginning of a SHA-256.
const dhtKeyLen = 20

// maxDHTRow bounds the rows of the DHT, in bytes.
const maxDHTRow = 64

// PutDHTRow keeps what the DHT wants to know of a key that it has announced, until expires.
func (s *Store) PutDHTRow(key [dhtKeyLen]byte, value []byte, expires time.Time) error {
	if len(value) > maxDHTRow {
		return fmt.Errorf("%w: a row of the DHT with %d bytes (at most %d)", ErrTooLong, len(value), maxDHTRow)
	}
	return s.rows.write([]row{{key: dhtRowKey(key), value: value, expires: expires.Unix()}})
}

// DropDHTRow forgets a row, which need not be there.
func (s *Store) DropDHTRow(key [dhtKeyLen]byte) error {
	return s.rows.write([]row{{key: dhtRowKey(key)}})
}

// EachDHTRow yields all that PutDHTRow has kept. yield must not call the store.
func (s *Store) EachDHTRow(yield func(key [dhtKeyLen]byte, value []byte) bool) {
	s.rows.each([]byte{kindDHT}, func(r row) bool {
		return len(r.key) != 1+dhtKeyLen || yield([dhtKeyLen]byte(r.key[1:]), r.value)
	})
}

func dhtRowKey(key [dhtKeyLen]byte) []byte { return append([]byte{kindDHT}, key[:]...) }
