// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"apt-dht/store/inplace"
)

// reporting is a share's report without a share.
type reporting struct {
	sharer
	log  bytes.Buffer
	told reported
}

func newReporting() *reporting {
	r := new(reporting)
	r.sharer = sharer{cfg: shareConfig{Dir: "/srv/debian"}, log: slog.New(slog.NewTextHandler(&r.log, nil))}
	return r
}

// says returns what is logged of that state when it is looked at so often.
func (r *reporting) says(st inplace.Stats, times int) string {
	r.log.Reset()
	for range times {
		r.tellPrivate(&r.told, st)
		r.tellFiles(&r.told, st)
	}
	return r.log.String()
}

func TestPrivateIsTold(t *testing.T) {
	r := newReporting()
	st := inplace.Stats{Scanned: true, Files: 1, Private: inplace.Private{Files: 2, Dirs: 1, First: "pool/a.deb"}}
	const told = `level=WARN msg="not given, because not every user of this machine may read them" files=2 directories=1 first=/srv/debian/pool/a.deb`
	if got := r.says(st, 3); strings.Count(got, told) != 1 || strings.Count(got, "all files are hashed") != 1 {
		t.Errorf("at first: %s", got)
	}
	st.Private.Files++
	if got := r.says(st, 3); got != "" {
		t.Errorf("with one more: %s", got)
	}
	if got := r.says(inplace.Stats{Scanned: true, Files: 1}, 1); got != "" {
		t.Errorf("with none: %s", got)
	}
	if got := r.says(st, 3); strings.Count(got, "not given") != 1 {
		t.Errorf("with some again: %s", got)
	}
}

func TestNothingToGiveIsTold(t *testing.T) {
	const told = "there is no file to give"
	empty := inplace.Stats{Scanned: true, Empty: true}
	closed := empty
	closed.Private = inplace.Private{Dirs: 1, First: "pool"}
	for name, tt := range map[string]struct {
		states []inplace.Stats
		times  int
		want   int
		advice string
	}{
		"not scanned":       {[]inplace.Stats{{}}, 2 * emptyAfter, 0, ""},
		"empty":             {[]inplace.Stats{empty}, 1, 1, "is it the right directory?"},
		"still empty":       {[]inplace.Stats{empty}, 2 * emptyAfter, 1, ""},
		"closed":            {[]inplace.Stats{closed}, 1, 1, "chmod -R o+rX /srv/debian"},
		"too new":           {[]inplace.Stats{{Scanned: true}}, emptyAfter - 1, 0, ""},
		"gone":              {[]inplace.Stats{{Scanned: true, Files: 1}, {Scanned: true}}, emptyAfter, 1, ""},
		"gone twice":        {[]inplace.Stats{{Scanned: true}, {Scanned: true, Files: 1}, {Scanned: true}}, emptyAfter, 2, ""},
		"about to be there": {[]inplace.Stats{{Scanned: true, Waiting: 1}}, 2 * emptyAfter, 0, ""},
	} {
		r := newReporting()
		log := ""
		for _, st := range tt.states {
			log += r.says(st, tt.times)
		}
		if strings.Count(log, told) != tt.want || !strings.Contains(log, tt.advice) {
			t.Errorf("%s: %s", name, log)
		}
	}
}
