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

// fileMode is that of blobs: other programs may read them, where the umask lets them.
const fileMode = 0o644

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
		g.file, err = os.OpenFile(g.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
		return err
	}
	if g.openHoles() {
		return nil
	}
	g.path = g.s.partialPath(g.want)
	f, size, err := openPartial(g.path, os.O_CREATE)
	if err != nil {
		return err
	}
	if g.size >= 0 && size > g.size { // no beginning of this blob
		size = 0
		if err := f.Truncate(0); err != nil {
			f.Close()
			return err
		}
	}
	g.file, g.n, g.checked, g.hashed = f, size, size, size == 0
	return nil
}

// openPartial opens a file, of which it returns the size. It follows no links, and waits for nobody.
func openPartial(path string, flag int) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|flag, fileMode)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", path, errNotRegular)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// openHoles opens the partial file with a hole, if there is one that is of use. What its note says is
// verified by Resume. Where the size is said to be another than the note has, or the file has lost its
// end, only the front can be right.
func (g *Growing) openHoles() bool {
	n, err := g.s.readNote(g.want)
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	path := g.s.holesPath(g.want)
	var f *os.File
	var size int64
	if err == nil {
		f, size, err = openPartial(path, 0)
	}
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) { // which passes
		return false
	}
	if err != nil {
		g.s.dropHoles(g.want)
		return false
	}
	if n.Size != g.size || size < n.Front {
		defer f.Close()
		if err := g.s.cutHoles(g.want, f, min(n.Front, size)); err != nil {
			g.s.dropHoles(g.want)
		}
		return false
	}
	g.file, g.path, g.n, g.checked, g.kept = f, path, n.Front, n.Front, &n
	g.noted.seq = n.Seq + 1
	return true
}

// Resume reads and hashes what was kept of a suspended blob, at some 1 GB/s; the writer may call it
// before the first Write, which does the same. What proves wrong of it is as if it had not been kept,
// so Len may become 0. Where nothing was kept Resume does nothing.
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
		states = g.keptTail(*g.kept)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hashed, g.border = true, stateOf(g.chain.h)
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
	own := g.s.partialPath(g.want)
	g.mu.Lock()
	asFound := g.path == own || !g.hashed
	n, proven := g.n, g.met == nil && g.tailLocked() < g.size
	g.mu.Unlock()
	if asFound || proven && g.takeNote(true) == nil {
		return nil
	}
	if err := g.s.cutHoles(g.want, g.file, n); err != nil {
		return err
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
