// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"crypto/sha256"
	"fmt"
)

// Digest is a SHA-256.
type Digest = [sha256.Size]byte

// Emit is told of one file: its path relative to the directory that the reader
// states, its size in bytes or -1 where the index does not say, and its hash.
// path is valid until Emit returns. An error ends the reading and is handed
// back unchanged.
type Emit func(path []byte, size int64, digest Digest) error

// Summary counts what a reader met.
type Summary struct {
	Entries int // files emitted
	Skipped int // stanzas or lines that name no usable file: no hash, no path, or a bad one
}

// maxEntries bounds one file's entries: some forty times those of bookworm's Sources.
const maxEntries = 4_000_000

// sink passes usable entries on and counts.
type sink struct {
	Summary
	emit Emit
}

// add emits one file, or skips it if its path is not acceptable. It may
// rewrite path.
func (s *sink) add(path []byte, size int64, digest *Digest) error {
	path, ok := cleanPath(path)
	if !ok {
		s.Skipped++
		return nil
	}
	if s.Entries == maxEntries {
		return fmt.Errorf("index names more than %d files", maxEntries)
	}
	s.Entries++
	return s.emit(path, size, *digest)
}
