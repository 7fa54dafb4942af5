// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"apt-dht/index/trust"
)

// Digest is a SHA-256.
type Digest = [sha256.Size]byte

// Config says where the index keeps and finds what it knows.
type Config struct {
	// Dir is where the index keeps its files; it is made if missing, and belongs to one process alone. Required.
	Dir string
	// ListsDir is apt's lists directory, commonly /var/lib/apt/lists. "" means not to read any.
	ListsDir string
	// Trust judges signatures. Required.
	Trust *trust.Trust
	// Log gets what an operator may want to know. nil discards.
	Log *slog.Logger
}

// Index knows which SHA-256 the files of repositories must have. It may be used from many goroutines.
type Index struct {
	cfg     Config
	log     *slog.Logger
	trust   atomic.Pointer[trust.Trust]
	current atomic.Pointer[snapshot]
	clients clients

	// parsing is held while a file is parsed: one at a time bounds the memory that it takes.
	parsing sync.Mutex

	// disk is held while Dir changes, and taken before mu. Lookups need neither.
	disk sync.Mutex

	mu         sync.Mutex // guards following
	suites     map[string]*suite
	catalogues map[contentID]*catalogue
	failed     map[contentID]time.Time // content that could not be parsed, and when to try again
	signatures map[string][]byte       // Release.gpg that match no Release so far, by suite
	lists      map[string]listFile     // apt's files as they were last read, by file name
	arrivals   uint64
	dirty      bool // there is something to save
}

// Open loads what an earlier Index kept in Dir. Files there that are damaged are removed, and are then wanted
// again. The Index has no goroutine but its callers', and needs no closing.
func Open(cfg Config) (*Index, error) {
	if cfg.Trust == nil {
		return nil, errors.New("index: Config.Trust is required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("index: making the directory for catalogues: %w", err)
	}
	x := &Index{
		cfg:        cfg,
		log:        cfg.Log,
		suites:     make(map[string]*suite),
		catalogues: make(map[contentID]*catalogue),
		failed:     make(map[contentID]time.Time),
		signatures: make(map[string][]byte),
		lists:      make(map[string]listFile),
	}
	x.trust.Store(cfg.Trust)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.loadLocked(); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	x.publishLocked()
	return x, nil
}

// SetTrust replaces the sources and keys, for roots that come from now on.
func (x *Index) SetTrust(t *trust.Trust) { x.trust.Store(t) }

// GaveRoot notes that a client was given the root file of that name and hash, by an answer of 200 or 304: for
// the next 15 minutes its questions are answered from that generation.
func (x *Index) GaveRoot(name string, digest Digest, client netip.Addr) {
	dir, file, ok := splitRoot(name)
	if !ok || file == "Release.gpg" {
		return
	}
	if x.useGeneration(dir, digest) {
		x.clients.gave(dir, digest, client)
	}
}

// useGeneration marks that a generation is in use, and tells whether there is such.
func (x *Index) useGeneration(dir string, root Digest) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	st := x.suites[dir]
	if st == nil {
		return false
	}
	g := st.byRoot(root)
	if g == nil {
		return false
	}
	g.used, x.dirty = time.Now(), true
	return true
}

// InUse yields the hash of every file that a kept generation names, roots included; some come several times.
// It reads all catalogues, so it is meant for an eviction's start rather than for each file.
func (x *Index) InUse(yield func(Digest) bool) {
	s := x.current.Load()
	for _, p := range s.places {
		if p.suite != nil && !p.suite.each(yield) {
			return
		}
	}
	for _, c := range s.catalogues {
		if !c.each(yield) {
			return
		}
	}
}

// Bases returns the repositories of which a kept generation names a file of that hash. Like InUse it reads all
// catalogues: it is for somebody who asks, not for each file.
func (x *Index) Bases(d Digest) []string {
	s := x.current.Load()
	names := make(map[string]bool)
	has := make(map[*catalogue]bool)
	other := func(e Digest) bool { return e != d }
	for _, p := range s.places {
		if p.suite != nil && !p.suite.each(other) {
			names[p.suite.base] = true
		}
		if p.base == nil || names[p.base.name] {
			continue
		}
		for _, src := range p.base.pool {
			found, known := has[src.catalogue]
			if !known {
				found = !src.each(other)
				has[src.catalogue] = found
			}
			if found {
				names[p.base.name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func (v *suiteView) each(yield func(Digest) bool) (more bool) {
	for _, g := range v.generations {
		if !yield(g.root) {
			return false
		}
		for i := range g.names.len() {
			if _, digest := g.names.at(i); !yield(digest) {
				return false
			}
		}
	}
	return true
}

// Stats counts the repositories known, and the names whose hash is known.
func (x *Index) Stats() (origins, files int) {
	s := x.current.Load()
	return s.origins, s.files
}

// HasRoot tells whether the root file of that name and hash is held as a generation.
func (x *Index) HasRoot(name string, digest Digest) bool {
	dir, _, ok := splitRoot(name)
	if !ok {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	st := x.suites[dir]
	return st != nil && st.byRoot(digest) != nil
}
