// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"apt-dht/index/trust"
)

// listFile is a file in apt's lists as it was last read: a root file, or one that could not be used.
type listFile struct {
	size     int64
	modified time.Time
	root     Digest // zero: it could not be used
}

func (l listFile) same(info os.FileInfo) bool {
	return l.size == info.Size() && l.modified.Equal(info.ModTime())
}

// loadLists reads what is new in apt's lists. What cannot be read is logged and left out; the error is for
// the directory.
func (x *Index) loadLists(ctx context.Context) error {
	entries, err := os.ReadDir(x.cfg.ListsDir)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	x.forgetLists(names)
	held := make(map[string]Digest) // roots in the lists, by suite directory
	for _, file := range names {
		if ctx.Err() == nil {
			x.loadListedRoot(file, slices.Contains(names, file+".gpg"), held)
		}
	}
	for _, file := range names {
		if ctx.Err() == nil {
			x.loadListedFile(file, held)
		}
	}
	return nil
}

// forgetLists drops what apt no longer has.
func (x *Index) forgetLists(names []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for file := range x.lists {
		if !slices.Contains(names, file) {
			delete(x.lists, file)
			x.dirty = true
		}
	}
}

// loadListedRoot adds a root file of the lists unless it has not changed, and notes it in held.
func (x *Index) loadListedRoot(file string, signed bool, held map[string]Digest) {
	name, ok := listedName(file)
	if !ok {
		return
	}
	dir, kind, ok := splitRoot(name)
	if !ok || kind == "Release.gpg" {
		return
	}
	info, err := os.Stat(filepath.Join(x.cfg.ListsDir, file))
	if err != nil {
		return // apt replaced it just now; there will be another event
	}
	x.mu.Lock()
	known, ok := x.lists[file]
	st := x.suites[dir]
	ok = ok && known.same(info) && st != nil && st.byRoot(known.root) != nil
	x.mu.Unlock()
	if ok {
		held[dir] = known.root
		return
	}
	root, err := x.addListedRoot(name, file, signed)
	if err != nil {
		x.log.Warn("left out a file of apt's lists", "file", file, "error", err)
		return
	}
	held[dir] = root
	x.noteList(file, info, root)
}

func (x *Index) addListedRoot(name, file string, signed bool) (Digest, error) {
	body, err := readBounded(filepath.Join(x.cfg.ListsDir, file))
	if err != nil {
		return Digest{}, err
	}
	info, err := x.AddRoot(name, body)
	if err != nil || !signed {
		return info.Digest, err
	}
	sig, err := readBounded(filepath.Join(x.cfg.ListsDir, file+".gpg"))
	if err == nil {
		_, err = x.AddRoot(name+".gpg", sig)
	}
	return info.Digest, err
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, trust.MaxRelease+1))
	if err == nil && len(body) > trust.MaxRelease {
		err = fmt.Errorf("%s: more than %d bytes", path, trust.MaxRelease)
	}
	return body, err
}

// listedName returns the name of the URL whose file apt keeps under that name in its lists.
func listedName(file string) (string, bool) {
	name, ok := trust.ListsName(file)
	if !ok {
		return "", false
	}
	name, err := NameOf("http://" + trust.BehindPrefix(name))
	return name, err == nil
}

// loadListedFile reads a Packages or Sources of the lists, if the Release beside it lists it and nobody has read
// it yet. Only the hash of the plain file can be tested: apt packs anew what it keeps.
func (x *Index) loadListedFile(file string, held map[string]Digest) {
	name, ok := listedName(file)
	if !ok {
		return
	}
	plain, _, ok := partOf(name)
	if !ok {
		return
	}
	s := x.current.Load()
	f := s.listed(plain, held)
	if f == nil || !s.wants(f) {
		return
	}
	r, err := os.Open(filepath.Join(x.cfg.ListsDir, file))
	if err != nil {
		x.log.Warn("left out a file of apt's lists", "file", file, "error", err)
		return
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil || x.unusable(file, info) {
		return
	}
	if err := x.addPart(f, file, r); err != nil {
		x.log.Warn("left out a file of apt's lists", "file", file, "error", err)
		x.noteList(file, info, Digest{})
	}
}

// unusable tells whether a file of the lists could not be used, and has not changed since.
func (x *Index) unusable(file string, info os.FileInfo) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	known, ok := x.lists[file]
	return ok && known.same(info)
}

func (x *Index) noteList(file string, info os.FileInfo, root Digest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lists[file], x.dirty = listFile{info.Size(), info.ModTime(), root}, true
}

// listed finds a plain file in the generation that apt's lists hold.
func (s *snapshot) listed(name string, held map[string]Digest) *packed {
	for dir, root := range held {
		path, ok := strings.CutPrefix(name, dir+"/")
		p := s.places[dir]
		if !ok || p == nil || p.suite == nil {
			continue
		}
		for _, g := range p.suite.generations {
			if f := g.plain(path); f != nil && g.root == root {
				return f
			}
		}
	}
	return nil
}

// plain returns the plain file of a part, or nil.
func (g *generation) plain(path string) *packed {
	for _, p := range g.parts {
		if p.path == path {
			return p.plain
		}
	}
	return nil
}
