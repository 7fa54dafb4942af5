// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"iter"
	"net/http"
	"strings"
)

// CacheControl yields the directives of a header in lower case (RFC 9111 §5.2).
func CacheControl(h http.Header) iter.Seq[string] { return listOf(h, "Cache-Control") }

// listOf yields the members of a list field, which may stand on several lines
// (RFC 9110 §5.6.1).
func listOf(h http.Header, field string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range h.Values(field) {
			for member := range strings.SplitSeq(strings.ToLower(line), ",") {
				if !yield(strings.TrimSpace(member)) {
					return
				}
			}
		}
	}
}

// Personal tells whether an answer is for nobody but who asked (RFC 9111 §5.2.2.5,
// §5.2.2.7).
func Personal(h http.Header) bool {
	for directive := range CacheControl(h) {
		name, _, _ := strings.Cut(directive, "=")
		if name == "no-store" || name == "private" {
			return true
		}
	}
	return false
}

// storable tells whether an answer without a known hash may be kept and given
// to others (RFC 9111 §3). One that varies by what clients send is not: it
// would have to be kept for each kind of client.
func storable(h http.Header) bool {
	if Personal(h) {
		return false
	}
	for field := range listOf(h, "Vary") {
		switch field {
		case "*", "accept", "user-agent", "authorization", "cookie":
			return false
		}
	}
	return true
}
