// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"bufio"
	"fmt"
	"io"
)

const (
	// maxLine bounds the part of a line that is kept. The longest of
	// bookworm, a Provides, has 76 kB.
	maxLine = 1 << 20

	// lineBuffer holds nearly every line, so that it need not be copied.
	lineBuffer = 64 << 10
)

// lineReader reads text line by line without allocating.
type lineReader struct {
	r      *bufio.Reader
	long   []byte // a line that did not fit r's buffer
	number int    // of the last line read, from 1
	cut    bool   // the last line was longer than maxLine and its end was dropped
}

func newLineReader(r io.Reader) lineReader {
	return lineReader{r: bufio.NewReaderSize(r, lineBuffer)}
}

// next returns the next line without its end, LF or CRLF; it is valid until
// the next call. After the last line it returns io.EOF.
func (l *lineReader) next() ([]byte, error) {
	l.cut = false
	line, err := l.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		line, err = l.rest(line)
	}
	if err != nil && (err != io.EOF || len(line) == 0) {
		return nil, err
	}
	l.number++
	return trimEOL(line), nil
}

// rest reads on to the end of the line that begins with head, and keeps at
// most maxLine bytes of it.
func (l *lineReader) rest(head []byte) ([]byte, error) {
	l.long = append(l.long[:0], head...)
	for {
		part, err := l.r.ReadSlice('\n')
		keep := min(len(part), maxLine-len(l.long))
		l.cut = l.cut || keep < len(part)
		l.long = append(l.long, part[:keep]...)
		if err != bufio.ErrBufferFull {
			return l.long, err
		}
	}
}

// whole is an error if the last line was cut: its reader needs all of it.
func (l *lineReader) whole() error {
	if l.cut {
		return fmt.Errorf("line %d is longer than %d bytes", l.number, maxLine)
	}
	return nil
}

func trimEOL(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}
