// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"apt-dht/index/parse"
	"apt-dht/index/trust"
)

// snapshot is what lookups see. It is never changed: publishLocked makes another.
type snapshot struct {
	places     map[string]*place // by directory
	longest    int               // directory
	catalogues map[contentID]*catalogue
	failed     map[contentID]time.Time // content that could not be parsed, and when to try again
	origins    int
	files      int
}

// place is a directory that names can be relative to: a suite's, a base, or (in a flat repository) both.
type place struct {
	suite *suiteView
	base  *baseView
}

// suiteView is a suite with its generations, the newest first.
type suiteView struct {
	dir, base   string
	generations []*generationView
}

// generationView is a generation with what has been parsed of it.
type generationView struct {
	*generation // its guarded fields must not be used
	trusted     bool
	pool        []*catalogue // paths relative to the base
	scopes      []scope
	missing     []*part // Packages and Sources
}

// scope is a catalogue of paths relative to a directory.
type scope struct {
	*catalogue
	dir  string // relative to the root's, with a slash at its end
	part *part
}

// baseView is a repository: all suites above one pool, in the order of preference.
type baseView struct {
	name   string
	flat   bool
	above  bool // the directory above a flat repository, to which that one's Filenames may be relative
	suites []*suiteView
	pool   []poolSource
}

// poolSource is a catalogue in the order of preference: first those of the newest generations.
type poolSource struct {
	*catalogue
	suite   *suiteView
	current bool // of the newest generation of its suite
	trusted bool
	stale   bool // the newest generation has another version of this list, which has not been parsed
}

// publishLocked shows the present state to lookups.
func (x *Index) publishLocked() {
	s := &snapshot{
		places:     make(map[string]*place),
		catalogues: make(map[contentID]*catalogue, len(x.catalogues)),
		failed:     make(map[contentID]time.Time, len(x.failed)),
	}
	for id, c := range x.catalogues {
		s.catalogues[id] = c
		s.files += c.table.len()
	}
	for id, until := range x.failed {
		s.failed[id] = until
	}
	for _, st := range x.suites {
		s.addSuite(st)
	}
	s.addParents()
	for dir, p := range s.places {
		s.longest = max(s.longest, len(dir))
		if p.base != nil {
			if !p.base.above {
				s.origins++
			}
			p.base.arrange(s)
		}
	}
	x.current.Store(s)
}

func (s *snapshot) place(dir string) *place {
	p := s.places[dir]
	if p == nil {
		p = &place{}
		s.places[dir] = p
	}
	return p
}

func (s *snapshot) addSuite(st *suite) {
	view := &suiteView{dir: st.dir, base: st.base}
	for _, g := range st.generations {
		view.generations = append(view.generations, s.view(g))
	}
	s.files += st.generations[0].release.files
	s.place(st.dir).suite = view
	p := s.place(st.base)
	if p.base == nil {
		p.base = &baseView{name: st.base}
	}
	p.base.flat = p.base.flat || st.base == st.dir
	p.base.suites = append(p.base.suites, view)
}

// addParents makes bases of the directories above flat repositories: of "deb URL sub/" the Release is in URL/sub,
// but apt takes each Filename relative to URL.
func (s *snapshot) addParents() {
	for _, p := range slices.Collect(maps.Values(s.places)) {
		if p.base == nil || !p.base.flat {
			continue
		}
		const depth = 2 // segments of sub/
		dir := p.base.name
		for range depth {
			at := strings.LastIndexByte(dir, '/')
			if at < 0 {
				break
			}
			dir = dir[:at]
			s.addParent(dir, p.base.suites)
		}
	}
}

func (s *snapshot) addParent(dir string, suites []*suiteView) {
	p := s.place(dir)
	if p.base == nil {
		p.base = &baseView{name: dir, above: true}
	}
	if p.base.above {
		p.base.suites = append(p.base.suites, suites...)
	}
}

func (s *snapshot) view(g *generation) *generationView {
	v := &generationView{generation: g, trusted: g.verdict == trust.Verified}
	for _, p := range g.parts {
		c := s.catalogueOf(p)
		pooled := p.format == parse.FormatPackages || p.format == parse.FormatSources
		switch {
		case pooled && c == nil:
			v.missing = append(v.missing, p)
		case pooled && !slices.Contains(v.pool, c):
			v.pool = append(v.pool, c)
		case !pooled && c != nil:
			dir, _ := path.Split(p.path)
			v.scopes = append(v.scopes, scope{c, dir, p})
		}
	}
	return v
}

// catalogueOf returns what has been parsed of a part, or nil.
func (s *snapshot) catalogueOf(p *part) *catalogue {
	for _, f := range p.packed {
		if c := s.catalogues[f.id()]; c != nil {
			return c
		}
	}
	return nil
}

// wants tells whether the part that f is of should be parsed.
func (s *snapshot) wants(f *packed) bool {
	if s.catalogueOf(f.part) != nil {
		return false
	}
	until, failed := s.failed[f.id()]
	return !failed || time.Now().After(until)
}

// arrange orders the suites (the trusted before others, since an untrusted Date is anybody's word, then the
// newest first) and what has been parsed of them.
func (b *baseView) arrange(s *snapshot) {
	slices.SortFunc(b.suites, func(x, y *suiteView) int {
		newX, newY := x.generations[0], y.generations[0]
		if newX.trusted != newY.trusted {
			return map[bool]int{true: -1, false: 1}[newX.trusted]
		}
		return cmp.Or(newY.release.date.Compare(newX.release.date), cmp.Compare(x.dir, y.dir))
	})
	at, depths := make(map[*catalogue]int), 0
	for _, suite := range b.suites {
		depths = max(depths, len(suite.generations))
	}
	for depth := range depths {
		for _, suite := range b.suites {
			if depth < len(suite.generations) {
				b.addPool(s, suite, depth, at)
			}
		}
	}
}

// addPool appends the catalogues of one generation; at knows where those stand that have been met before.
func (b *baseView) addPool(s *snapshot, suite *suiteView, depth int, at map[*catalogue]int) {
	g := suite.generations[depth]
	for _, p := range g.parts {
		c := s.catalogueOf(p)
		if c == nil || p.format != parse.FormatPackages && p.format != parse.FormatSources {
			continue
		}
		if i, met := at[c]; met {
			b.pool[i].trusted = b.pool[i].trusted || g.trusted
			continue
		}
		at[c] = len(b.pool)
		stale := depth > 0 && suite.generations[0].lacks(p.path)
		b.pool = append(b.pool, poolSource{c, suite, depth == 0, g.trusted, stale})
	}
}

func (v *generationView) lacks(path string) bool {
	return slices.ContainsFunc(v.missing, func(p *part) bool { return p.path == path })
}
