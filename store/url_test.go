// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

func TestURLRecords(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 1000)
	add(t, s, b, Meta{})
	now := time.Unix(1_700_000_000, 0).UTC()
	full := URLRecord{Digest: d, Modified: now, ETag: `W/"x"`, ContentType: "text/plain", Fetched: now.Add(1e9), Confirmed: now.Add(2e9),
		FreshUntil: now.Add(3e9), ValidUntil: now.Add(4e9), Root: true}
	records := map[string]URLRecord{
		"http://a/InRelease": full,
		"http://a/unknown":   {Digest: d},
		"http://a/%253a?q":   {Digest: d, ETag: "<>&\x00é"},
	}
	for url, rec := range records {
		if err := s.PutURL(url, rec); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		for url, want := range records {
			if got, err := s.GetURL(url); got != want || err != nil {
				t.Errorf("%s: %+v, %v, want %+v", url, got, err, want)
			}
		}
		if got := maps.Collect(s.Roots); len(got) != 1 || got["http://a/InRelease"] != full {
			t.Errorf("Roots = %v", got)
		}
	}
	check()
	s = reopen(t, s)
	check()
	for _, url := range []string{"http://a/InReleas", "http://a/InRelease/", ""} {
		_, err := s.GetURL(url)
		wantErr(t, err, ErrNotFound)
	}
	if _, err := s.remove(d); err != nil {
		t.Fatal(err)
	}
	_, err := s.GetURL("http://a/InRelease")
	wantErr(t, err, ErrNotFound)
	for url := range s.Roots {
		t.Errorf("root %s of a blob that is gone", url)
	}
	s.sweep()
	s.rows.each([]byte{kindURL}, func(r row) bool { t.Errorf("row %q is left", r.key); return true })
}

func TestURLBounds(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 1000)
	add(t, s, b, Meta{})
	long := strings.Repeat("x", 5000)
	wantErr(t, s.PutURL(long, URLRecord{Digest: d}), ErrTooLong)
	wantErr(t, s.PutURL("", URLRecord{Digest: d}), ErrTooLong)
	wantErr(t, s.PutURL("u", URLRecord{Digest: d, ETag: long}), ErrTooLong)
	wantErr(t, s.PutURL("u", URLRecord{Digest: d, ContentType: long}), ErrTooLong)
	if err := s.PutURL(long[:maxURL], URLRecord{Digest: d}); err != nil {
		t.Error(err)
	}
}

// Beyond their number the oldest go, root files last.
func TestURLCount(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 1000)
	add(t, s, b, Meta{})
	var batch []row
	for i := range maxURLs + 10 {
		rec := URLRecord{Digest: d, Confirmed: time.Unix(int64(1000+i), 0), Root: i < 5}
		batch = append(batch, encodeURL(fmt.Sprintf("http://a/%d", i), rec))
	}
	if err := s.rows.write(batch); err != nil {
		t.Fatal(err)
	}
	s.urlPuts.Store(sweepEvery - 1)
	if err := s.PutURL("http://a/last", URLRecord{Digest: d, Confirmed: time.Unix(1<<31, 0)}); err != nil {
		t.Fatal(err)
	}
	n := 0
	s.rows.each([]byte{kindURL}, func(row) bool { n++; return true })
	if n != maxURLs {
		t.Errorf("%d records, want %d", n, maxURLs)
	}
	for url, want := range map[string]bool{"0": true, "4": true, "5": false, "15": false, "16": true, "last": true} {
		if _, err := s.GetURL("http://a/" + url); (err == nil) != want {
			t.Errorf("record %s: %v", url, err)
		}
	}
}

func FuzzURLRecord(f *testing.F) {
	f.Add("http://deb.debian.org/debian/dists/sid/InRelease", `"abc"`, "text/plain", int64(1), int64(2), true)
	f.Add("u", "\xff\x00", "", int64(-1), int64(1<<40), false)
	f.Fuzz(func(t *testing.T, url, etag, ctype string, modified, fresh int64, root bool) {
		want := URLRecord{Digest: Digest{7}, ETag: etag, ContentType: ctype, Modified: timeOf(modified % (1 << 40)), FreshUntil: timeOf(fresh % (1 << 40)), Root: root}
		got, ok := decodeURL(encodeURL(url, want))
		if !ok || got != want {
			t.Errorf("%+v became %+v, %v", want, got, ok)
		}
	})
}
