// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bytes"
	"maps"
	"net/http"
	"testing"
	"time"
)

func init() {
	for name, root := range rootLies {
		lanScenarios["Root"+name] = func(t *testing.T, w *world) { lanLyingRoot(t, w, root) }
	}
	lanScenarios["RootOlder"] = lanOlderRoot
}

// rootLies are what a machine may offer as InRelease. Each is, by its date, newer
// than what the mirror had.
var rootLies = map[string]func(t *testing.T, w *world) http.HandlerFunc{
	"OfAnotherKey": func(t *testing.T, w *world) http.HandlerFunc {
		return giving(newSigningKey(t).clearsign(t, newerArchive(t, w).release()))
	},
	"ChangedAfterSigning": func(t *testing.T, w *world) http.HandlerFunc {
		signed := w.key.clearsign(t, newerArchive(t, w).release())
		return giving(bytes.Replace(signed, []byte("Label: e2e"), []byte("Label: E2E"), 1))
	},
	"OfAnotherSuite": func(t *testing.T, w *world) http.HandlerFunc {
		return giving(w.key.clearsign(t, bytes.ReplaceAll(newerArchive(t, w).release(), []byte(": stable"), []byte(": testing"))))
	},
	"Expired": func(t *testing.T, w *world) http.HandlerFunc {
		expired := w.publish(t, w.only("hello"), suite{age: time.Hour, validUntil: time.Now().Add(-time.Minute)})
		return giving(w.key.clearsign(t, expired.release()))
	},
	"Unsigned": func(t *testing.T, w *world) http.HandlerFunc { return giving(newerArchive(t, w).release()) },
	"Endless": func(*testing.T, *world) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { giveEndless(w, r, nil) }
	},
	"Mute": func(*testing.T, *world) http.HandlerFunc {
		return func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	},
}

func newerArchive(t *testing.T, w *world) *archive {
	t.Helper()
	return w.publish(t, w.only("hello"), suite{age: time.Hour})
}

func giving(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }
}

// startWithRoot makes a site with n machines that know nobody but one that has
// only an InRelease to offer.
func startWithRoot(t *testing.T, w *world, root http.HandlerFunc, n int) (*lanSite, *liar) {
	t.Helper()
	s := newLANSite(t, w, w.standard)
	liar := s.newLiar("66")
	liar.root = root
	liar.home = saying(lanAnswer{State: "none"})
	liar.serve()
	for range n {
		m := s.machine()
		m.serve("--no-mdns", "--lan-peer", liar.ip)
		eventually(t, "the liar is a member", func() bool { return m.knows(liar.id) })
	}
	return s, liar
}

// wantKept fails the test if an update with the mirror down changes the lists of
// a machine that has just updated.
func wantKept(t *testing.T, s *lanSite, m *lanMachine, liar *liar) {
	t.Helper()
	m.update()
	lists := m.client.lists()
	s.mirror.down()
	m.update()
	if !maps.Equal(m.client.lists(), lists) {
		t.Error("a neighbour's InRelease has replaced a better one")
	}
	if liar.times(lanRoot) == 0 {
		t.Error("the neighbour was not asked")
	}
}

// lanLyingRoot: the mirror is down, and the only neighbour offers an InRelease
// that is not to be believed. Who has a good copy keeps it; who has none is told
// that there is none.
func lanLyingRoot(t *testing.T, w *world, root func(t *testing.T, w *world) http.HandlerFunc) {
	s, liar := startWithRoot(t, w, root(t, w), 2)
	settled, fresh := s.machines[0], s.machines[1]
	wantKept(t, s, settled, liar)
	began := time.Now()
	if out, err := fresh.begin("update").wait(); complaint.FindString(out) == "" {
		t.Errorf("apt does not complain: %v\n%s", err, out)
	}
	wantWithin(t, "apt is told that there is no InRelease", began, 10*time.Second)
	if lists := fresh.client.lists(); len(lists) > 0 {
		t.Errorf("the liar's InRelease is believed: %v", lists)
	}
	s.restoreMirror()
	fresh.update()
}

// lanOlderRoot: the mirror is down, and the only neighbour has an older version.
func lanOlderRoot(t *testing.T, w *world) {
	older := w.publish(t, w.only("hello"), suite{age: 24 * time.Hour})
	s, liar := startWithRoot(t, w, giving(w.key.clearsign(t, older.release())), 1)
	wantKept(t, s, s.machines[0], liar)
}
