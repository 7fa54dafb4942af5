// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"crypto/sha256"
	"fmt"
	"io"
)

// ReadSHA256SUMS reads the output of sha256sum(1), in text or binary mode
// ("hash  path", "hash *path"), and emits the paths relative to the file's
// directory; their sizes are unknown (-1). Names that sha256sum had to escape
// are skipped. A file without a single checksum is an error, unless it is empty.
func ReadSHA256SUMS(r io.Reader, emit Emit) (Summary, error) {
	lines, out := newLineReader(r), sink{emit: emit}
	for {
		line, err := lines.next()
		if err == io.EOF && out.Entries == 0 && out.Skipped > 0 {
			return out.Summary, fmt.Errorf("not a SHA256SUMS file: none of %d lines is a checksum", lines.number)
		}
		if err == io.EOF {
			return out.Summary, nil
		}
		if err == nil {
			err = lines.whole()
		}
		if err == nil {
			err = addChecksum(line, &out)
		}
		if err != nil {
			return out.Summary, err
		}
	}
}

func addChecksum(line []byte, out *sink) error {
	const digits = 2 * sha256.Size
	line = trimBlank(line)
	if len(line) == 0 || line[0] == '#' {
		return nil
	}
	var digest Digest
	if len(line) < digits+2 || line[digits] != ' ' || !parseHex(digest[:], line[:digits]) {
		out.Skipped++
		return nil
	}
	path := line[digits+1:]
	if path[0] == ' ' || path[0] == '*' {
		path = path[1:]
	}
	return out.add(path, -1, &digest)
}
