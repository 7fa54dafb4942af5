// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import "io"

// ReadPackages reads a Packages file and emits the Filename, Size and SHA256
// of each stanza. The paths are relative to the repository's base, which for a
// flat repository is the directory of its Release file.
func ReadPackages(r io.Reader, emit Emit) (Summary, error) {
	p := packages{deb822: newDeb822(r), out: sink{emit: emit}}
	p.reset()
	for {
		tok, err := p.next()
		if err == io.EOF {
			return p.out.Summary, nil
		}
		if err == nil {
			err = p.take(tok)
		}
		if err != nil {
			return p.out.Summary, err
		}
	}
}

// packages is the reader with the stanza that it is in.
type packages struct {
	*deb822
	out    sink
	path   []byte
	size   int64
	digest Digest
	hashed bool // digest is set
	ours   bool // the last field was one of ours
	bad    bool
}

func (p *packages) reset() {
	p.path, p.size = p.path[:0], -1
	p.hashed, p.ours, p.bad = false, false, false
}

func (p *packages) take(tok token) error {
	switch tok {
	case tokenField:
		return p.field()
	case tokenEnd:
		return p.end()
	case tokenMalformed:
		p.bad = true
	case tokenMore:
		// None of our fields may be folded (deb822(5), simple fields).
		p.bad = p.bad || p.ours
	}
	return nil
}

func (p *packages) field() error {
	p.ours = true
	switch {
	case p.is("Filename"):
		p.path = append(p.path[:0], p.value...)
	case p.is("Size"):
		var ok bool
		p.size, ok = parseSize(p.value)
		p.bad = p.bad || !ok
	case p.is("SHA256"):
		p.hashed = parseHex(p.digest[:], p.value)
	default:
		p.ours = false
		return nil
	}
	return p.whole()
}

func (p *packages) end() error {
	defer p.reset()
	if p.bad || !p.hashed {
		p.out.Skipped++
		return nil
	}
	return p.out.add(p.path, p.size, &p.digest)
}
