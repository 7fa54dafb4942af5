// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"errors"
	"fmt"
	"strings"
)

// parseOneLine reads 'deb [option=value …] uri suite [component …]' lines.
func (p *parser) parseOneLine(path, text string) {
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(stripComment(line))
		if line == "" {
			continue
		}
		source, address, err := parseLine(line)
		if err == nil {
			source.File, source.Line = path, i+1
			err = p.add(source, address)
		}
		if err != nil && !p.fault(path, i+1, err) {
			return
		}
	}
}

// stripComment cuts at the first '#' that is not within brackets.
func stripComment(line string) string {
	depth := 0
	for i := range len(line) {
		switch line[i] {
		case '[':
			depth++
		case ']':
			depth--
		case '#':
			if depth <= 0 {
				return line[:i]
			}
		}
	}
	return line
}

func parseLine(line string) (s Source, address string, err error) {
	end := strings.IndexAny(line, " \t\v")
	if end < 0 {
		return s, "", errors.New("need TYPE URI SUITE [COMPONENT…]")
	}
	s.Type = line[:end]
	rest, err := s.parseOptions(line[end:])
	if err != nil {
		return s, "", err
	}
	words, err := splitWords(rest)
	if err != nil {
		return s, "", err
	}
	if len(words) < 2 {
		return s, "", errors.New("need TYPE URI SUITE [COMPONENT…]")
	}
	s.Suite, s.Components = words[1], words[2:]
	return s, words[0], nil
}

func splitWords(text string) (words []string, err error) {
	for {
		text = strings.TrimLeft(text, " \t\v\f\r")
		if text == "" {
			return words, nil
		}
		var word string
		if word, text, err = cutWord(text); err != nil {
			return nil, err
		}
		words = append(words, word)
	}
}

// parseOptions reads '[ a=b c=d ]', if it is there, and returns what follows.
func (s *Source) parseOptions(text string) (rest string, err error) {
	text = strings.TrimSpace(text)
	rest, bracket := strings.CutPrefix(text, "[")
	for bracket {
		rest = strings.TrimLeft(rest, " \t\v\f\r")
		if after, closed := strings.CutPrefix(rest, "]"); closed {
			return after, nil
		}
		var option string
		if option, rest, err = cutWord(rest); err != nil || option == "" {
			return "", errors.New("option list without ']'")
		}
		if trimmed, closed := strings.CutSuffix(option, "]"); closed {
			// The bracket needs no space before it.
			option, rest = trimmed, "]"+rest
		}
		if err := s.setOption(option); err != nil {
			return "", err
		}
	}
	return rest, nil
}

func (s *Source) setOption(option string) (err error) {
	key, value, ok := strings.Cut(option, "=")
	if !ok || key == "" || value == "" {
		return fmt.Errorf("option %q: need NAME=VALUE", option)
	}
	switch key {
	case "signed-by":
		s.SignedBy, err = parseSignedBy(value)
	case "trusted":
		s.Trusted = parseBool(value)
	}
	return err // others do not matter here
}

// cutWord is apt's ParseQuoteWord: a word ends at white space outside "…" and […]; %xx is
// decoded and quotation marks vanish.
func cutWord(text string) (word, rest string, err error) {
	i := 0
	for ; i < len(text) && !strings.ContainsRune(" \t\v\f\r", rune(text[i])); i++ {
		closing := closingOf(text[i])
		if closing == 0 {
			continue
		}
		n := strings.IndexByte(text[i+1:], closing)
		if n < 0 {
			return "", "", fmt.Errorf("%q without %q", text[i], closing)
		}
		i += 1 + n
	}
	return unquote(strings.ReplaceAll(text[:i], `"`, "")), text[i:], nil
}

func closingOf(c byte) byte {
	switch c {
	case '"':
		return '"'
	case '[':
		return ']'
	}
	return 0
}
