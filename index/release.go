// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"apt-dht/index/parse"
	"apt-dht/index/trust"
)

// generation is what one root file says. All but the fields named as guarded stays as it was made.
type generation struct {
	dir      string // of the root file
	file     string // InRelease or Release
	root     Digest // of the root file's bytes
	text     Digest // of its signed text, which is kept in a file of that name
	textSize int64
	release  summary
	names    table              // every file named and its by-hash aliases, relative to dir
	parts    []*part            // the files to parse
	files    map[Digest]*packed // parts' files, by hash

	// The following are guarded by Index.mu.
	verdict trust.Verdict
	arrived uint64         // counts up: the order in which root files came from their mirrors
	used    time.Time      // last added or given to a client
	handed  map[*part]bool // what Wanted has told
}

// summary is what is kept of a parse.Release beside its files.
type summary struct {
	suite, codename  string
	date, validUntil time.Time
	byHash           bool
	files            int
}

// part is a file that names other files, whatever its compression.
type part struct {
	path   string // relative to the root's directory, without the extension of a compression
	format parse.Format
	packed []*packed
	plain  *packed // the one without compression, which Releases name even where no mirror has it; may be nil

	// asked says that a client used this list or its patches. All generations of the suite share it.
	asked *atomic.Bool
}

// packed is one compression of a part, or the plain file.
type packed struct {
	part   *part
	path   string // relative to the root's directory
	size   int64
	digest Digest
}

// newGeneration reads the signed text of a root file.
func newGeneration(dir, file string, root Digest, text []byte) (*generation, error) {
	rel, err := parse.ReadRelease(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	g := &generation{
		dir: dir, file: file, root: root, text: sha256.Sum256(text), textSize: int64(len(text)),
		release: summary{rel.Suite, rel.Codename, rel.Date, rel.ValidUntil, rel.AcquireByHash, len(rel.Files)},
		files:   make(map[Digest]*packed),
		handed:  make(map[*part]bool),
	}
	g.addNames(rel.Files)
	g.addParts(rel.Files)
	return g, nil
}

// addNames fills the table of names. A file without SHA-256 is left out: nothing that we know proves its bytes.
// parse bounds the files so that all rows fit.
func (g *generation) addNames(files []parse.ReleaseFile) {
	var b rowBuilder
	for i := range files {
		f := &files[i]
		if f.SHA256 == nil || isByHash(f.Path) {
			continue // the latter: a by-hash path is its hash and nothing else, whatever a Release says
		}
		digest := Digest(f.SHA256)
		b.add([]byte(f.Path), f.Size, digest)
		dir, _ := path.Split(f.Path)
		for _, alias := range []struct {
			strength string
			sum      []byte
		}{{"MD5Sum", f.MD5}, {"SHA1", f.SHA1}, {"SHA256", f.SHA256}, {"SHA512", f.SHA512}} {
			if alias.sum != nil {
				b.add([]byte(dir+"by-hash/"+alias.strength+"/"+hex.EncodeToString(alias.sum)), f.Size, digest)
			}
		}
	}
	g.names = b.table()
}

func (g *generation) addParts(files []parse.ReleaseFile) {
	byPath := make(map[string]*part)
	for i := range files {
		f := &files[i]
		plain, format, ok := partOf(f.Path)
		if !ok || f.SHA256 == nil {
			continue
		}
		p := byPath[plain]
		if p == nil {
			p = &part{path: plain, format: format}
			byPath[plain] = p
			g.parts = append(g.parts, p)
		}
		p.add(f)
	}
	g.parts = slices.DeleteFunc(g.parts, func(p *part) bool { return p.plain != nil && p.plain.size == 0 })
	for _, p := range g.parts {
		for _, f := range p.packed {
			g.files[f.digest] = f
		}
	}
}

func (p *part) add(f *parse.ReleaseFile) {
	file := &packed{part: p, path: f.Path, size: f.Size, digest: Digest(f.SHA256)}
	p.packed = append(p.packed, file)
	if f.Path == p.path {
		p.plain = file
	}
}

// id is the content's name: the hash of the plain file, whatever its compression, or else f's own.
func (f *packed) id() contentID {
	if f.part.plain != nil {
		return contentID{f.part.plain.digest, f.part.format}
	}
	return contentID{f.digest, f.part.format}
}

// partOf takes the extension of a compression off the path of a file that can be parsed for the names of others.
func partOf(file string) (plain string, format parse.Format, ok bool) {
	format, ok = parse.FormatOf(file)
	if !ok || formatNames[format] == "" {
		return "", 0, false
	}
	plain = strings.TrimSuffix(file, path.Ext(file))
	if f, ok := parse.FormatOf(plain); ok && f == format {
		return plain, format, true
	}
	return file, format, true
}

// askedPath is the path under which a part's mark is kept: a list and its patches share one.
func askedPath(plain string) string {
	return strings.TrimSuffix(plain, ".diff/Index")
}

// name returns the name under which a file of this generation is fetched.
func (g *generation) name(f *packed) string {
	if !g.release.byHash {
		return g.dir + "/" + f.path
	}
	dir, _ := path.Split(f.path)
	return g.dir + "/" + dir + "by-hash/SHA256/" + hex.EncodeToString(f.digest[:])
}
