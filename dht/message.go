// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"errors"
	"fmt"

	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/torrent/bencode"
)

const (
	// maxPacket bounds a message. One that has not been fragmented on its way
	// has at most 1,472 bytes.
	maxPacket = 2048
	// maxDepth bounds nesting: a list in the arguments of a message has 3.
	maxDepth = 4
	// maxDigits bounds the digits of an integer.
	maxDigits = 19
)

var errMalformed = errors.New("malformed bencode")

// decode reads a message. The library's decoder reserves what a string claims to
// have, up to 128 MiB, makes a type for each level of nested lists, and panics
// at an address of one byte: so only what is well formed reaches it, and a panic
// is an error.
func decode(b []byte) (m krpc.Msg, err error) {
	n, err := wellFormed(b)
	if err != nil {
		return m, err
	}
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("malformed message: %v", cause)
		}
	}()
	err = bencode.Unmarshal(b[:n], &m)
	return m, err
}

// wellFormed returns the length of the bencoded dictionary at the start of b, if
// there is one and it stays within the bounds.
func wellFormed(b []byte) (int, error) {
	if len(b) == 0 || b[0] != 'd' {
		return 0, errMalformed
	}
	depth := 0
	for at := 0; at < len(b); {
		length := 1
		switch b[at] {
		case 'd', 'l':
			depth++
		case 'e':
			depth--
		case 'i':
			length = integerLength(b[at:])
		default:
			length = stringLength(b[at:])
		}
		if length == 0 || length > len(b)-at || depth > maxDepth {
			return 0, errMalformed
		}
		at += length
		if depth == 0 {
			return at, nil
		}
	}
	return 0, errMalformed
}

// integerLength is that of the integer at the start of b, with its marks; 0 if
// it is malformed.
func integerLength(b []byte) int {
	at := 1
	if len(b) > 1 && b[1] == '-' {
		at = 2
	}
	digits := digitsOf(b[at:])
	end := at + digits
	if digits == 0 || end >= len(b) || b[end] != 'e' {
		return 0
	}
	return end + 1
}

// stringLength is that of the string at the start of b, with the length before
// it; 0 if it is malformed.
func stringLength(b []byte) int {
	digits := digitsOf(b)
	if digits == 0 || digits >= len(b) || b[digits] != ':' {
		return 0
	}
	length := 0
	for _, c := range b[:digits] {
		length = length*10 + int(c-'0')
		if length > maxPacket {
			return 0
		}
	}
	return digits + 1 + length
}

func digitsOf(b []byte) int {
	n := 0
	for n < len(b) && n <= maxDigits && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	return n
}

// encode writes a message of ours.
func encode(m krpc.Msg) ([]byte, error) {
	b, err := bencode.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding a DHT message: %w", err)
	}
	return b, nil
}
