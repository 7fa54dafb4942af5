// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"net/netip"
	"strings"
	"time"

	"apt-dht/index/parse"
)

// Kind is what a name stands for.
type Kind int

const (
	// KindUnknown is a name of which nothing is known.
	KindUnknown Kind = iota
	// KindRoot is InRelease, Release or Release.gpg: it has no hash, but signatures.
	KindRoot
	// KindIndex is a name whose hash changes with each generation: one that a Release lists, or SHA256SUMS.
	KindIndex
	// KindFile is a name that is tied to one hash: in a pool, by-hash, or a patch of an index.
	KindFile
)

func (k Kind) String() string {
	return [...]string{"unknown", "root", "index", "file"}[k]
}

// Entry is what is known of a name.
type Entry struct {
	Kind Kind
	// Digest is what the file must hash to. It is zero unless Kind is KindIndex or KindFile.
	Digest Digest
	// Size in bytes, -1 where unknown.
	Size int64
	// Trusted: a key that apt trusts signed for Digest.
	Trusted bool
	// Stale: Digest comes from an older list than the one that counts, which has not been parsed. Archives
	// should not change a file in their pool, but some do. So bytes kept under Digest should be given out only
	// if the mirror says that its file has not changed since (If-Modified-Since), and bytes from the
	// mirror that do not match are the file as it is now rather than an error.
	Stale bool
	// Parse: the file names others, which are not known yet; AddFile wants it.
	Parse bool
	// Base is the name of the repository that the file belongs to, "" where none is known.
	Base string
}

// Lookup tells what a name, as NameOf gives it, stands for when this client asks. It takes about a microsecond
// and neither allocates nor waits for disk or network, save for pages of the catalogues that the kernel has dropped.
func (x *Index) Lookup(name string, client netip.Addr) Entry {
	return x.current.Load().lookup(name, x.clients.holding(client))
}

func (s *snapshot) lookup(name string, held holding) Entry {
	if dir, _, ok := splitRoot(name); ok {
		base, _ := splitSuite(dir)
		return Entry{Kind: KindRoot, Size: -1, Base: base}
	}
	found := Entry{Size: -1}
	digest, byHash := byHashDigest(name)
	if byHash {
		found.Kind, found.Digest = KindFile, digest
	}
	for at := strings.LastIndexByte(name, '/'); at > 0; at = strings.LastIndexByte(name[:at], '/') {
		if at > s.longest {
			continue
		}
		p := s.places[name[:at]]
		if p == nil {
			continue
		}
		if e, ok := s.lookupIn(p, name, at, held); ok && (!byHash || e.Digest == digest) {
			return e
		}
		if found.Base == "" {
			found.Base = p.repository()
		}
	}
	return found
}

func (p *place) repository() string {
	if p.base != nil {
		return p.base.name
	}
	return p.suite.base
}

// lookupIn looks for name in the place whose directory is name[:at].
func (s *snapshot) lookupIn(p *place, name string, at int, held holding) (Entry, bool) {
	if p.suite != nil {
		if e, ok := s.inSuite(p.suite, name[at+1:], held); ok {
			return e, true
		}
	}
	if p.base == nil {
		return Entry{}, false
	}
	if e, ok := p.base.find(name[at+1:], held); ok || !p.base.flat {
		return e, ok
	}
	return p.base.findBelow(name, at, held)
}

// inSuite looks for a path relative to a suite's directory.
func (s *snapshot) inSuite(suite *suiteView, path string, held holding) (Entry, bool) {
	key := keyOf(path)
	view := held.of(suite)
	if view == nil {
		view = suite.generations[0]
	}
	if isByHash(path) {
		for _, g := range suite.generations {
			if e, ok := s.inRelease(g, key, KindFile); ok {
				e.Base = suite.base
				return e, true
			}
		}
	} else if e, ok := s.inRelease(view, key, KindIndex); ok {
		e.Base = suite.base
		return e, true
	}
	return inScopes(suite, view, path)
}

// inRelease looks for a path among those that a generation's Release lists.
func (s *snapshot) inRelease(g *generationView, key uint64, kind Kind) (e Entry, ok bool) {
	e = Entry{Kind: kind, Trusted: g.trusted}
	e.Size, e.Digest, ok = g.names.find(key)
	if !ok {
		return Entry{}, false
	}
	if f := g.files[e.Digest]; f != nil {
		f.part.use()
		e.Parse = s.wants(f)
	}
	return e, true
}

// use marks that clients want this list.
func (p *part) use() {
	if !p.asked.Load() {
		p.asked.Store(true)
	}
}

// inScopes looks for a path among the patches of all generations, and the other files of the one that counts.
func inScopes(suite *suiteView, view *generationView, path string) (Entry, bool) {
	if e, ok := view.inScopes(path, true); ok {
		e.Base = suite.base
		return e, true
	}
	for _, g := range suite.generations {
		if e, ok := g.inScopes(path, false); ok {
			e.Base = suite.base
			return e, true
		}
	}
	return Entry{}, false
}

func (v *generationView) inScopes(path string, all bool) (Entry, bool) {
	for i := range v.scopes {
		sc := &v.scopes[i]
		patches := sc.part.format == parse.FormatPdiffIndex
		if !strings.HasPrefix(path, sc.dir) || !patches && !all {
			continue
		}
		size, digest, ok := sc.find(keyOf(path[len(sc.dir):]))
		if !ok {
			continue
		}
		kind := KindIndex
		if patches {
			kind = KindFile
			sc.part.use()
		}
		return Entry{Kind: kind, Digest: digest, Size: size, Trusted: v.trusted}, true
	}
	return Entry{}, false
}

// find looks for a path relative to the base: first in the generations that the client holds, then by the
// base's own order.
func (b *baseView) find(path string, held holding) (Entry, bool) {
	key := keyOf(strings.TrimLeft(path, "/")) // some archives' Filename begins with a slash
	for _, suite := range b.suites {
		g := held.of(suite)
		if g == nil {
			continue
		}
		for _, c := range g.pool {
			if size, digest, ok := c.find(key); ok {
				return Entry{Kind: KindFile, Digest: digest, Size: size, Trusted: g.trusted, Base: b.name}, true
			}
		}
	}
	for i := range b.pool {
		src := &b.pool[i]
		if size, digest, ok := src.find(key); ok {
			stale := src.stale || src.current && held.older(src.suite)
			return Entry{Kind: KindFile, Digest: digest, Size: size, Trusted: src.trusted, Stale: stale, Base: b.name}, true
		}
	}
	return Entry{}, false
}

// findBelow looks for name[at+1:] of a flat repository whose Packages are relative to a directory
// above: "deb URL sub/" has "Filename: sub/x.deb".
func (b *baseView) findBelow(name string, at int, held holding) (Entry, bool) {
	const depth = 3 // segments of sub/
	for range depth {
		at = strings.LastIndexByte(name[:at], '/')
		if at < 0 {
			break
		}
		if e, ok := b.find(name[at+1:], held); ok {
			return e, true
		}
	}
	return Entry{}, false
}

// holding is which generations a client was given, in the last 15 minutes.
type holding struct {
	views []clientView
	now   time.Time
}

// of returns the generation of a suite that the client holds, or nil where none is known.
func (h holding) of(suite *suiteView) *generationView {
	for i := range h.views {
		v := &h.views[i]
		if v.dir != suite.dir || h.now.After(v.until) {
			continue
		}
		for _, g := range suite.generations {
			if g.root == v.root {
				return g
			}
		}
	}
	return nil
}

// older tells whether the client holds another generation than the newest.
func (h holding) older(suite *suiteView) bool {
	g := h.of(suite)
	return g != nil && g != suite.generations[0]
}
