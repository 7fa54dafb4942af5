// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	// maxURL bounds a URL's length: RFC 9110, 4.1 asks for 8000 octets, archives' URLs have 300.
	maxURL = 4 << 10
	// maxURLs bounds the number of records: a file has a record only if it has no hash.
	maxURLs = 1 << 15
	// sweepEvery is how many records may come above maxURLs before the oldest go.
	sweepEvery = 1 << 12
)

// A URLRecord says which bytes a URL gave, for URLs that no index knows a hash for: root files, and
// unknown ones.
type URLRecord struct {
	Digest      Digest    // the blob
	Modified    time.Time // Last-Modified, to the second, for If-Modified-Since; zero: there was none
	ETag        string    // for If-None-Match; empty: there was none
	ContentType string
	Fetched     time.Time // when the mirror gave these bytes
	Confirmed   time.Time // when it last said that they are current (200 or 304)
	FreshUntil  time.Time // until when HTTP allows to give them without asking (RFC 9111, 4.2); zero: ask
	ValidUntil  time.Time // a root file's own Valid-Until; zero: it has none
	Root        bool      // InRelease, Release or Release.gpg

	MustRevalidate bool // may not be given unasked even while the mirror is down
}

// A urlRow is a URLRecord on disk; times are seconds, 0 for none.
type urlRow struct {
	Digest      []byte `json:"d"`
	Modified    int64  `json:"m,omitempty"`
	ETag        []byte `json:"e,omitempty"` // may be other than UTF-8 (RFC 9110, 8.8.3)
	ContentType []byte `json:"c,omitempty"`
	Fetched     int64  `json:"f,omitempty"`
	Confirmed   int64  `json:"n,omitempty"`
	FreshUntil  int64  `json:"u,omitempty"`
	ValidUntil  int64  `json:"v,omitempty"`

	MustRevalidate bool `json:"r,omitempty"`
}

// metaRoot marks root files' rows.
const metaRoot = 1

func urlKey(url string) []byte { return append([]byte{kindURL}, url...) }

func encodeURL(url string, rec URLRecord) row {
	value, _ := json.Marshal(urlRow{ // cannot fail
		Digest:      rec.Digest[:],
		Modified:    unixOf(rec.Modified),
		ETag:        []byte(rec.ETag),
		ContentType: []byte(rec.ContentType),
		Fetched:     unixOf(rec.Fetched),
		Confirmed:   unixOf(rec.Confirmed),
		FreshUntil:  unixOf(rec.FreshUntil),
		ValidUntil:  unixOf(rec.ValidUntil),

		MustRevalidate: rec.MustRevalidate,
	})
	r := row{key: urlKey(url), value: value}
	if rec.Root {
		r.meta = metaRoot
	}
	return r
}

func decodeURL(r row) (rec URLRecord, ok bool) {
	var u urlRow
	if err := json.Unmarshal(r.value, &u); err != nil || len(u.Digest) != len(rec.Digest) {
		return rec, false
	}
	return URLRecord{
		Digest:      Digest(u.Digest),
		Modified:    timeOf(u.Modified),
		ETag:        string(u.ETag),
		ContentType: string(u.ContentType),
		Fetched:     timeOf(u.Fetched),
		Confirmed:   timeOf(u.Confirmed),
		FreshUntil:  timeOf(u.FreshUntil),
		ValidUntil:  timeOf(u.ValidUntil),
		Root:        r.meta == metaRoot,

		MustRevalidate: u.MustRevalidate,
	}, true
}

// PutURL records which blob a URL gave, in place of an older record. The URL has at most 4 KiB,
// other strings 1 KiB, else the error is ErrTooLong. Beyond 32,768 records those confirmed longest
// ago go. The error is ErrNoSpace if the record can be kept nowhere; an older one then stays.
func (s *Store) PutURL(url string, rec URLRecord) error {
	if url == "" || len(url) > maxURL || len(rec.ETag) > maxHeader || len(rec.ContentType) > maxHeader {
		return fmt.Errorf("%w: URL of %d bytes (1 to %d), ETag of %d, Content-Type of %d (at most %d)", ErrTooLong, len(url), maxURL, len(rec.ETag), len(rec.ContentType), maxHeader)
	}
	if err := s.rows.write([]row{encodeURL(url, rec)}); err != nil {
		return err
	}
	if s.urlPuts.Add(1)%sweepEvery == 0 {
		return s.sweepURLs()
	}
	return nil
}

// GetURL returns the record of a URL whose blob is here, else ErrNotFound.
func (s *Store) GetURL(url string) (URLRecord, error) {
	value, meta := s.rows.getMeta(urlKey(url))
	if value == nil {
		return URLRecord{}, ErrNotFound
	}
	rec, ok := decodeURL(row{value: value, meta: meta})
	if _, here := s.table.get(rec.Digest); ok && here {
		return rec, nil
	}
	return URLRecord{}, ErrNotFound
}

// Roots yields the records of root files whose blobs are here.
func (s *Store) Roots(yield func(url string, rec URLRecord) bool) {
	roots := make(map[string]URLRecord)
	s.rows.each([]byte{kindURL}, func(r row) bool {
		if r.meta != metaRoot {
			return true
		}
		rec, ok := decodeURL(r)
		if _, here := s.table.get(rec.Digest); ok && here {
			roots[string(r.key[1:])] = rec
		}
		return true
	})
	for url, rec := range roots {
		if !yield(url, rec) {
			return
		}
	}
}

type agedURL struct {
	key       []byte
	root      bool
	confirmed int64
}

// sweepURLs drops records whose blob is gone, and the oldest beyond maxURLs, root files last.
func (s *Store) sweepURLs() error {
	var drop []row
	var kept []agedURL
	s.rows.each([]byte{kindURL}, func(r row) bool {
		key := slices.Clone(r.key)
		rec, ok := decodeURL(r)
		if _, here := s.table.get(rec.Digest); !ok || !here {
			drop = append(drop, row{key: key})
		} else {
			kept = append(kept, agedURL{key, rec.Root, unixOf(rec.Confirmed)})
		}
		return true
	})
	slices.SortFunc(kept, func(a, b agedURL) int {
		return cmp.Or(cmp.Compare(rootLast(a), rootLast(b)), cmp.Compare(a.confirmed, b.confirmed))
	})
	for _, u := range kept[:max(0, len(kept)-maxURLs)] {
		drop = append(drop, row{key: u.key})
	}
	return s.rows.write(drop)
}

func rootLast(u agedURL) int {
	if u.root {
		return 1
	}
	return 0
}
