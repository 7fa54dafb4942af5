// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"bytes"
	"fmt"
	"io"
)

// token is what a line of deb822 text is.
type token int

const (
	tokenField     token = iota + 1 // "Name: value"
	tokenMore                       // a continuation of the field before: begins with a blank
	tokenMalformed                  // none of the others
	tokenEnd                        // the stanza is complete; comes once for each that had any line
)

// deb822 takes text apart into fields and stanzas.
type deb822 struct {
	lineReader
	name     []byte // of the field, as written; only after tokenField
	value    []byte // without blanks around it; after tokenField and tokenMore
	inStanza bool
	seen     bool // a field has been seen: this is deb822 text
}

func newDeb822(r io.Reader) *deb822 {
	return &deb822{lineReader: newLineReader(r)}
}

// next reads one line; name and value are valid until the next call. Text
// that does not begin with a field is an error: it is no deb822 (an HTML page,
// compressed data), and its rest is not worth reading.
func (d *deb822) next() (token, error) {
	for {
		line, err := d.lineReader.next()
		if err == io.EOF && d.inStanza {
			d.inStanza = false
			return tokenEnd, nil
		}
		if err != nil {
			return 0, err
		}
		if len(line) == 0 && d.inStanza {
			d.inStanza = false
			return tokenEnd, nil
		}
		if len(line) > 0 && line[0] != '#' {
			d.inStanza = true
			return d.classify(line)
		}
	}
}

func (d *deb822) classify(line []byte) (token, error) {
	name, value, found := bytes.Cut(line, []byte(":"))
	blank := line[0] == ' ' || line[0] == '\t'
	switch {
	case blank && d.seen:
		d.value = trimBlank(line)
		return tokenMore, nil
	case !blank && found && isFieldName(trimBlank(name)):
		d.name, d.value, d.seen = trimBlank(name), trimBlank(value), true
		return tokenField, nil
	case d.seen:
		return tokenMalformed, nil
	}
	return 0, fmt.Errorf("not a file of fields (deb822): line %d is %.40q", d.number, line)
}

// isFieldName follows Debian Policy section 5.1: printable ASCII without space
// and colon, not beginning with '#' or '-'.
func isFieldName(name []byte) bool {
	if len(name) == 0 || name[0] == '-' {
		return false
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// is tells whether the field's name is that one, in any case.
func (d *deb822) is(name string) bool {
	return len(d.name) == len(name) && bytes.EqualFold(d.name, []byte(name))
}
