// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func init() {
	scenarios["PasswordInTheLine"] = passwordInTheLine
	for _, sum := range []string{"SHA256", "SHA512"} {
		scenarios["ByHash"+sum] = func(t *testing.T, w *world) { byHash(t, w, sum) }
	}
	scenarios["NoByHash"] = noByHash
	scenarios["NoSHA256"] = noSHA256
	scenarios["DetachedSignature"] = detachedSignature
	scenarios["FlatTop"] = func(t *testing.T, w *world) { flatRepository(t, w, "./") }
	scenarios["FlatSlash"] = func(t *testing.T, w *world) { flatRepository(t, w, "/") }
	scenarios["FlatBelow"] = func(t *testing.T, w *world) { flatRepository(t, w, "sub/") }
	for _, ext := range []string{"", ".gz", ".bz2", ".lzma", ".xz", ".lz4", ".zst"} {
		scenarios["Compression"+ext] = func(t *testing.T, w *world) { compression(t, w, ext) }
	}
	scenarios["Pdiffs"] = pdiffs
	scenarios["PublishedBetweenRequests"] = publishedBetweenRequests
	scenarios["PathWithNewBytes"] = pathWithNewBytes
}

// coldAndWarm serves a repository to two machines, one after the other.
func coldAndWarm(t *testing.T, w *world, s suite) *mirror {
	t.Helper()
	m := newMirror(t, w.publish(t, w.everything(), s))
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	wantColdAndWarm(t, w, m, w.source(m.url()), n.proxied())
	return m
}

// byHash: indexes are asked for by a hash in their path, the strongest that
// the Release file has.
func byHash(t *testing.T, w *world, strongest string) {
	a := w.publish(t, w.everything(), suite{sums: slices.Compact([]string{"SHA256", strongest})})
	m := newMirror(t, a)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	newClient(t, w.source(m.url()), n.proxied()).update()
	if len(m.asked("/by-hash/"+strongest+"/")) == 0 {
		t.Errorf("nothing was asked for by its %s", strongest)
	}
	if got := m.asked("/by-hash/"); len(got) > 2 {
		t.Errorf("apt needs Packages and Sources, each in one form; the mirror was asked for %d files: %v", len(got), got)
	}
	m.forget()
	newClient(t, w.source(m.url()), n.proxied()).update()
	m.wantOnlyRoots()
	// The same file under its other name needs no second crossing.
	newClient(t, w.source(m.url()), n.proxied(), `Acquire::By-Hash "no";`).update()
	m.wantOnlyRoots()
}

// noByHash: indexes are asked for by plain names, which change their meaning.
func noByHash(t *testing.T, w *world) {
	coldAndWarm(t, w, suite{noByHash: true})
}

// noSHA256: the Release file has hashes, but none that names a blob.
func noSHA256(t *testing.T, w *world) {
	m := newMirror(t, w.publish(t, w.everything(), suite{sums: []string{"SHA512"}}))
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	for _, machine := range []string{"cold", "warm"} {
		c := newClient(t, w.source(m.url()), n.proxied())
		c.update()
		c.download("e2e-everything")
		c.wantPackages(w.everything())
		if machine == "cold" {
			m.wantOnce()
		}
	}
	// The mirror was asked again whether they are the same, and that was all.
	for _, p := range w.everything() {
		if got := m.sent(p.escaped()); got != p.length {
			t.Errorf("%s: %d bytes came from the mirror, want %d", p.file, got, p.length)
		}
	}
}

// detachedSignature: InRelease is not there, Release and Release.gpg are.
func detachedSignature(t *testing.T, w *world) {
	coldAndWarm(t, w, suite{detached: true})
}

// flatRepository: no dists, no components.
func flatRepository(t *testing.T, w *world, dir string) {
	a := w.publish(t, w.everything(), suite{flat: dir})
	m := newMirror(t, a)
	sources := []string{"deb [signed-by=" + w.key.armored + "] " + m.url() + " " + dir}
	n := startNode(t, nodeConfig{sources: sources})
	wantColdAndWarm(t, w, m, sources, n.proxied())
}

// passwordInTheLine: a repository for which one needs a password, which is in the
// line of sources.list. What came of it is not stored.
func passwordInTheLine(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	m.misbehave(func(a *answer, r *http.Request) bool {
		if user, password, ok := r.BasicAuth(); ok && user == "me" && password == "secret" {
			return false
		}
		a.Header().Set("WWW-Authenticate", `Basic realm="us"`)
		http.Error(a, "who are you", http.StatusUnauthorized)
		return true
	})
	sources := w.source(strings.Replace(m.url(), "http://", "http://me:secret@", 1))
	n := startNode(t, nodeConfig{sources: sources})
	c := newClient(t, sources, n.proxied())
	c.update()
	c.download("hello")
	c.wantPackages(w.only("hello"))
	if stored := n.status().Store.Blobs; stored > 0 {
		t.Errorf("%d files are stored", stored)
	}
	if strings.Contains(n.log.String(), "secret") {
		t.Error("the password is in the log")
	}
}

// compression: the indexes come in one form alone.
func compression(t *testing.T, w *world, ext string) {
	coldAndWarm(t, w, suite{compressions: []string{ext}})
}

// pdiffs: a machine that updates by patches never asks for the index itself,
// and yet the node learns what the new index names.
func pdiffs(t *testing.T, w *world) {
	first := w.publish(t, w.allBut("e2e-new", "hello"), suite{age: 4 * time.Hour})
	second := w.publish(t, w.allBut("e2e-new"), suite{age: 3 * time.Hour, previous: []*archive{first}})
	third := w.publish(t, w.allBut(), suite{age: 2 * time.Hour, previous: []*archive{first, second}})
	m := newMirror(t, first)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	var machines []*client
	for range 2 {
		c := newClient(t, w.source(m.url()), `Acquire::PDiffs "true";`)
		c.update() // not through the node
		c.configure(n.proxied(), `Acquire::PDiffs "true";`)
		machines = append(machines, c)
	}
	m.publish(third)
	m.forget()
	for _, c := range machines {
		c.update()
	}
	if len(m.asked("/Packages.diff/")) < 3 {
		t.Error("apt did not update by patches")
	}
	eventually(t, "the node knows the files of the new index", func() bool {
		return n.status().Index.Files >= len(third.packages)
	})
	for _, c := range machines {
		c.download("e2e-new", "hello")
		c.wantPackages(w.only("e2e-new", "hello"))
		m.wantOnce()
		m.down()
	}
}

// publishedBetweenRequests: the mirror publishes a new version after apt has
// asked for InRelease and before it asks for the indexes.
func publishedBetweenRequests(t *testing.T, w *world) {
	first := w.publish(t, w.allBut("e2e-new"), suite{age: 4 * time.Hour, noByHash: true})
	second := w.publish(t, w.allBut(), suite{age: 2 * time.Hour, noByHash: true})
	m := newMirror(t, first)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	newClient(t, w.source(m.url()), n.proxied()).update()
	m.misbehave(onlyFor("InRelease", times(1, func(a *answer, r *http.Request) bool {
		serveFile(a, r, first.root)
		m.publish(second)
		return true
	})))
	c := newClient(t, w.source(m.url()), n.proxied())
	c.update()
	if strings.Contains(c.list("Packages"), "e2e-new") {
		t.Error("the machine has a newer list than its InRelease names")
	}
	c.update()
	if !strings.Contains(c.list("Packages"), "e2e-new") {
		t.Error("the machine's second update did not bring the new version")
	}
	c.download("e2e-new")
}

// pathWithNewBytes: a third party's archive gives the same version, path and
// size to another file.
func pathWithNewBytes(t *testing.T, w *world) {
	p := w.packages["hello"].debPackage
	p.seed = "rebuilt"
	rebuilt := []builtPackage{buildPackage(t, t.TempDir(), p)}
	m := newMirror(t, w.publish(t, w.only("hello"), suite{age: 4 * time.Hour}))
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	early := newClient(t, w.source(m.url()), n.proxied())
	early.update()
	early.download("hello")
	early.wantPackages(w.only("hello"))

	m.publish(w.publish(t, rebuilt, suite{age: 2 * time.Hour}))
	late := newClient(t, w.source(m.url()), n.proxied())
	late.update()
	late.download("hello")
	late.wantPackages(rebuilt)
	early.clean()
	early.update()
	early.download("hello")
	early.wantPackages(rebuilt)
}
