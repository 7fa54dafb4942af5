// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"apt-dht/index/parse"
)

// ErrNotNamed is wrapped by AddFile's error about a file that no generation names with that hash.
var ErrNotNamed = errors.New("no Release names this file with that hash")

// retryAfter is how long a file that could not be parsed is left alone: it costs a second of CPU, and its
// bytes will not change.
const retryAfter = time.Hour

// AddFile reads an index file, whose bytes hash to digest, and from then on Lookup knows the files that it names.
// Where the same list was read already, in whatever compression, it returns at once. One file is read at a
// time; a second caller waits.
//
// The hash is tested once more, so nothing that its Release does not name is believed. The caller closes r.
func (x *Index) AddFile(name string, digest Digest, r io.Reader) error {
	f := x.current.Load().named(name, digest)
	if f == nil {
		return fmt.Errorf("%s: %w", name, ErrNotNamed)
	}
	source := &watchedReader{r: r}
	err := x.addPart(f, f.path, source)
	if err == nil {
		return nil
	}
	if source.err == nil {
		x.leave(f.id())
	}
	return fmt.Errorf("%s: %w", name, err)
}

// named finds the file to parse with that name and hash.
func (s *snapshot) named(name string, digest Digest) *packed {
	for at := strings.LastIndexByte(name, '/'); at > 0; at = strings.LastIndexByte(name[:at], '/') {
		p := s.places[name[:at]]
		if p == nil || p.suite == nil {
			continue
		}
		for _, g := range p.suite.generations {
			if f := g.files[digest]; f != nil {
				return f
			}
		}
	}
	return nil
}

// addPart reads f's part from r, which is compressed as the extension of file tells.
func (x *Index) addPart(f *packed, file string, r io.Reader) error {
	x.parsing.Lock()
	defer x.parsing.Unlock()
	if !x.current.Load().wants(f) {
		return nil
	}
	list, err := readPart(f, file, r)
	if err != nil {
		return err
	}
	return x.addCatalogue(f.id(), list)
}

// leave lets a file alone for a while that could not be parsed.
func (x *Index) leave(id contentID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.failed[id] = time.Now().Add(retryAfter)
	x.publishLocked()
}

// addCatalogue keeps sorted rows and shows them to lookups.
func (x *Index) addCatalogue(id contentID, list [][rowSize]byte) error {
	x.disk.Lock()
	defer x.disk.Unlock()
	if err := writeCatalogue(x.cfg.Dir, id, list); err != nil {
		return fmt.Errorf("keeping the catalogue: %w", err)
	}
	c, err := openCatalogue(x.cfg.Dir, id)
	if err != nil {
		return fmt.Errorf("using the catalogue just written: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.catalogues[id] = c
	x.publishLocked()
	return nil
}

// watchedReader remembers that its source failed, which is not the content's fault.
type watchedReader struct {
	r   io.Reader
	err error
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// readPart returns what the file names, in order. The bytes must hash to the part's ID, so those of
// the plain file are hashed where its Release tells that, else r's.
func readPart(f *packed, file string, r io.Reader) ([][rowSize]byte, error) {
	hash := sha256.New()
	compressed := r
	if f.part.plain == nil {
		compressed = io.TeeReader(r, hash)
	}
	plain, err := parse.Decompress(file, compressed)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	text := io.Reader(plain)
	if f.part.plain != nil {
		text = io.TeeReader(plain, hash)
	}
	b := newRowBuilder(f.part)
	if _, err := readers[f.part.format](text, b.add); err != nil {
		return nil, fmt.Errorf("reading the %s: %w", formatNames[f.part.format], err)
	}
	if _, err := io.Copy(io.Discard, compressed); err != nil {
		return nil, err
	}
	if id := f.id(); Digest(hash.Sum(nil)) != id.digest {
		return nil, fmt.Errorf("its content hashes to %x instead of %x", hash.Sum(nil), id.digest)
	}
	return b.sorted(), nil
}

var readers = map[parse.Format]func(io.Reader, parse.Emit) (parse.Summary, error){
	parse.FormatPackages:   parse.ReadPackages,
	parse.FormatSources:    parse.ReadSources,
	parse.FormatPdiffIndex: parse.ReadPdiffIndex,
	parse.FormatSHA256SUMS: parse.ReadSHA256SUMS,
}

// newRowBuilder makes room for what a list of that size names: fewer copies, less garbage.
func newRowBuilder(p *part) *rowBuilder {
	const bytesPerEntry = 700 // Packages of Debian: 790; Sources: 400
	b := &rowBuilder{byHash: p.format == parse.FormatPdiffIndex}
	if p.plain != nil {
		b.list = make([][rowSize]byte, 0, min(p.plain.size/bytesPerEntry, maxRows))
	}
	return b
}
