// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"path"
	"path/filepath"

	"apt-dht/store"
)

const (
	recordMagic = 0xadf11e01
	headLen     = 88
	maxPath     = 4095 // PATH_MAX without its NUL
	align       = 16

	// maxSize bounds the states in one record to 16 MiB.
	maxSize = 512 << 30

	stateLen = len(Digest{})
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// A stamp is what tells whether a file has been changed, or another has taken its place: as stat gives
// it, the times in ns since the epoch. Nobody can write to a file of a local file system and leave its
// ctime as it was; but two files that were made within a tick of the clock may have the same. ino is
// zero where numbers do not stay (see inodesStay).
type stamp struct {
	size, mtime, ctime int64
	ino                uint64
}

// A record says that the file at path, relative to Dir, had these bytes when it had that stamp.
type record struct {
	path   string
	stamp  stamp
	dev    uint64
	digest Digest
	sum    uint32 // CRC of the states
}

// length is that of the whole record in the journal.
func (r *record) length() int64 {
	n := int64(headLen+len(r.path)) + statesLen(r.stamp.size)
	return (n + align - 1) / align * align
}

// statesLen is the length of the states of a file of size bytes.
func statesLen(size int64) int64 {
	return (size - 1) / store.PieceSize * int64(stateLen)
}

// encode appends the record to b. The states are those between the file's pieces.
func (r *record) encode(b, states []byte) []byte {
	start := len(b)
	be := binary.BigEndian
	b = be.AppendUint32(b, recordMagic)
	b = be.AppendUint32(b, 0) // the CRC
	for _, v := range [...]uint64{uint64(r.stamp.size), uint64(r.stamp.mtime), uint64(r.stamp.ctime), r.stamp.ino, r.dev} {
		b = be.AppendUint64(b, v)
	}
	b = append(b, r.digest[:]...)
	b = be.AppendUint32(b, crc32.Checksum(states, crcTable))
	b = be.AppendUint16(b, uint16(len(r.path)))
	b = be.AppendUint16(b, 0)
	b = append(b, r.path...)
	be.PutUint32(b[start+4:], crc32.Checksum(b[start+8:], crcTable))
	b = append(b, states...)
	for (len(b)-start)%align != 0 {
		b = append(b, 0)
	}
	return b
}

var errDamaged = errors.New("inplace: damaged record")

// recordNeeds says how many bytes decode needs of a record that begins with b, which are headLen at
// least.
func recordNeeds(b []byte) int {
	return headLen + int(binary.BigEndian.Uint16(b[84:]))
}

// decode reads a record without its states. b begins with it, and may go on.
func decode(b []byte) (r record, err error) {
	if len(b) < headLen || binary.BigEndian.Uint32(b) != recordMagic {
		return r, errDamaged
	}
	need := recordNeeds(b)
	if len(b) < need || crc32.Checksum(b[8:need], crcTable) != binary.BigEndian.Uint32(b[4:]) {
		return r, errDamaged
	}
	word := func(at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }
	r = record{
		path:   string(b[headLen:need]),
		stamp:  stamp{size: int64(word(8)), mtime: int64(word(16)), ctime: int64(word(24)), ino: word(32)},
		dev:    word(40),
		digest: Digest(b[48:]),
		sum:    binary.BigEndian.Uint32(b[80:]),
	}
	if r.stamp.size < 1 || r.stamp.size > maxSize || !goodPath(r.path) || b[86] != 0 || b[87] != 0 {
		return record{}, errDamaged
	}
	return r, nil
}

// goodPath reports whether p is one that a walk of the directory can have found.
func goodPath(p string) bool {
	return len(p) <= maxPath && p != "." && filepath.IsLocal(p) && path.Clean(p) == p
}
