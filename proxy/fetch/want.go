// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"encoding/hex"
	"net/http"
	"time"

	"apt-dht/store"
)

// Digest is a SHA-256.
type Digest = store.Digest

// Want names a file to be brought here.
type Want struct {
	// URL is where the client asked for it, absolute and byte for byte as the
	// client wrote it: mirrors hold files whose names contain '%'.
	URL string
	// Mirrors are further URLs of the same bytes, tried after URL.
	Mirrors []string
	// Digest is the SHA-256 that the file must have. Zero: not known; then the
	// file is known by its URL alone and never shared.
	Digest Digest
	// Size is the length in bytes that the file must have. -1: not known.
	Size int64
	// Exact tells that bytes other than Digest's are no answer, not even where
	// no mirror has the right ones.
	Exact bool
	// Start is the first byte that the asker needs. A file not yet here is not
	// fetched from its beginning for somebody who needs its end.
	Start int64
	// Header is sent to the mirror beside what the transfer itself needs.
	Header http.Header
	// Realm separates connections of different privilege (see mirror.WithRealm).
	Realm string
	// Flow names who wants the file: where requests to a mirror have to wait,
	// flows share it fairly.
	Flow string
	// Since is when the asker came. What another transfer of the same URL has
	// brought after that needs no question to the mirror. Zero: now.
	Since time.Time
	// Background marks a fetch that no client waits for.
	Background bool
	// Keep marks a file that is evicted last: indexes.
	Keep bool
	// NoStore keeps the file out of the store: it passes through for one asker.
	NoStore bool
	// Shareable tells whether the file comes from a public origin, without
	// credentials: only then is it looked for on the internet and given to it. It
	// may block for some seconds, until its context ends, and is to remember what
	// it found. Nil: it does not.
	Shareable func(ctx context.Context) bool
	// Unproven: the asker may be given bytes whose hash is not proven yet, as
	// peers relay them, rather than wait for long.
	Unproven bool
}

// known tells whether the file's SHA-256 is known.
func (w *Want) known() bool { return w.Digest != Digest{} }

// key identifies the transfer that w can share with others.
func (w *Want) key() string {
	if w.known() {
		return hex.EncodeToString(w.Digest[:])
	}
	return w.urlKey()
}

// urlKey identifies a transfer without a known hash. Who may not reach an
// origin must not join who may.
func (w *Want) urlKey() string { return w.Realm + " " + w.URL }

// urls are all places at mirrors, the client's own choice first.
func (w *Want) urls() []string {
	return append([]string{w.URL}, w.Mirrors...)
}

// Head is what is known of a file before its first byte.
type Head struct {
	// Size in bytes. -1: not known before the end.
	Size int64
	// Modified is the origin's Last-Modified. Zero: it gave none.
	Modified time.Time
	// Header holds the mirror's own header where a mirror answered, else nil.
	Header http.Header
}

// Where a file's bytes came from, as told in X-Apt-Dht-Source.
const (
	FromStore  = "store"
	FromMirror = "mirror"
	FromLAN    = "lan"
	FromWAN    = "wan"
)
