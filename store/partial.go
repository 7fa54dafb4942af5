// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// partialAge is how long a suspended blob waits to be resumed: a mirror's point release is a week's
// matter, after that the file is seldom asked for again.
const partialAge = 7 * 24 * time.Hour

// Create begins a blob. A zero digest means that it is not known yet, a size of -1 the same. If a
// blob of that digest was suspended it is resumed: Len then tells how much is there, and the next
// Write appends to it. What is there is not read before Resume, or the first Write.
//
// The errors are ErrBusy when the digest is being written already, and ErrNoSpace.
func (s *Store) Create(want Digest, size int64) (*Growing, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	if err := s.makeRoom(max(size, 0)); err != nil {
		return nil, err
	}
	g := &Growing{s: s, known: want != Digest{}, want: want, size: max(size, -1), chain: newChain(), border: initialState}
	if g.known && !s.takeWriter(want) {
		return nil, ErrBusy
	}
	if err := g.openFile(); err != nil {
		s.releaseWriter(g)
		return nil, fmt.Errorf("store: %w", noSpace(err))
	}
	g.newTailLocked() // nobody else has it yet
	return g, nil
}

func (g *Growing) openFile() (err error) {
	if !g.known {
		g.path, g.hashed = g.s.tempPath(), true
		g.file, err = os.OpenFile(g.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, publicMode)
		return err
	}
	if n, ok := g.s.keptHoles(g.want, g.size); ok && g.openHoles(n) == nil {
		return nil
	}
	g.path = g.s.partialPath(g.want)
	g.file, err = os.OpenFile(g.path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, publicMode)
	if err != nil {
		return err
	}
	if err := g.adoptKept(); err != nil {
		g.file.Close()
		return err
	}
	return nil
}

// openHoles opens a partial file with a hole. What its note says is verified by Resume.
func (g *Growing) openHoles(n note) (err error) {
	g.path = g.s.holesPath(g.want)
	g.file, err = os.OpenFile(g.path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if st, err := g.file.Stat(); err != nil || !st.Mode().IsRegular() {
		g.file.Close()
		return fmt.Errorf("%s: %w", g.path, errNotRegular)
	}
	g.n, g.checked, g.kept = n.Front, n.Front, &n
	return nil
}

// adoptKept counts what was kept. More than there should be is no beginning of this blob.
func (g *Growing) adoptKept() error {
	st, err := g.file.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", g.path, errNotRegular)
	}
	if g.size < 0 || st.Size() <= g.size {
		g.n, g.checked = st.Size(), st.Size()
	} else if err := g.file.Truncate(0); err != nil {
		return err
	}
	g.hashed = g.n == 0
	return nil
}

// Resume reads and hashes what was kept of a suspended blob, at some 1 GB/s; the writer may call it
// before the first Write, which does the same. Where nothing was kept it does nothing.
func (g *Growing) Resume() error {
	g.mu.Lock()
	hashed, n, end := g.hashed, g.n, g.end
	g.mu.Unlock()
	if hashed {
		return nil
	}
	if end != nil {
		return fmt.Errorf("store: resume a blob that has ended: %w", end)
	}
	g.chain = newChain()
	_, err := io.Copy(g.chain, io.NewSectionReader(g.file, 0, n))
	if err == nil && g.chain.n < n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("store: resume blob %x: %w", g.want, err)
	}
	var states []Digest
	if g.kept != nil {
		if states, err = g.resumeTail(*g.kept); err != nil {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hashed = true
	if whole := g.chain.n / PieceSize; whole > 0 {
		g.bordered, g.border = whole*PieceSize, g.chain.states[whole-1]
	}
	if g.kept != nil {
		g.adoptLocked(*g.kept, states)
		g.kept = nil
	}
	g.meetLocked()
	return nil
}

// keep leaves the file as Create finds it: with a note where something of the tail is proven, else nothing
// but the front, under its own name.
func (g *Growing) keep() error {
	g.mu.Lock()
	path, n, kept := g.path, g.n, g.kept
	note, ok := g.noteLocked()
	g.mu.Unlock()
	own := g.s.partialPath(g.want)
	switch {
	case path == own, kept != nil: // as it was found
		return nil
	case ok:
		return g.writeNote(note)
	}
	if err := os.Remove(g.s.notePath(g.want)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("store: %w", err)
	}
	if err := g.file.Truncate(n); err != nil { // before it has a name that Create knows
		return fmt.Errorf("store: %w", err)
	}
	if err := os.Rename(path, own); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	g.mu.Lock()
	g.path = own
	g.mu.Unlock()
	return nil
}

// originAttr is the extended attribute that keeps a partial file's origin.
const originAttr = "user.apt-dht.origin"

// SetOrigin notes, in the file itself, where its bytes come from. A file system without extended
// attributes does not keep it.
func (g *Growing) SetOrigin(url string) {
	if err := unix.Fsetxattr(int(g.file.Fd()), originAttr, []byte(url), 0); err != nil {
		g.s.log.Debug("store: the origin of a partial file is not kept", "error", err)
	}
}

// Origin is what SetOrigin noted, also before the blob was suspended; "" where that is not known.
func (g *Growing) Origin() string {
	value := make([]byte, maxURL)
	n, err := unix.Fgetxattr(int(g.file.Fd()), originAttr, value)
	if err != nil {
		return ""
	}
	return string(value[:n])
}

func (s *Store) takeWriter(d Digest) bool {
	s.writersMu.Lock()
	defer s.writersMu.Unlock()
	if _, busy := s.writers[d]; busy {
		return false
	}
	s.writers[d] = struct{}{}
	return true
}

func (s *Store) releaseWriter(g *Growing) {
	if !g.known {
		return
	}
	s.writersMu.Lock()
	defer s.writersMu.Unlock()
	delete(s.writers, g.want)
}

// removeTemps removes files that no running process can be writing: the directory has just been
// locked.
func (s *Store) removeTemps() {
	temps, _ := filepath.Glob(filepath.Join(s.partialDir(), tempPrefix+"*")) // the pattern is well formed
	for _, path := range temps {
		if err := os.Remove(path); err != nil {
			s.log.Warn("store: remove a temporary file", "error", err)
		}
	}
}

// A suspended is a partial file that nobody is writing.
type suspended struct {
	digest  Digest
	path    string
	size    int64
	written time.Time
}

// suspendedFiles lists them, oldest first.
func (s *Store) suspendedFiles() (out []suspended) {
	files, err := os.ReadDir(s.partialDir())
	if err != nil {
		s.log.Warn("store: list partial files", "error", err)
	}
	for _, f := range files {
		name, _ := strings.CutSuffix(f.Name(), holesSuffix)
		d, ok := parseDigest(name)
		info, err := f.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue
		}
		size := info.Size()
		if st, ok := info.Sys().(*syscall.Stat_t); ok { // a hole takes nothing
			size = min(size, st.Blocks*512)
		}
		out = append(out, suspended{d, filepath.Join(s.partialDir(), f.Name()), size, info.ModTime()})
	}
	slices.SortFunc(out, func(a, b suspended) int { return a.written.Compare(b.written) })
	return out
}

// prunePartials removes suspended files that are too old, and the oldest while blobs and suspended
// files together are more than the quota.
func (s *Store) prunePartials() (removed int, freed int64) {
	files := s.suspendedFiles()
	_, total := s.table.usage()
	for _, f := range files {
		total += f.size
	}
	for _, f := range files {
		if total <= s.cfg.Quota && time.Since(f.written) < partialAge {
			continue
		}
		if !s.removeSuspended(f) {
			continue
		}
		total -= f.size
		freed += f.size
		removed++
	}
	return removed, freed
}

// removeSuspended removes the file unless it is being written.
func (s *Store) removeSuspended(f suspended) bool {
	if !s.takeWriter(f.digest) {
		return false
	}
	defer func() {
		s.writersMu.Lock()
		defer s.writersMu.Unlock()
		delete(s.writers, f.digest)
	}()
	os.Remove(s.notePath(f.digest)) // if there is one: without it the rest is of no use
	err := os.Remove(f.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("store: remove a partial file", "error", err)
	}
	return err == nil
}
