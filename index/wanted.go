// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"slices"
	"strings"

	"apt-dht/index/trust"
)

// Ref is a file to fetch.
type Ref struct {
	Name   string // by-hash where the archive offers that
	Digest Digest
	Size   int64 // bytes
}

// Wanted returns the lists to fetch and give to AddFile because a client asks for name: the list that a pdiff Index or
// patch brings up to date (such a client never fetches the list itself), or, for a name in the pool of a known repository,
// those that any client used and nobody has read. Each is returned once per generation.
func (x *Index) Wanted(name string) []Ref {
	s := x.current.Load()
	for at := strings.LastIndexByte(name, '/'); at > 0; at = strings.LastIndexByte(name[:at], '/') {
		p := s.places[name[:at]]
		switch {
		case p == nil:
		case p.suite != nil && strings.Contains(name[at:], ".diff/"):
			list, _, _ := strings.Cut(name[at+1:], ".diff/")
			return x.handOut(p.suite, func(p *part) bool { return p.path == list })
		case p.base != nil:
			return x.wantedOf(p.base)
		}
	}
	return nil
}

func (x *Index) wantedOf(b *baseView) (refs []Ref) {
	for _, suite := range b.suites {
		refs = append(refs, x.handOut(suite, func(p *part) bool { return p.asked.Load() })...)
	}
	return refs
}

// handOut returns what is missing of a suite's newest generation and was not handed out yet.
func (x *Index) handOut(suite *suiteView, want func(*part) bool) (refs []Ref) {
	g := suite.generations[0]
	for _, p := range g.missing {
		if want(p) && x.firstTime(g.generation, p) {
			f := p.best()
			refs = append(refs, Ref{g.name(f), f.digest, f.size})
		}
	}
	return refs
}

func (x *Index) firstTime(g *generation, p *part) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if g.handed[p] {
		return false
	}
	g.handed[p] = true
	return true
}

// best returns the smallest file: fetching costs more than unpacking.
func (p *part) best() *packed {
	return slices.MinFunc(p.packed, func(a, b *packed) int { return int(a.size - b.size) })
}

// Mirrors returns the other names under which the same file is to be had: those of repositories that, like
// name's own, are in this machine's sources, by http and without credentials, and whose current root of
// the same suite has the same bytes. Anybody can replay a root file, hence the sources.
func (x *Index) Mirrors(name string) (names []string) {
	s := x.current.Load()
	bases := sourceBases(x.trust.Load().Sources())
	base := s.baseOf(name)
	if base == nil || !slices.Contains(bases, base.name) {
		return nil
	}
	rest := name[len(base.name):]
	for _, other := range bases {
		if other != base.name && s.sameRoot(base, other, rest) {
			names = append(names, other+rest)
		}
	}
	return names
}

func sourceBases(sources []trust.Source) (bases []string) {
	for _, src := range sources {
		base := src.Base()
		if strings.HasPrefix(src.URI, "http://") && !src.Credentials && !slices.Contains(bases, base) {
			bases = append(bases, base)
		}
	}
	return bases
}

// baseOf returns the repository that a name is in, or nil.
func (s *snapshot) baseOf(name string) *baseView {
	for at := strings.LastIndexByte(name, '/'); at > 0; at = strings.LastIndexByte(name[:at], '/') {
		if p := s.places[name[:at]]; p != nil && p.base != nil {
			return p.base
		}
	}
	return nil
}

// sameRoot tells whether a suite that rest can belong to has the same root at both bases.
func (s *snapshot) sameRoot(base *baseView, other, rest string) bool {
	for _, suite := range base.suites {
		dir := strings.TrimPrefix(suite.dir, base.name)
		if strings.HasPrefix(rest, "/dists/") && !strings.HasPrefix(rest, dir+"/") {
			continue
		}
		twin := s.places[other+dir]
		if twin != nil && twin.suite != nil && twin.suite.generations[0].root == suite.generations[0].root {
			return true
		}
	}
	return false
}
