// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// maxReleaseFiles is some sixty times what sid's Release lists.
	maxReleaseFiles = 1 << 16

	// maxText bounds a text field such as Architectures, in bytes.
	maxText = 16 << 10
)

// Release is what a Release file says of its suite. Fields that are absent are
// zero.
type Release struct {
	Origin, Label, Suite, Codename, Version string

	// Date is when it was made, ValidUntil when it must no longer be used.
	// Zero: not said, or not in a form that can be read.
	Date, ValidUntil time.Time

	// AcquireByHash says that the files are also at by-hash/SHA256/<hex>.
	AcquireByHash bool

	Architectures, Components []string

	// Files are in the order in which they were first named.
	Files []ReleaseFile

	// Skipped counts lines that name no usable file: a bad hash, size or path.
	Skipped int
}

// ReleaseFile is an index file that a Release names. A hash that the Release
// does not give is nil.
type ReleaseFile struct {
	Path   string // relative to the directory of the Release
	Size   int64  // in bytes
	MD5    []byte
	SHA1   []byte
	SHA256 []byte
	SHA512 []byte
}

// ReadRelease reads the first stanza of a Release file, or the signed text of
// an InRelease without its armour. The same path in several checksum sections
// makes one file; where they contradict each other the later line counts. A
// Release without any checksum section is an error, as it is for apt.
func ReadRelease(r io.Reader) (*Release, error) {
	p := releaseReader{deb822: newDeb822(r), byPath: make(map[string]int)}
	for {
		tok, err := p.next()
		if err == io.EOF || err == nil && tok == tokenEnd {
			return p.finish()
		}
		if err == nil {
			err = p.take(tok)
		}
		if err != nil {
			return nil, fmt.Errorf("reading Release: %w", err)
		}
	}
}

// releaseReader is the reader with the field that it is in: at most one of
// text and section is set.
type releaseReader struct {
	*deb822
	rel     Release
	raw     rawFields
	byPath  map[string]int // into rel.Files
	text    *string
	section *section
	listed  bool // a checksum section has been seen
}

// rawFields are those that finish decodes.
type rawFields struct{ date, validUntil, byHash, architectures, components string }

// section is one kind of checksum list.
type section struct {
	size int // of the hash, in bytes
	hash func(*ReleaseFile) *[]byte
}

// sections are keyed by the field, in lower case.
var sections = map[string]*section{
	"md5sum": {md5.Size, func(f *ReleaseFile) *[]byte { return &f.MD5 }},
	"sha1":   {sha1.Size, func(f *ReleaseFile) *[]byte { return &f.SHA1 }},
	"sha256": {sha256.Size, func(f *ReleaseFile) *[]byte { return &f.SHA256 }},
	"sha512": {sha512.Size, func(f *ReleaseFile) *[]byte { return &f.SHA512 }},
}

// textField returns where the field of that name, in lower case, is kept, or nil.
func (p *releaseReader) textField(name string) *string {
	switch name {
	case "origin":
		return &p.rel.Origin
	case "label":
		return &p.rel.Label
	case "suite":
		return &p.rel.Suite
	case "codename":
		return &p.rel.Codename
	case "version":
		return &p.rel.Version
	case "date":
		return &p.raw.date
	case "valid-until":
		return &p.raw.validUntil
	case "acquire-by-hash":
		return &p.raw.byHash
	case "architectures":
		return &p.raw.architectures
	case "components":
		return &p.raw.components
	}
	return nil
}

func (p *releaseReader) take(tok token) error {
	switch tok {
	case tokenField:
		name := string(bytes.ToLower(p.name))
		p.text, p.section = p.textField(name), sections[name]
		p.listed = p.listed || p.section != nil
		if p.text != nil {
			*p.text = ""
		}
		return p.takeValue()
	case tokenMore:
		return p.takeValue()
	}
	p.rel.Skipped++
	return nil
}

// takeValue uses one line of the field that the reader is in.
func (p *releaseReader) takeValue() error {
	if p.text == nil && p.section == nil || len(p.value) == 0 {
		return nil
	}
	if err := p.whole(); err != nil {
		return err
	}
	if p.section != nil {
		return p.addFile()
	}
	if len(*p.text)+len(p.value) > maxText {
		return fmt.Errorf("line %d makes a field longer than %d bytes", p.number, maxText)
	}
	*p.text = strings.TrimSpace(*p.text + " " + string(p.value))
	return nil
}

// addFile merges the checksum line that has been read.
func (p *releaseReader) addFile() error {
	hash := make([]byte, p.section.size)
	path, size, ok := parseSum(p.value, hash)
	if ok {
		path, ok = cleanPath(path)
	}
	if !ok {
		p.rel.Skipped++
		return nil
	}
	i, known := p.byPath[string(path)]
	if !known {
		if len(p.rel.Files) == maxReleaseFiles {
			return fmt.Errorf("it names more than %d files", maxReleaseFiles)
		}
		i = len(p.rel.Files)
		p.rel.Files = append(p.rel.Files, ReleaseFile{Path: string(path)})
		p.byPath[p.rel.Files[i].Path] = i
	}
	f := &p.rel.Files[i]
	f.Size, *p.section.hash(f) = size, hash
	return nil
}

func (p *releaseReader) finish() (*Release, error) {
	if !p.listed {
		return nil, errors.New("reading Release: it has no list of checksums (MD5Sum, SHA1, SHA256 or SHA512)")
	}
	p.rel.Date = parseDate(p.raw.date)
	p.rel.ValidUntil = parseDate(p.raw.validUntil)
	p.rel.AcquireByHash = isTrue(p.raw.byHash)
	p.rel.Architectures = strings.Fields(p.raw.architectures)
	p.rel.Components = strings.Fields(p.raw.components)
	return &p.rel, nil
}

// isTrue knows apt's words for yes (apt.conf(5)).
func isTrue(word string) bool {
	switch strings.ToLower(word) {
	case "yes", "true", "with", "on", "enable", "1":
		return true
	}
	return false
}
