// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A note says how much of a partial file with a hole is there, for whoever resumes it. It is believed
// only as far as the bytes bear it out.
type note struct {
	Size   int64  // of the whole blob
	Front  int64  // bytes from the start, a multiple of PieceSize
	Border Digest // the state after them
	At     int64  // pieces from here on are there
	Next   Digest // the state before them
}

const (
	holesSuffix = ".holes"
	noteSuffix  = ".note"

	noteMagic = "adhtnot1"
	noteLen   = len(noteMagic) + 3*8 + 2*len(Digest{}) + 4

	// A note is written again when notePieces more are proven, or noteEvery has passed.
	notePieces = 16
	noteEvery  = time.Second
)

var errNote = errors.New("store: not a note of a partial file")

func (n *note) encode() []byte {
	b := bytes.NewBufferString(noteMagic)
	binary.Write(b, binary.BigEndian, n)
	return binary.BigEndian.AppendUint32(b.Bytes(), crc32.ChecksumIEEE(b.Bytes()))
}

func decodeNote(b []byte) (n note, err error) {
	if len(b) != noteLen || string(b[:len(noteMagic)]) != noteMagic {
		return n, errNote
	}
	body, sum := b[:noteLen-4], b[noteLen-4:]
	if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(sum) {
		return n, errNote
	}
	binary.Decode(body[len(noteMagic):], binary.BigEndian, &n)
	pieces := int64(innerStates(n.Size) + 1)
	if n.Size <= PieceSize || n.At <= 0 || n.At >= pieces || n.Front < 0 || n.Front%PieceSize != 0 || n.Front > n.At*PieceSize {
		return note{}, errNote
	}
	return n, nil
}

func (s *Store) holesPath(d Digest) string { return s.partialPath(d) + holesSuffix }
func (s *Store) notePath(d Digest) string  { return s.partialPath(d) + noteSuffix }

// dropHoles removes what is kept of a blob with a hole.
func (s *Store) dropHoles(d Digest) error {
	errs := errors.Join(os.Remove(s.notePath(d)), os.Remove(s.holesPath(d)))
	if errs != nil && !errors.Is(errs, os.ErrNotExist) {
		return errs
	}
	return nil
}

// keptHoles returns the note of a partial file with a hole of a blob of that size; false: there is none, or
// no longer.
func (s *Store) keptHoles(d Digest, size int64) (note, bool) {
	b, err := os.ReadFile(s.notePath(d))
	if err != nil {
		return note{}, false
	}
	n, err := decodeNote(b)
	if err == nil && n.Size == size {
		return n, true
	}
	if err := s.dropHoles(d); err != nil {
		s.log.Warn("store: remove a partial file", "error", err)
	}
	return note{}, false
}

// removeOrphans removes partial files with holes that have no note, and notes without a file: what a
// process left that was killed.
func (s *Store) removeOrphans() {
	for suffix, other := range map[string]string{holesSuffix: noteSuffix, noteSuffix: holesSuffix} {
		paths, _ := filepath.Glob(filepath.Join(s.partialDir(), "*"+suffix)) // the pattern is well formed
		for _, path := range paths {
			if _, err := os.Lstat(strings.TrimSuffix(path, suffix) + other); err == nil {
				continue
			}
			if err := os.Remove(path); err != nil {
				s.log.Warn("store: remove a partial file without its other half", "error", err)
			}
		}
	}
}

// noteLocked is what is to be noted now; false: nothing is proven, or all is.
func (g *Growing) noteLocked() (note, bool) {
	if g.tail == nil || g.met != nil || !g.hashed || g.tail.proof.at >= len(g.tail.slots) {
		return note{}, false
	}
	return note{g.size, g.bordered, g.border, int64(g.tail.proof.at), g.tail.proof.next}, g.tail.proof.at > 0
}

// takeNote writes the note, if it is time.
func (g *Growing) takeNote(now time.Time) {
	g.mu.Lock()
	n, ok := g.noteLocked()
	due := ok && (g.noted.at-n.At >= notePieces || now.Sub(g.noted.when) >= noteEvery)
	if due {
		g.noted.at, g.noted.when = n.At, now
	}
	g.mu.Unlock()
	if !due {
		return
	}
	if err := g.writeNote(n); err != nil {
		g.s.log.Debug("store: what is proven of a blob is not noted", "error", err)
	}
}

// writeNote replaces the note as a whole.
func (g *Growing) writeNote(n note) error {
	temp := g.s.tempPath()
	if err := os.WriteFile(temp, n.encode(), publicMode); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, g.s.notePath(g.want))
}

// resumeTail verifies what was kept of the tail: the bytes from there to the end, hashed on from the state
// before them, must give the digest. It returns the states between them, that before them first; none if
// they are not what was noted.
func (g *Growing) resumeTail(n note) ([]Digest, error) {
	from := n.At * PieceSize
	states := []Digest{n.Next}
	h := hashFrom(n.Next, from)
	buf := copyBuffers.Get().(*[64 << 10]byte)
	defer copyBuffers.Put(buf)
	for ; from < n.Size; from += PieceSize {
		part := io.NewSectionReader(g.file, from, min(PieceSize, n.Size-from))
		k, err := io.CopyBuffer(h, struct{ io.Reader }{part}, buf[:])
		if err != nil {
			return nil, fmt.Errorf("store: resume the tail of blob %x: %w", g.want, err)
		}
		if k < part.Size() {
			return nil, nil
		}
		if from+PieceSize < n.Size {
			states = append(states, stateOf(h))
		}
	}
	var sum Digest
	h.Sum(sum[:0])
	if sum != g.want {
		return nil, nil
	}
	return states, nil
}

// adoptLocked takes over what was noted, as far as it is right: the front if it leads to the state that was
// noted, and the states that resumeTail has found.
func (g *Growing) adoptLocked(n note, states []Digest) {
	t := g.tail
	if n.Front > 0 && g.border != n.Border {
		for i := range t.front {
			t.slots[i].closed = false
		}
		t.front, g.n, g.checked, g.chain = 0, 0, 0, newChain()
		g.bordered, g.border = 0, initialState
	}
	if len(states) == 0 {
		return
	}
	t.proof.states = slices.Clone(states)
	slices.Reverse(t.proof.states)
	t.proof.at, t.proof.next = int(n.At), states[0]
	for i := t.proof.at; i < len(t.slots); i++ {
		t.slots[i].closed = true
	}
	g.noted.at = n.At
}
