// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Source is one enabled entry of sources.list(5): a type, a repository and a suite.
type Source struct {
	Type       string // "deb" or "deb-src"
	URI        string // "http://deb.debian.org/debian/": without credentials, "tor+" and the default port
	Suite      string // "bookworm", "stable/updates"; of a flat repository a directory: "./", "sub/"
	Components []string
	SignedBy   SignedBy
	// Trusted is the tri-state of sources.list(5): "yes", "no" or "" (apt decides).
	Trusted string
	// Credentials tells that the URI as written has a user.
	Credentials bool
	File        string
	Line        int // of File, counted from 1; of the stanza's first line in deb822 style

	host, path string // of URI; the path is percent-decoded and clean
}

// SignedBy is the option of that name. The zero value means apt's default keyrings.
type SignedBy struct {
	Files []string // absolute paths of keyrings
	// Fingerprints, if any, are the only keys of those keyrings that may sign: 40 upper-case
	// hexadecimal digits, with a '!' at the end if a subkey does not stand for its primary key.
	Fingerprints []string
	Key          string // an embedded armoured key block, the only keyring then
}

func (s SignedBy) isZero() bool {
	return len(s.Files) == 0 && len(s.Fingerprints) == 0 && s.Key == ""
}

// Host returns the URI's host in lower case, with the port unless that is the scheme's own. It is
// empty for what lies on this machine ("file:/srv/debian").
func (s Source) Host() string { return s.host }

// Base returns the repository's URL without scheme, credentials, percent-encoding and slash at
// the end, as VerifyClearsigned takes it: "deb.debian.org/debian".
func (s Source) Base() string { return s.host + s.path }

// rootOf returns the name of the directory that holds InRelease, for a base without slash at the
// end. A suite that ends in a slash is a directory of a flat repository; an empty one is the repository itself.
func rootOf(base, suite string) string {
	if suite == "" || strings.HasSuffix(suite, "/") {
		return cleanPath(base + "/" + suite)
	}
	return base + "/dists/" + strings.TrimPrefix(cleanPath(suite), "/")
}

const (
	maxMirrors = 100 // of one mirror list
	maxFaults  = 100 // malformed entries of one file, before the rest of it is not read
)

// parser collects the sources of all files.
type parser struct {
	reader
	sources []Source
	faults  int // of the current file
}

// fault warns of a malformed entry. False means that the rest of the file is not worth reading.
func (p *parser) fault(path string, line int, err error) (goOn bool) {
	p.skip(path, line, err)
	p.faults++
	if p.faults == maxFaults {
		p.skip(path, line, errors.New("too many malformed entries: the rest of the file is not read"))
	}
	return p.faults < maxFaults && !errors.Is(err, errTooMany)
}

// readSources reads sources.list, then sources.list.d in the order of file names, as apt does.
func readSources(r reader, etc string) []Source {
	p := &parser{reader: r}
	paths := []string{filepath.Join(etc, "sources.list")}
	paths = append(paths, r.list(filepath.Join(etc, "sources.list.d"), ".list", ".sources")...)
	for _, path := range paths {
		data, ok := r.read(path, maxConfigFile)
		if !ok {
			continue
		}
		p.parse(path, data)
	}
	return p.sources
}

func (p *parser) parse(path string, data []byte) {
	p.faults = 0
	if bytes.IndexByte(data, 0) >= 0 {
		p.skip(path, 0, errors.New("not a text file"))
		return
	}
	if filepath.Ext(path) == ".sources" {
		p.parseDeb822(path, string(data))
		return
	}
	p.parseOneLine(path, string(data))
}

// add completes an entry and appends it, once for each mirror where its URI names a list of them.
func (p *parser) add(s Source, rawURI string) error {
	if err := s.checkShape(); err != nil {
		return err
	}
	u, err := parseURI(substituteArch(rawURI))
	if err != nil {
		return err
	}
	s.Suite = substituteArch(s.Suite)
	switch u.scheme {
	case "cdrom":
		return nil
	case "mirror+file", "mirror+copy":
		return p.addMirrors(s, strings.TrimRight(u.path, "/"))
	}
	return p.append(s, u)
}

func (s Source) checkShape() error {
	if s.Type != "deb" && s.Type != "deb-src" {
		return fmt.Errorf("unknown type %q: need deb or deb-src", s.Type)
	}
	flat := strings.HasSuffix(s.Suite, "/")
	if flat && len(s.Components) > 0 {
		return fmt.Errorf("suite %q ends in a slash: no components allowed", s.Suite)
	}
	if !flat && len(s.Components) == 0 {
		return fmt.Errorf("suite %q needs a component, or a slash at its end", s.Suite)
	}
	return nil
}

var errTooMany = fmt.Errorf("more than %d sources", maxSources)

func (p *parser) append(s Source, u uri) error {
	if len(p.sources) >= maxSources {
		return errTooMany
	}
	if !strings.HasSuffix(u.path, "/") {
		u.path += "/"
	}
	// A remote mirror list is kept with the list's host, which is all that is known of it.
	u.scheme = strings.TrimPrefix(u.scheme, "mirror+")
	if u.scheme == "mirror" {
		u.scheme = "http"
	}
	u = u.unprefixed()
	s.URI, s.host, s.path, s.Credentials = u.String(), u.host, cleanPath(unquote(u.path)), u.credentials
	p.sources = append(p.sources, s)
	return nil
}

// addMirrors appends the entry once for each line of a local mirror list (apt-transport-mirror(1)).
func (p *parser) addMirrors(s Source, list string) error {
	data, err := readBounded(list, maxConfigFile)
	if err != nil {
		return fmt.Errorf("mirror list: %w", err)
	}
	mirrors := 0
	for i, line := range strings.Split(string(data), "\n") {
		address, _, _ := strings.Cut(strings.TrimSpace(line), "\t") // metadata follows
		if address == "" || address[0] == '#' {
			continue
		}
		if mirrors++; mirrors > maxMirrors {
			return fmt.Errorf("mirror list %s: only the first %d mirrors are used", list, maxMirrors)
		}
		u, err := parseURI(address)
		if err == nil && strings.HasPrefix(u.scheme, "mirror") {
			err = errors.New("a mirror list cannot name another")
		}
		if err == nil {
			err = p.append(s, u)
		}
		if err != nil && !p.fault(list, i+1, err) {
			return err
		}
	}
	return nil
}

// parseSignedBy reads the option's value, whose items are separated by commas or white space
// (NormalizeSignedBy in apt-pkg/deb/debmetaindex.cc).
func parseSignedBy(value string) (SignedBy, error) {
	if strings.Contains(value, beginKey) {
		return SignedBy{Key: embeddedKey(value)}, nil
	}
	var s SignedBy
	separator := func(c rune) bool { return strings.ContainsRune(", \t\r\n\v\f", c) }
	for _, item := range strings.FieldsFunc(value, separator) {
		if item[0] == '/' {
			s.Files = append(s.Files, item)
			continue
		}
		fingerprint := strings.ToUpper(item)
		if !isFingerprint(strings.TrimSuffix(fingerprint, "!")) {
			return SignedBy{}, fmt.Errorf("Signed-By %q is neither an absolute path nor a fingerprint of 40 digits", item)
		}
		s.Fingerprints = append(s.Fingerprints, fingerprint)
	}
	return s, nil
}

// embeddedKey undoes what deb822 does to a key block: indentation, and '.' for an empty line.
func embeddedKey(value string) string {
	lines := strings.Split(value, "\n")
	for i, line := range lines {
		if lines[i] = strings.TrimSpace(line); lines[i] == "." {
			lines[i] = ""
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func isFingerprint(s string) bool {
	if len(s) != 40 {
		return false
	}
	for i := range len(s) {
		if !isHex(s[i]) {
			return false
		}
	}
	return true
}

// parseBool knows the words of apt's StringToBool; others are neither "yes" nor "no".
func parseBool(word string) string {
	switch strings.ToLower(word) {
	case "1", "yes", "true", "with", "on", "enable":
		return "yes"
	case "0", "no", "false", "without", "off", "disable":
		return "no"
	}
	return ""
}
