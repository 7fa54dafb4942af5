// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"encoding/binary"
	"math"
)

// An entry is what is kept of a file in memory: 40 bytes, no pointers. The rest is in the record.
type entry struct {
	path   uint64 // keyed hash of the path
	digest uint64 // the digest's first 8 bytes
	stamp  uint32 // keyed hash of the stamp
	place  place

	// The chains of the buckets; 0 ends one. An entry that is not present is in no chain of digests.
	nextPath, nextStamp, nextDigest, prevDigest id
}

// An id names an entry for as long as it is in the table. 0 names none.
type id uint32

// A state says whether an entry's file is there.
type state uint8

const (
	free    state = iota
	unseen        // present; the scan that is going on has not come by yet
	seen          // present
	missing       // missing, missing+1 …: for that many scans no such file has been found
)

func (s state) present() bool { return s == unseen || s == seen }

const (
	chunkLen   = 4096
	maxEntries = math.MaxInt32
)

type chunk struct {
	entries [chunkLen]entry
	states  [chunkLen]state
}

// A table finds entries by path, by stamp and, if they are present, by digest. It grows by chunks,
// so that no more than one of them is unused.
type table struct {
	chunks []*chunk
	used   id // the largest id in use so far
	unused id // head of the list of free entries, linked by nextPath

	paths, stamps, digests []id // the buckets; the same power of two of each

	entries int // all that are not free
	present int
}

func newTable() *table {
	t := new(table)
	t.setBuckets(1024)
	return t
}

func (t *table) setBuckets(n int) {
	t.paths, t.stamps, t.digests = make([]id, n), make([]id, n), make([]id, n)
}

func (t *table) at(i id) *entry     { return &t.chunks[(i-1)/chunkLen].entries[(i-1)%chunkLen] }
func (t *table) stateOf(i id) state { return t.chunks[(i-1)/chunkLen].states[(i-1)%chunkLen] }
func (t *table) setState(i id, s state) {
	t.chunks[(i-1)/chunkLen].states[(i-1)%chunkLen] = s
}

func (t *table) pathBucket(e *entry) *id  { return &t.paths[e.path&uint64(len(t.paths)-1)] }
func (t *table) stampBucket(e *entry) *id { return &t.stamps[uint64(e.stamp)&uint64(len(t.stamps)-1)] }
func (t *table) digestBucket(key uint64) *id {
	return &t.digests[key&uint64(len(t.digests)-1)]
}

// digestKey is what a table knows of a digest. A second blob with the same key would take 2⁶⁴ tries.
func digestKey(d Digest) uint64 { return binary.BigEndian.Uint64(d[:]) }

// byPath returns the newest entry of a path, or 0.
func (t *table) byPath(path uint64) id {
	i := t.paths[path&uint64(len(t.paths)-1)]
	for i != 0 && t.at(i).path != path {
		i = t.at(i).nextPath
	}
	return i
}

// byStamp appends the places of entries that may have this stamp, as many as out has room for.
func (t *table) byStamp(stamp uint32, out []place) []place {
	for i := t.stamps[uint64(stamp)&uint64(len(t.stamps)-1)]; i != 0 && len(out) < cap(out); i = t.at(i).nextStamp {
		if t.at(i).stamp == stamp {
			out = append(out, t.at(i).place)
		}
	}
	return out
}

// byDigest appends the places of the files that are present with this digest, as many as out has
// room for.
func (t *table) byDigest(d Digest, out []place) []place {
	key := digestKey(d)
	for i := *t.digestBucket(key); i != 0 && len(out) < cap(out); i = t.at(i).nextDigest {
		if t.at(i).digest == key {
			out = append(out, t.at(i).place)
		}
	}
	return out
}

// first returns the entry that stands for all that are present with this digest, or 0.
func (t *table) first(key uint64) id {
	i := *t.digestBucket(key)
	for i != 0 && t.at(i).digest != key {
		i = t.at(i).nextDigest
	}
	return i
}

// add puts in an entry that is missing until enter. Files whose stamp is not telling are not found
// by stamp.
func (t *table) add(e entry, telling bool) id {
	if t.entries >= 2*len(t.paths) {
		t.grow()
	}
	i := t.allot()
	e.nextPath, e.nextStamp, e.nextDigest, e.prevDigest = 0, 0, 0, 0
	*t.at(i) = e
	t.setState(i, missing)
	t.entries++
	t.chain(i, telling)
	return i
}

func (t *table) allot() id {
	if i := t.unused; i != 0 {
		t.unused = t.at(i).nextPath
		return i
	}
	t.used++
	if int(t.used) > len(t.chunks)*chunkLen {
		t.chunks = append(t.chunks, new(chunk))
	}
	return t.used
}

// chain puts an entry into its buckets. One that is its own successor is in no chain of stamps.
func (t *table) chain(i id, telling bool) {
	e := t.at(i)
	head := t.pathBucket(e)
	e.nextPath, *head = *head, i
	e.nextStamp = i
	if telling {
		head = t.stampBucket(e)
		e.nextStamp, *head = *head, i
	}
}

// enter makes an entry present. It reports whether its digest was not there before.
func (t *table) enter(i id) (added bool) {
	t.present++
	t.setState(i, seen)
	added = t.first(t.at(i).digest) == 0
	t.chainDigest(i)
	return added
}

func (t *table) chainDigest(i id) {
	e := t.at(i)
	head := t.digestBucket(e.digest)
	e.nextDigest, e.prevDigest = *head, 0
	if *head != 0 {
		t.at(*head).prevDigest = i
	}
	*head = i
}

// leave makes an entry missing. It reports whether its digest is gone with it.
func (t *table) leave(i id) (gone bool) {
	e := t.at(i)
	t.present--
	t.setState(i, missing)
	if e.nextDigest != 0 {
		t.at(e.nextDigest).prevDigest = e.prevDigest
	}
	if e.prevDigest != 0 {
		t.at(e.prevDigest).nextDigest = e.nextDigest
	} else {
		*t.digestBucket(e.digest) = e.nextDigest
	}
	e.nextDigest, e.prevDigest = 0, 0
	return t.first(e.digest) == 0
}

// drop takes out an entry that is missing.
func (t *table) drop(i id) {
	e := t.at(i)
	p := t.pathBucket(e)
	for *p != i {
		p = &t.at(*p).nextPath
	}
	*p = e.nextPath
	if e.nextStamp != i {
		p = t.stampBucket(e)
		for *p != i {
			p = &t.at(*p).nextStamp
		}
		*p = e.nextStamp
	}
	*e = entry{nextPath: t.unused}
	t.unused = i
	t.setState(i, free)
	t.entries--
}

// grow doubles the buckets.
func (t *table) grow() {
	t.setBuckets(2 * len(t.paths))
	for i := id(1); i <= t.used; i++ {
		s := t.stateOf(i)
		if s == free {
			continue
		}
		t.chain(i, t.at(i).nextStamp != i)
		if s.present() {
			t.chainDigest(i)
		}
	}
}
