// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"errors"
	"strings"
)

// stanza is one entry of a deb822-style file.
type stanza struct {
	line   int                 // of its first field
	fields map[string][]string // lines of the value, by the name in lower case
	err    error               // about its first malformed line
	errAt  int
}

// parseDeb822 reads stanzas of 'Field: value' lines, separated by empty lines.
func (p *parser) parseDeb822(path, text string) {
	var st stanza
	last := "" // the field that a continuation line belongs to
	for i, line := range strings.Split(text+"\n", "\n") {
		line = strings.TrimRight(line, "\r")
		switch {
		case strings.HasPrefix(line, "#"):
		case line != "":
			last = st.read(line, i+1, last)
		case !p.addStanza(path, st):
			return
		default:
			st, last = stanza{}, ""
		}
	}
}

// read adds a line and returns the field that the next one would continue. For apt a line of
// blanks alone continues a field, too.
func (st *stanza) read(line string, number int, last string) string {
	value := strings.TrimSpace(line)
	if line[0] == ' ' || line[0] == '\t' {
		if last != "" {
			st.fields[last] = append(st.fields[last], value)
			return last
		}
		if value == "" {
			return ""
		}
	}
	name, value, ok := strings.Cut(line, ":")
	name = strings.ToLower(strings.TrimRight(name, " \t"))
	if !ok || name == "" || strings.ContainsAny(name, " \t") {
		if st.err == nil {
			st.err, st.errAt = errors.New("not a 'Field: value' line"), number
		}
		return ""
	}
	if st.fields == nil {
		st.line, st.fields = number, make(map[string][]string)
	}
	st.fields[name] = []string{strings.TrimSpace(value)}
	return name
}

func (st *stanza) value(name string) string { return strings.Join(st.fields[name], "\n") }

func (st *stanza) words(name string) []string { return strings.Fields(st.value(name)) }

// addStanza adds all sources of a stanza or, if there is a mistake in it, none. False means that the
// rest of the file is not worth reading.
func (p *parser) addStanza(path string, st stanza) (goOn bool) {
	if st.err != nil {
		return p.fault(path, st.errAt, st.err)
	}
	if len(st.fields) == 0 || parseBool(st.value("enabled")) == "no" {
		return true
	}
	before := len(p.sources)
	err := p.addProduct(path, st)
	if err == nil {
		return true
	}
	p.sources = p.sources[:before]
	return p.fault(path, st.line, err)
}

// addProduct adds a source for every type, URI and suite of a stanza.
func (p *parser) addProduct(path string, st stanza) (err error) {
	types, uris, suites := st.words("types"), st.words("uris"), st.words("suites")
	switch n := len(types) * len(uris) * len(suites); {
	case n == 0:
		return errors.New("stanza needs Types, URIs and Suites")
	case n > maxSources:
		return errTooMany
	}
	s := Source{File: path, Line: st.line, Components: st.words("components"), Trusted: parseBool(st.value("trusted"))}
	if s.SignedBy, err = parseSignedBy(st.value("signed-by")); err != nil {
		return err
	}
	for _, s.Type = range types {
		for _, address := range uris {
			for _, s.Suite = range suites {
				if err := p.add(s, address); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
