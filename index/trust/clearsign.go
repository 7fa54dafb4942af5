// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

const (
	// MaxRelease is the largest InRelease, Release or Release.gpg in bytes. Debian's, the largest
	// known, has under 300 kB.
	MaxRelease = 16 << 20

	beginMessage   = "-----BEGIN PGP SIGNED MESSAGE-----"
	beginSignature = "-----BEGIN PGP SIGNATURE-----"
	endSignature   = "-----END PGP SIGNATURE-----"
)

// ErrShape is wrapped by every error about a body that is not what it should be, whoever signed it.
var ErrShape = errors.New("wrong shape")

func shapeError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrShape, fmt.Sprintf(format, args...))
}

// lines walks through a text. Each line loses its line ending and then the blanks before it, as
// RFC 9580 section 7.2 says and as apt's LineBuffer does it.
type lines struct {
	rest []byte
}

func (l *lines) next() (line []byte, ok bool) {
	if len(l.rest) == 0 {
		return nil, false
	}
	line, l.rest, _ = bytes.Cut(l.rest, []byte{'\n'})
	return bytes.TrimRight(bytes.TrimRight(line, "\r\n"), " \t"), true
}

// splitClearsigned takes a clearsigned text apart, by the rules of apt's SplitClearSignedFile: the
// message comes first, its lines that begin with a dash are escaped, and behind it stands
// nothing but signatures. Only plain is covered by them; the Hash header lines are not.
func splitClearsigned(body []byte) (plain, signatures []byte, err error) {
	if len(body) > MaxRelease {
		return nil, nil, shapeError("more than %d bytes", MaxRelease)
	}
	text := &lines{body}
	if first, _ := text.next(); string(first) != beginMessage {
		return nil, nil, shapeError("not a clearsigned file but %s", describe(body))
	}
	if err := skipHeaders(text); err != nil {
		return nil, nil, err
	}
	if plain, err = readMessage(text, len(body)); err != nil {
		return nil, nil, err
	}
	signatures = append([]byte(beginSignature+"\n"), text.rest...)
	return plain, signatures, checkSignatureLines(signatures)
}

func skipHeaders(text *lines) error {
	for {
		line, ok := text.next()
		switch {
		case !ok:
			return errTruncated
		case len(line) == 0:
			return nil
		case line[0] == '-':
			return shapeError("a line that begins with a dash among the headers")
		}
	}
}

var errTruncated = shapeError("the end is missing: was the download cut short?")

// readMessage reads up to the first signature. The newline before that belongs to the marker.
func readMessage(text *lines, size int) ([]byte, error) {
	plain := make([]byte, 0, size)
	for first := true; ; first = false {
		line, ok := text.next()
		if !ok {
			return nil, errTruncated
		}
		if string(line) == beginSignature {
			return plain, nil
		}
		if bytes.HasPrefix(line, []byte("-")) {
			if line, ok = bytes.CutPrefix(line, []byte("- ")); !ok {
				return nil, shapeError("a line of the message begins with an unescaped dash")
			}
		}
		if !first {
			plain = append(plain, '\n')
		}
		plain = append(plain, line...)
	}
}

// checkSignatureLines demands one or more armoured signatures, and nothing before, between or
// after them but white space.
func checkSignatureLines(armoured []byte) error {
	text := &lines{armoured}
	open, blocks := false, 0
	for {
		line, ok := text.next()
		switch {
		case !ok && open:
			return errTruncated
		case !ok && blocks == 0:
			return shapeError("no OpenPGP signature but %s", describe(armoured))
		case !ok:
			return nil
		case open && string(line) == endSignature:
			open = false
		case open && bytes.HasPrefix(line, []byte("-")):
			return shapeError("a line that begins with a dash within the signature")
		case !open && string(line) == beginSignature:
			open = true
			blocks++
		case !open && len(line) > 0 && blocks == 0:
			return shapeError("no OpenPGP signature but %s", describe(armoured))
		case !open && len(line) > 0:
			return shapeError("text after the signature")
		}
	}
}

// LooksLikeRelease tells whether an unsigned body may be a Release file: deb822 fields, at least one
// of which is known from there. It says nothing about who wrote it. The error says what the body
// looks like instead.
func LooksLikeRelease(body []byte) error {
	if len(body) > MaxRelease {
		return shapeError("more than %d bytes", MaxRelease)
	}
	if !isRelease(body) {
		return shapeError("not a Release file but %s", describe(body))
	}
	return nil
}

var releaseFields = []string{
	"Origin", "Label", "Suite", "Codename", "Archive", "Date", "MD5Sum", "SHA1", "SHA256", "SHA512",
}

func isRelease(body []byte) bool {
	text := &lines{bytes.TrimLeft(body, "\r\n")}
	known := false
	for first := true; ; first = false {
		line, ok := text.next()
		if !ok || len(line) == 0 {
			return known // apt reads the first stanza alone
		}
		if (line[0] == ' ' || line[0] == '\t') && !first {
			continue
		}
		name, _, ok := bytes.Cut(line, []byte(":"))
		if !ok || !isFieldName(name) {
			return false
		}
		for _, field := range releaseFields {
			known = known || strings.EqualFold(field, string(name))
		}
	}
}

func isFieldName(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(name) > 0 && name[0] != '-' && name[0] != '#'
}

// describe names what a body looks like, for somebody who has to find out where it came from.
func describe(body []byte) string {
	head := bytes.TrimLeft(body[:min(len(body), 1024)], "\ufeff \t\r\n")
	lower := bytes.ToLower(head)
	switch {
	case len(body) == 0:
		return "an empty body"
	case len(head) == 0:
		return "white space"
	case bytes.HasPrefix(lower, []byte("<!doctype html")), bytes.Contains(lower, []byte("<html")):
		return "an HTML page: is there a captive portal?"
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}), bytes.HasPrefix(head, []byte("\xfd7zXZ")):
		return "compressed data"
	case bytes.HasPrefix(body, []byte(beginMessage+"\n")):
		return "a clearsigned file"
	case bytes.Contains(body, []byte(beginMessage)):
		return "one with something before or in its first line"
	case isRelease(body):
		return "an unsigned Release file"
	case bytes.IndexByte(head, 0) >= 0 || head[0] >= 0x80:
		return "binary data"
	}
	first, _ := (&lines{head}).next()
	return fmt.Sprintf("text that begins with %.60q", first)
}
