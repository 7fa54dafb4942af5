// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

const (
	keySize   = 8
	valueSize = 8 + sha256.Size
	rowSize   = keySize + valueSize

	// maxRows bounds one file's catalogue to 25 MB: eight times Debian's largest.
	maxRows = 1 << 19
)

// table is a list of files sorted by key, laid out as doc.go tells.
type table struct {
	keys   []byte
	values []byte
}

// tableOf takes the bytes of whole rows apart: all keys stand before the first value, so that a search stays
// within a page or two.
func tableOf(data []byte) table {
	n := len(data) / rowSize
	return table{data[:n*keySize], data[n*keySize:]}
}

// keyOf is what a path is known by: the first eight bytes of its SHA-256.
func keyOf(path string) uint64 {
	var buf [512]byte // on the stack: a lookup must not allocate
	sum := sha256.Sum256(append(buf[:0], path...))
	return binary.BigEndian.Uint64(sum[:])
}

func (t table) len() int { return len(t.keys) / keySize }

func (t table) key(i int) uint64 { return binary.BigEndian.Uint64(t.keys[i*keySize:]) }

func (t table) at(i int) (size int64, digest Digest) {
	value := t.values[i*valueSize:][:valueSize]
	return int64(binary.BigEndian.Uint64(value)), Digest(value[8:])
}

// find looks a key up.
func (t table) find(key uint64) (size int64, digest Digest, ok bool) {
	i := t.search(key)
	if i == t.len() || t.key(i) != key {
		return 0, Digest{}, false
	}
	size, digest = t.at(i)
	return size, digest, true
}

// search returns the index of the first key that is not below key. Hashes are spread evenly, so it starts
// where key should stand and widens from there; that costs no more than halving even if they are not.
func (t table) search(key uint64) int {
	n := t.len()
	low := t.guess(key)
	high := low
	for step := 1; low > 0 && t.key(low-1) >= key; step *= 2 {
		low, high = max(0, low-step), low-1
	}
	for step := 1; high < n && t.key(high) < key; step *= 2 {
		low, high = high+1, min(n, high+step)
	}
	for low < high {
		mid := low + (high-low)/2
		if t.key(mid) < key {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// guess returns about where key should stand, corrected twice by what stands there: each time the error falls
// to about its square root.
func (t table) guess(key uint64) int {
	n := t.len()
	if n == 0 {
		return 0
	}
	i := share(key, n)
	for range 2 {
		if k := t.key(i); k < key {
			i = min(n-1, i+share(key-k, n))
		} else {
			i = max(0, i-share(k-key, n))
		}
	}
	return i
}

// share returns how many of n evenly spread keys fall into a range of that width.
func share(width uint64, n int) int {
	high, _ := bits.Mul64(width, uint64(n))
	return int(high)
}

// rowBuilder collects rows in any order.
type rowBuilder struct {
	list   [][rowSize]byte
	byHash bool // each file is also at by-hash/SHA256/<hex>
}

// add is a parse.Emit.
func (b *rowBuilder) add(path []byte, size int64, digest Digest) error {
	if b.byHash {
		alias := fmt.Appendf(nil, "by-hash/SHA256/%x", digest)
		if err := b.append(alias, size, digest); err != nil {
			return err
		}
	}
	return b.append(path, size, digest)
}

func (b *rowBuilder) append(path []byte, size int64, digest Digest) error {
	if len(b.list) == maxRows {
		return fmt.Errorf("it names more than %d files", maxRows)
	}
	var row [rowSize]byte
	sum := sha256.Sum256(path)
	copy(row[:keySize], sum[:])
	binary.BigEndian.PutUint64(row[8:], uint64(size))
	copy(row[16:], digest[:])
	b.list = append(b.list, row)
	return nil
}

// sorted returns what was added in the order of keys. Of several rows for one
// path it keeps one, the same whatever their order was. It ends the builder's use.
func (b *rowBuilder) sorted() [][rowSize]byte {
	slices.SortFunc(b.list, func(x, y [rowSize]byte) int { return bytes.Compare(x[:], y[:]) })
	return slices.CompactFunc(b.list, func(x, y [rowSize]byte) bool {
		return [keySize]byte(x[:keySize]) == [keySize]byte(y[:keySize])
	})
}

// table is sorted, as a table in memory.
func (b *rowBuilder) table() table {
	list := b.sorted()
	data := make([]byte, 0, len(list)*rowSize)
	for i := range list {
		data = append(data, list[i][:keySize]...)
	}
	for i := range list {
		data = append(data, list[i][keySize:]...)
	}
	return tableOf(data)
}
