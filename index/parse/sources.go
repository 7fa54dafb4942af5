// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import "io"

// A stanza's files are kept until its end, since its Directory may come last.
// The largest source package of bookworm has 292.
const (
	maxStanzaFiles = 10_000
	maxStanzaNames = 1 << 20 // bytes
)

// ReadSources reads a Sources file and emits each file of each stanza, as
// Checksums-Sha256 has it. The paths are relative to the repository's base; a
// stanza of a flat repository may have no Directory, or ".".
func ReadSources(r io.Reader, emit Emit) (Summary, error) {
	s := sources{deb822: newDeb822(r), out: sink{emit: emit}}
	for {
		tok, err := s.next()
		if err == io.EOF {
			return s.out.Summary, nil
		}
		if err == nil {
			err = s.take(tok)
		}
		if err != nil {
			return s.out.Summary, err
		}
	}
}

// sources is the reader with the stanza that it is in.
type sources struct {
	*deb822
	out       sink
	dir       []byte
	names     []byte // of files, end to end
	files     []sourceFile
	path      []byte // scratch
	inSums    bool   // in Checksums-Sha256
	inDir     bool   // in Directory
	malformed bool
}

type sourceFile struct {
	nameEnd int // in sources.names
	size    int64
	digest  Digest
}

func (s *sources) reset() {
	s.dir, s.names, s.files = s.dir[:0], s.names[:0], s.files[:0]
	s.inSums, s.inDir, s.malformed = false, false, false
}

func (s *sources) take(tok token) error {
	switch tok {
	case tokenField:
		return s.field()
	case tokenMore:
		return s.more()
	case tokenEnd:
		return s.end()
	case tokenMalformed:
		s.malformed = true
	}
	return nil
}

func (s *sources) field() error {
	s.inDir, s.inSums = s.is("Directory"), s.is("Checksums-Sha256")
	switch {
	case s.inDir:
		s.dir = append(s.dir[:0], s.value...)
		return s.whole()
	case s.inSums && len(s.value) > 0:
		return s.more()
	}
	return nil
}

func (s *sources) more() error {
	// Directory may not be folded (deb822(5), simple fields).
	s.malformed = s.malformed || s.inDir
	if !s.inSums {
		return nil
	}
	var f sourceFile
	name, size, ok := parseSum(s.value, f.digest[:])
	switch {
	case !ok:
		s.out.Skipped++
	case len(s.files) == maxStanzaFiles || len(s.names)+len(name) > maxStanzaNames:
		s.malformed = true
	default:
		s.names = append(s.names, name...)
		f.nameEnd, f.size = len(s.names), size
		s.files = append(s.files, f)
	}
	return s.whole()
}

func (s *sources) end() error {
	defer s.reset()
	if s.malformed || len(s.files) == 0 {
		s.out.Skipped++
		return nil
	}
	if n := len(s.dir); n > 0 && s.dir[n-1] != '/' {
		s.dir = append(s.dir, '/')
	}
	begin := 0
	for i := range s.files {
		f := &s.files[i]
		s.path = append(append(s.path[:0], s.dir...), s.names[begin:f.nameEnd]...)
		begin = f.nameEnd
		if err := s.out.add(s.path, f.size, &f.digest); err != nil {
			return err
		}
	}
	return nil
}
