// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

// Digest is a SHA-256.
type Digest = [sha256.Size]byte

// Hash is a Digest that is written as 64 lower-case hexadecimal digits.
type Hash Digest

// ErrHash: a text is no hash.
var ErrHash = errors.New("a hash is 64 lower-case hexadecimal digits")

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) {
	return hex.AppendEncode(make([]byte, 0, 2*len(h)), h[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. The error is ErrHash.
func (h *Hash) UnmarshalText(text []byte) error {
	d, ok := ParseHash(string(text))
	if !ok {
		return ErrHash
	}
	*h = Hash(d)
	return nil
}

// ParseHash reads the one way in which a hash is written.
func ParseHash(text string) (d Digest, ok bool) {
	if len(text) != 2*sha256.Size {
		return d, false
	}
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return d, false
		}
	}
	_, err := hex.Decode(d[:], []byte(text))
	return d, err == nil
}
