// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

const (
	publicOrigin = "http://mirror.example/debian/a.deb"
	otherOrigin  = "http://10.0.0.7/unnamed?who=me"
)

// publicly are the flags and the origin of a blob that may be given to the world, backward those of
// one that may not.
var (
	publicly = Meta{Origin: publicOrigin, Shareable: true, Keep: true}
	backward = Meta{Origin: otherOrigin}
)

// putUnknown stores b as a file of which no digest is known beforehand.
func putUnknown(s *Store, b []byte, m Meta) error {
	g, err := s.Create(Digest{}, -1)
	if err != nil {
		return err
	}
	if _, err := g.Write(b); err != nil {
		return errors.Join(err, g.Discard(err))
	}
	_, err = g.Commit(m)
	return err
}

// cameAt changes the row of a blob so that it came then.
func cameAt(t testing.TB, s *Store, d Digest, at time.Time) {
	t.Helper()
	m, err := s.Meta(d)
	if err != nil {
		t.Fatal(err)
	}
	m.Added = at
	if err := s.rows.write([]row{encodeMeta(d, m)}); err != nil {
		t.Fatal(err)
	}
}

// What is public stays so when the same bytes come again from elsewhere: they have a public origin.
func TestPublishedAgain(t *testing.T) {
	came := time.Unix(1_700_000_000, 0)
	for _, tc := range []struct {
		name               string
		first, then        Meta
		harm               func(t testing.TB, s *Store, d Digest)
		origin             string
		shared, kept, anew bool
	}{
		{name: "the second may not be shared", first: publicly, then: backward, origin: publicOrigin, shared: true, kept: true},
		{name: "only the second may be", first: backward, then: publicly, origin: publicOrigin, shared: true, kept: true},
		{name: "both may be", first: Meta{Origin: "http://old.example/a", Shareable: true}, then: publicly, origin: publicOrigin, shared: true, kept: true},
		{name: "neither may be", first: Meta{Origin: "http://10.0.0.8/a", Keep: true}, then: backward, origin: otherOrigin, kept: true},
		{name: "gone bad meanwhile", first: publicly, then: backward, harm: spoil, origin: publicOrigin, shared: true, kept: true},
		{name: "gone meanwhile", first: publicly, then: backward, origin: otherOrigin, anew: true,
			harm: func(t testing.TB, s *Store, d Digest) { remove(t, s.blobPath(d)) }},
		{name: "cut short meanwhile", first: publicly, then: backward, origin: otherOrigin, anew: true,
			harm: func(t testing.TB, s *Store, d Digest) {
				if err := os.Truncate(s.blobPath(d), 5); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "evicted meanwhile", first: publicly, then: backward, origin: otherOrigin, anew: true,
			harm: func(t testing.TB, s *Store, d Digest) { s.remove(d) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := open(t, Config{})
			b, _ := blob(1, 3000)
			d := add(t, s, b, tc.first)
			cameAt(t, s, d, came)
			if tc.harm != nil {
				tc.harm(t, s, d)
			}
			if err := putUnknown(s, b, tc.then); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				m, err := s.Meta(d)
				if err != nil || m.Origin != tc.origin || m.Shareable != tc.shared || m.Keep != tc.kept || m.Added.Equal(came) == tc.anew || s.Shareable(d) != tc.shared {
					t.Errorf("Meta = %+v, %v", m, err)
				}
				wantBlob(t, s, d)
				s = reopen(t, s)
			}
		})
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// Whichever of many comes last, the public origin is the one that is known.
func TestPublishedAtTheSameTime(t *testing.T) {
	s := open(t, Config{})
	for i := range uint64(20) {
		b, d := blob(i, 3000)
		var wg sync.WaitGroup
		for k := range 6 {
			m := Meta{Origin: fmt.Sprint("http://10.0.0.7/", k)}
			if k == 3 {
				m = publicly
			}
			wg.Go(func() {
				if err := putUnknown(s, b, m); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if m, err := s.Meta(d); err != nil || !m.Shareable || !m.Keep || m.Origin != publicOrigin {
			t.Errorf("Meta = %+v, %v", m, err)
		}
	}
}
