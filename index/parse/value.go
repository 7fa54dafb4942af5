// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"bytes"
	"encoding/hex"
	"math"
)

// MaxPath is the length of the longest path that is emitted, in bytes: Linux's
// PATH_MAX. No file system could offer a longer one.
const MaxPath = 4096

// cleanPath removes "." segments in place. It is false for what no mirror can
// mean: a path that is empty, absolute, too long, climbs, names a directory or
// holds a control character.
func cleanPath(p []byte) ([]byte, bool) {
	if len(p) > MaxPath || bytes.HasSuffix(p, []byte("/.")) {
		return nil, false
	}
	out := p[:0]
	for rest, more := p, true; more; {
		var seg []byte
		seg, rest, more = bytes.Cut(rest, []byte("/"))
		switch string(seg) {
		case ".":
			continue
		case "..":
			return nil, false
		}
		if hasControl(seg) {
			return nil, false
		}
		out = append(out, seg...)
		if more {
			out = append(out, '/')
		}
	}
	if len(out) == 0 || out[0] == '/' || out[len(out)-1] == '/' {
		return nil, false
	}
	return out, true
}

func hasControl(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return true
		}
	}
	return false
}

// parseSize reads a size in bytes: decimal digits alone, at most an int64.
func parseSize(b []byte) (int64, bool) {
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' || n > (math.MaxInt64-9)/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, len(b) > 0
}

// parseHex fills dst; it is false unless src is exactly dst in hexadecimal.
func parseHex(dst, src []byte) bool {
	if len(src) != hex.EncodedLen(len(dst)) {
		return false
	}
	_, err := hex.Decode(dst, src)
	return err == nil
}

// parseSum reads "hash size path", the line of every checksum list in deb822,
// and decodes the hash into hash.
func parseSum(line, hash []byte) (path []byte, size int64, ok bool) {
	sum, line := word(line)
	digits, line := word(line)
	path, line = word(line)
	size, ok = parseSize(digits)
	ok = ok && len(path) > 0 && len(line) == 0 && parseHex(hash, sum)
	return path, size, ok
}

// word cuts the first word off b, and the blanks around it.
func word(b []byte) (first, rest []byte) {
	b = trimBlank(b)
	i := bytes.IndexAny(b, " \t")
	if i < 0 {
		return b, nil
	}
	return b[:i], trimBlank(b[i:])
}

// trimBlank removes spaces and tabs from both ends.
func trimBlank(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
