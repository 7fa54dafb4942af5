// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Meta is what is known of a blob. What was lost with the database is zero; Size and Modified survive
// in the file itself.
type Meta struct {
	Size        int64     // bytes; set by the store
	Modified    time.Time // the origin's Last-Modified, to the second; zero: unknown
	ContentType string    // the origin's Content-Type; empty: unknown
	Origin      string    // the URL it came from; empty: unknown, or imported
	Added       time.Time // set by the store
	Verified    time.Time // when its bytes last hashed right; zero: not known. Set by the store
	Used        time.Time // last Get; set by the store
	Shareable   bool      // may be given to the world: it came from a public origin, without credentials
	Keep        bool      // an index or root file: evicted last as long as it is current
}

func (m Meta) flags() (f flags) {
	if m.Keep {
		f |= flagKeep
	}
	if m.Shareable {
		f |= flagShareable
	}
	return f
}

// Meta returns what is known of a blob, ErrNotFound if it is not here.
func (s *Store) Meta(d Digest) (m Meta, err error) {
	e, ok := s.table.get(d)
	if !ok {
		return Meta{}, ErrNotFound
	}
	m = Meta{
		Size:      e.size,
		Used:      time.Unix(0, e.used).UTC(),
		Verified:  timeOf(int64(e.verified)),
		Shareable: e.flags.has(flagShareable),
		Keep:      e.flags.has(flagKeep),
	}
	r, ok := s.metaRow(d)
	if !ok {
		m.Modified, err = s.modified(d)
		return m, err
	}
	m.Modified, m.Added = timeOf(r.Modified), timeOf(r.Added)
	m.ContentType, m.Origin = r.ContentType, r.Origin
	return m, nil
}

// metaRow returns what the database knows of a blob.
func (s *Store) metaRow(d Digest) (r metaRow, ok bool) {
	value := s.rows.get(blobKey(kindMeta, d))
	if value == nil || json.Unmarshal(value, &r) != nil {
		return metaRow{}, false
	}
	return r, true
}

// modified is what a blob's file itself tells of Meta.Modified.
func (s *Store) modified(d Digest) (time.Time, error) {
	st, err := os.Lstat(s.blobPath(d))
	if os.IsNotExist(err) {
		return time.Time{}, ErrNotFound
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("store: %w", err)
	}
	return timeOf(st.ModTime().Unix()), nil
}

// maxHeader bounds header values that are kept: no server's ETag or Content-Type comes near.
const maxHeader = 1 << 10

func checkMeta(m Meta) error {
	if len(m.ContentType) > maxHeader || len(m.Origin) > maxURL {
		return fmt.Errorf("%w: Content-Type of %d bytes (at most %d) or origin of %d bytes (at most %d)", ErrTooLong, len(m.ContentType), maxHeader, len(m.Origin), maxURL)
	}
	return nil
}
