// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"crypto/sha256"
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
// only as far as the bytes bear it out. What it says of a file that is being written stays true: the
// front only grows, and what is proven does not change. So an older one does no harm.
type note struct {
	Seq    uint64 // of the notes of one file, the last has the greatest
	Size   int64  // of the whole blob
	Front  int64  // bytes from the start, whole blocks of SHA-256
	Border Digest // the state after them
	At     int64  // pieces from here on are there; the number of pieces where there is no tail
	Next   Digest // the state before them
}

const (
	holesSuffix = ".holes"
	noteSuffix  = ".note"

	noteMagic = "adhtnot2"
	noteLen   = len(noteMagic) + 4*8 + 2*len(Digest{}) + 4

	// A note is written again when noteBytes more are there, or noteEvery has passed.
	noteBytes = 16 * PieceSize
	noteEvery = time.Second
)

var errNote = errors.New("store: not a note of a partial file")

func (n *note) encode() []byte {
	b := append(make([]byte, 0, noteLen), noteMagic...)
	b, _ = binary.Append(b, binary.BigEndian, n) // a note has a fixed size
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
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
	if n.Size <= PieceSize || n.At <= 0 || n.At > piecesOf(n.Size) || n.Front < 0 || n.Front%sha256.BlockSize != 0 || n.Front > n.tail() {
		return note{}, errNote
	}
	return n, nil
}

// newestNote finds it in a note's file, which has places for two.
func newestNote(b []byte) (newest note, err error) {
	err = errNote
	for ; len(b) >= noteLen; b = b[noteLen:] {
		if n, bad := decodeNote(b[:noteLen]); bad == nil && (err != nil || n.Seq > newest.Seq) {
			newest, err = n, nil
		}
	}
	return newest, err
}

func piecesOf(size int64) int64 { return int64(innerStates(size)) + 1 }

// tail is the offset from which on all bytes are there: the size where there is no tail.
func (n *note) tail() int64 { return min(n.At*PieceSize, n.Size) }

// bytes is how many bytes are there.
func (n *note) bytes() int64 { return n.Front + n.Size - n.tail() }

func (s *Store) holesPath(d Digest) string { return s.partialPath(d) + holesSuffix }
func (s *Store) notePath(d Digest) string  { return s.partialPath(d) + noteSuffix }

func (s *Store) readNote(d Digest) (note, error) {
	f, _, err := openPartial(s.notePath(d), 0)
	if err != nil {
		return note{}, err
	}
	defer f.Close()
	b := make([]byte, 2*noteLen)
	n, err := io.ReadFull(f, b)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return note{}, err
	}
	return newestNote(b[:n])
}

// writeNote writes over the note before the last one, so that one is whole whatever happens.
func (s *Store) writeNote(d Digest, n note) error {
	f, _, err := openPartial(s.notePath(d), os.O_CREATE)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(n.encode(), int64(n.Seq%2)*int64(noteLen))
	return errors.Join(err, f.Close())
}

// dropNote removes the note, if there is one.
func (s *Store) dropNote(d Digest) { s.drop(s.notePath(d)) }

// dropHoles removes what there is of a partial file with a hole.
func (s *Store) dropHoles(d Digest) {
	s.dropNote(d)
	s.drop(s.holesPath(d))
}

func (s *Store) drop(path string) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("store: remove a partial file", "error", err)
	}
}

// cutHoles leaves nothing but the front of a partial file with a hole, under the front's own name.
func (s *Store) cutHoles(d Digest, f *os.File, front int64) error {
	if err := f.Truncate(front); err != nil { // before it has a name that Create knows
		return fmt.Errorf("store: %w", err)
	}
	if err := os.Rename(s.holesPath(d), s.partialPath(d)); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.dropNote(d)
	return nil
}

// removeOrphans removes partial files with holes that have no note, and notes without a file: what a
// process left that was killed.
func (s *Store) removeOrphans() {
	for suffix, other := range map[string]string{holesSuffix: noteSuffix, noteSuffix: holesSuffix} {
		paths, _ := filepath.Glob(filepath.Join(s.partialDir(), "*"+suffix)) // the pattern is well formed
		for _, path := range paths {
			name := strings.TrimSuffix(path, suffix)
			_, ours := parseDigest(filepath.Base(name))
			if _, err := os.Lstat(name + other); ours && errors.Is(err, os.ErrNotExist) {
				s.drop(path)
			}
		}
	}
}

// A noted is what a Growing knows of its note.
type noted struct {
	seq   uint64 // of the next one; 0: none has been written
	bytes int64  // that were there when the last one was written
	when  time.Time
}

// due tells whether the note must be written again, with so many bytes there.
func (n *noted) due(bytes int64) bool {
	fresh := bytes - n.bytes
	return fresh >= noteBytes || fresh > 0 && time.Since(n.when) >= noteEvery
}

// noteLocked is what is to be noted now; false: nothing may be said of the file, or need not.
func (g *Growing) noteLocked() (note, bool) {
	if g.tail == nil || !g.hashed || g.met != nil || g.end != nil {
		return note{}, false
	}
	return note{
		Size:   g.size,
		Front:  g.n - g.n%sha256.BlockSize,
		Border: g.border,
		At:     int64(g.tail.proof.at),
		Next:   g.tail.proof.next,
	}, true
}

// takeNote writes the note: if it must be now, or if there is one already and it is time.
func (g *Growing) takeNote(must bool) error {
	g.noteMu.Lock()
	defer g.noteMu.Unlock()
	if g.noted.seq == 0 && !must {
		return nil
	}
	g.mu.Lock()
	n, ok := g.noteLocked()
	g.mu.Unlock()
	if !ok || !must && !g.noted.due(n.bytes()) {
		return nil
	}
	n.Seq = g.noted.seq
	g.noted = noted{seq: n.Seq + 1, bytes: n.bytes(), when: time.Now()}
	err := g.s.writeNote(g.want, n)
	if err != nil {
		g.noted.seq = max(n.Seq, 1) // the next one in the same place, but for the first
	}
	return err
}

// keepNote is takeNote for those who can do nothing about an error: an older note stands, or a kill
// loses what is there.
func (g *Growing) keepNote(must bool) {
	if err := g.takeNote(must); err != nil {
		g.s.log.Debug("store: what is there of a blob is not noted", "error", err)
	}
}

// endNote removes the note unless a file with a hole is kept. Nobody writes it once the Growing has ended.
func (g *Growing) endNote(end error) {
	g.noteMu.Lock()
	defer g.noteMu.Unlock()
	kept := end == ErrSuspended && strings.HasSuffix(g.name(), holesSuffix)
	if g.noted.seq > 0 && !kept {
		g.s.dropNote(g.want)
	}
}

// keptTail verifies what was kept of the tail: the bytes from there to the end, hashed on from the state
// before them, must give the digest. It returns the states between them, the last one first; none if
// they are not what was noted.
func (g *Growing) keptTail(n note) []Digest {
	from := n.tail()
	if from >= n.Size {
		return nil
	}
	c := &chain{h: hashFrom(n.Next, from), n: from}
	if _, err := io.Copy(c, io.NewSectionReader(g.file, from, n.Size-from)); err != nil {
		g.s.log.Warn("store: what was kept of a blob's end cannot be read", "digest", hexOf(g.want), "error", err)
		return nil
	}
	if c.n != n.Size || c.sum() != g.want {
		return nil
	}
	states := append([]Digest{n.Next}, c.states[:piecesOf(n.Size)-1-n.At]...)
	slices.Reverse(states)
	return states
}

// adoptLocked takes over what was noted, as far as it is right: the front if it leads to the state that was
// noted, and the tail whose states keptTail has found.
func (g *Growing) adoptLocked(n note, states []Digest) {
	t := g.tail
	if g.border != n.Border {
		for i := range t.front {
			t.slots[i].closed = false
		}
		t.front, g.n, g.checked, g.chain, g.border = 0, 0, 0, newChain(), initialState
	}
	if len(states) == 0 {
		return
	}
	t.proof.states = states
	t.proof.at, t.proof.next = int(n.At), n.Next
	for i := t.proof.at; i < len(t.slots); i++ {
		t.slots[i].closed = true
	}
}
