// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

func init() {
	scenarios["MirrorDown"] = mirrorDown
	scenarios["MirrorDownAfterValidUntil"] = mirrorDownAfterValidUntil
	scenarios["CaptivePortal"] = captivePortal
	scenarios["CaptivePortalAfterAGoodCopy"] = captivePortalAfterAGoodCopy
	scenarios["WrongBytesOnce"] = wrongBytesOnce
	scenarios["WrongBytesAlways"] = wrongBytesAlways
	for name, f := range map[string]fault{"Resets": reset, "IsShort": shorten, "Stalls": stall} {
		scenarios["Mirror"+name] = func(t *testing.T, w *world) { mendedByNode(t, w, times(1, f)) }
	}
	for name, f := range map[string]fault{"IsMute": times(1, mute), "IsUnavailable": times(3, failWith(http.StatusServiceUnavailable))} {
		scenarios["Mirror"+name] = func(t *testing.T, w *world) { mendedByApt(t, w, f) }
	}
	scenarios["MirrorFailsOver"] = mirrorFailsOver
	scenarios["MirrorFailsOverOnWrongBytes"] = mirrorFailsOverOnWrongBytes
	scenarios["NotFound"] = notFound
	scenarios["Redirects"] = redirects
}

// mirrorDown: what is stored is there; what is not fails with the reason.
func mirrorDown(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	c := newClient(t, w.source(m.url()), n.proxied())
	c.update()
	c.download("e2e-everything")

	m.down()
	newer := newClient(t, w.source(m.url()), n.proxied())
	newer.update()
	newer.download("e2e-everything")
	newer.wantPackages(w.everything())
	newer.mustFail("connection refused", "install", "--download-only", "e2e-big")

	m.up()
	newer.update()
	newer.download("e2e-big")
	newer.wantPackages(w.allBut("e2e-new"))
}

// mirrorDownAfterValidUntil: a copy that has expired is not given out without
// the mirror, though these machines' apt would take it.
func mirrorDownAfterValidUntil(t *testing.T, w *world) {
	m := newMirror(t, w.publish(t, w.everything(), suite{age: 48 * time.Hour, validUntil: time.Now().Add(-time.Hour)}))
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	lax := `Acquire::Check-Valid-Until "false";`
	c := newClient(t, w.source(m.url()), n.proxied(), lax)
	c.update()
	c.update()
	m.down()
	c.mustFail("expired", "update")
	newClient(t, w.source(m.url()), n.proxied(), lax).mustFail("expired", "update")
}

// captivePortal: a hotel's login page in the place of every file.
func captivePortal(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	c := newClient(t, w.source(m.url()))
	c.update() // not through the node
	lists := c.lists()

	m.misbehave(portal)
	c.configure(n.proxied())
	c.mustFail("apt-dht", "update")
	if !maps.Equal(c.lists(), lists) {
		t.Error("apt's lists have changed")
	}
	c.apt("install", "--download-only", "hello")
	n.wantNotStored("Welcome to the hotel")
	m.down()
	if resp, body := n.get(n.prefixed(m.url() + "/" + w.packages["hello"].file)); resp.StatusCode == http.StatusOK {
		t.Errorf("a package is answered with %q", body)
	}
	m.up()

	m.misbehave(nil)
	c.update()
	c.download("hello")
	c.wantPackages(w.only("hello"))
}

// captivePortalAfterAGoodCopy: the last good copy does instead.
func captivePortalAfterAGoodCopy(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	newClient(t, w.source(m.url()), n.proxied()).update()
	m.misbehave(portal)
	newClient(t, w.source(m.url()), n.proxied()).update()
	n.wantNotStored("Welcome to the hotel")
}

// wrongBytesOnce: apt asks again and gets the right ones.
func wrongBytesOnce(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	c := newClient(t, w.source(m.url()), n.proxied(), `Acquire::Retries "3";`)
	c.update()
	small, big := times(1, wrongByte), times(1, wrongByte)
	m.misbehave(func(a *answer, r *http.Request) bool {
		return onlyFor("hello", small)(a, r) || onlyFor("e2e-big", big)(a, r)
	})
	if out, err := c.apt("install", "--download-only", "e2e-everything", "e2e-big"); err != nil {
		t.Fatalf("apt did not recover: %v\n%s", err, out)
	}
	c.wantPackages(w.allBut("e2e-new"))
}

// wrongBytesAlways: apt fails, and they are stored nowhere.
func wrongBytesAlways(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	c := newClient(t, w.source(m.url()), n.proxied(), `Acquire::Retries "3";`)
	c.update()
	m.misbehave(onlyFor("e2e-big", wrongByte))
	if out, err := c.apt("install", "--download-only", "e2e-big", "hello"); err == nil {
		t.Fatalf("apt takes wrong bytes:\n%s", out)
	}
	c.wantPackages(w.only("hello"))
	body := readFile(t, w.packages["e2e-big"].deb)
	n.wantNotStored(string(body[bigSize/2 : bigSize/2+64]))

	m.misbehave(nil)
	c.download("e2e-big")
	c.wantPackages(w.only("hello", "e2e-big"))
}

// mendedByNode: an answer that breaks is taken up where it broke; apt, which
// would not try again, does not notice.
func mendedByNode(t *testing.T, w *world, f fault) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	c := newClient(t, w.source(m.url()), n.proxied())
	c.update()
	m.misbehave(onlyFor("e2e-big", f))
	c.download("e2e-big", "e2e-everything")
	c.wantPackages(w.allBut("e2e-new"))
	wantCrossed(t, w, m, inFlight)
}

// mendedByApt: where the mirror does not even begin to answer, apt gets an
// answer after which it tries again, and the files beside it are not held up.
func mendedByApt(t *testing.T, w *world, f fault) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	c := newClient(t, w.source(m.url()), n.proxied(), `Acquire::Retries "3";`)
	c.update()
	m.misbehave(onlyFor("e2e-big", f))
	if out, err := c.apt("install", "--download-only", "e2e-big", "e2e-everything"); err != nil {
		t.Fatalf("apt did not recover: %v\n%s", err, out)
	}
	c.wantPackages(w.allBut("e2e-new"))
}

// mirrorFailsOver: two mirrors of one archive are in the sources. One goes down
// in the middle of a file, and the other brings the rest.
func mirrorFailsOver(t *testing.T, w *world) {
	first, second := newMirror(t, w.standard), newMirror(t, w.standard)
	sources := append(w.source(first.url()), w.source(second.url())...)
	n := startNode(t, nodeConfig{sources: sources})
	c := newClient(t, sources, n.proxied())
	c.update()
	r, g := halfway(t, w, n, first, c)
	second.forget()
	first.down()
	g.open()
	out, err := r.wait()
	c.wantFine("install", out, err)
	c.wantPackages(w.only("e2e-big"))
	rest := second.asked(bigURI)
	if len(rest) != 1 || rest[0].rng == "" {
		t.Errorf("the other mirror was not asked for just the rest: %v", rest)
	}

	c.download("e2e-everything")
	newClient(t, w.source(first.url()), n.proxied()).update()
	if n := len(second.asked("InRelease")); n == 0 {
		t.Error("the other mirror was not asked for a newer InRelease")
	}
}

// mirrorFailsOverOnWrongBytes: the mirror has other bytes than the index names,
// and another mirror has the right ones.
func mirrorFailsOverOnWrongBytes(t *testing.T, w *world) {
	first, second := newMirror(t, w.standard), newMirror(t, w.standard)
	sources := append(w.source(first.url()), w.source(second.url())...)
	n := startNode(t, nodeConfig{sources: sources})
	c := newClient(t, sources, n.proxied(), `Acquire::Retries "3";`)
	c.update()
	first.misbehave(onlyFor(".deb", wrongByte))
	if out, err := c.apt("install", "--download-only", "e2e-big"); err != nil {
		t.Fatalf("apt did not recover: %v\n%s", err, out)
	}
	c.wantPackages(w.only("e2e-big"))
	if len(second.asked(bigURI)) == 0 {
		t.Error("the other mirror was not asked")
	}
}

// notFound: what the mirror does not have stays a 404, the only answer that
// lets apt look elsewhere.
func notFound(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	newClient(t, w.source(m.url()), n.proxied()).update()
	for range 2 {
		resp, body := n.get(n.prefixed(m.url() + "/pool/main/n/none/none_1.0_all.deb"))
		if resp.StatusCode != http.StatusNotFound || !strings.Contains(body, "not here") {
			t.Errorf("got %s, %q, want the mirror's own 404", resp.Status, body)
		}
	}
	bogus := []string{strings.Replace(w.source(m.url())[0], " stable ", " nosuite ", 1)}
	newClient(t, bogus, n.proxied()).mustFail("404  Not Found", "update")
}

// redirects: a mirror that sends clients elsewhere for packages.
func redirects(t *testing.T, w *world) {
	m, other := newMirror(t, w.standard), newMirror(t, w.standard)
	m.misbehave(onlyFor("/pool/", redirectTo(other)))
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	wantColdAndWarm(t, w, m, w.source(m.url()), n.proxied())
	other.wantOnce()
}
