// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeLAN is a network whose machines name proxies.
type fakeLAN struct {
	names []string
	far   []string // not on the link
	asked int
}

func (l *fakeLAN) FindProxies(_ context.Context, found func(netip.AddrPort)) {
	l.asked++
	for _, name := range l.names {
		found(netip.MustParseAddrPort(name))
	}
}

func (l *fakeLAN) Near(addr netip.Addr) bool { return !slices.Contains(l.far, addr.String()) }
func (l *fakeLAN) String() string            { return "test" }

func testDetector(t *testing.T, lan *fakeLAN, own ...string) *detector {
	t.Helper()
	return &detector{own: own, hosts: os.DevNull, links: lan, book: openNotesIn(t, t.TempDir()), log: silentLog, waits: waits{
		own: testPatience, near: testPatience, refusal: testPatience, search: testPatience, settle: testPatience / 2,
	}}
}

// nobody listens there (tcpmux, RFC 1078).
const nobody = "127.0.0.1:1"

const (
	plainURL  = "http://deb.example/debian/dists/stable/InRelease"
	secureURL = "https://deb.example/debian/dists/stable/InRelease"
)

func TestChoose(t *testing.T) {
	node := newFakeProxy(t, nodesUsage, found, found)
	acng := newFakeProxy(t, acngsUsage, found, forbidden)
	picky := newFakeProxy(t, nodesUsage, forbidden, forbidden)
	slow := newFakeProxy(t, nodesUsage, silence, silence)
	strict := newFakeProxy(t, forbidden, forbidden, forbidden)
	web := newFakeProxy(t, webPage, found, found)
	dumb := newFakeProxy(t, silence, silence, silence)
	for _, tt := range []struct {
		why   string
		own   string
		lan   []string
		plain string
		tls   string
	}{
		{"nothing at all", nobody, nil, "", ""},
		{"the own node", node.addr, []string{acng.addr}, node.addr, node.addr},
		{"an own node that is slow with https", slow.addr, []string{node.addr}, slow.addr, slow.addr},
		{"an own node that refuses https", picky.addr, []string{node.addr}, picky.addr, node.addr},
		{"another server at the own node's port", web.addr, nil, "", ""},
		{"apt-cacher-ng at the own node's port", acng.addr, nil, "", ""},
		{"an own node that hangs", dumb.addr, []string{node.addr}, node.addr, node.addr},
		{"an office proxy", nobody, []string{node.addr}, node.addr, node.addr},
		{"apt-cacher-ng", nobody, []string{acng.addr}, acng.addr, ""},
		{"apt-cacher-ng and an apt-dht", nobody, []string{acng.addr, node.addr}, node.addr, node.addr},
		{"an apt-dht that refuses the repository", nobody, []string{acng.addr, picky.addr}, acng.addr, ""},
		{"proxies that do not serve us", nobody, []string{strict.addr, web.addr, nobody}, "", ""},
		{"those and one that does", nobody, []string{strict.addr, web.addr, nobody, dumb.addr, acng.addr}, acng.addr, ""},
		{"one that has yet to hear from the mirror", nobody, []string{slow.addr}, slow.addr, slow.addr},
	} {
		for url, want := range map[string]string{plainURL: tt.plain, secureURL: tt.tls} {
			if want == "" {
				want = direct
			} else {
				want = "http://" + want
			}
			t.Run(tt.why, func(t *testing.T) {
				t.Parallel()
				d := testDetector(t, &fakeLAN{names: tt.lan}, tt.own)
				for _, when := range []string{"at first", "from notes"} {
					if got := d.choose(t.Context(), url); got != want {
						t.Errorf("%s, %s: got %s, want %s", url, when, got, want)
					}
				}
			})
		}
	}
}

// TestThousandsOfProxies names more than there can be, none of which is one.
func TestThousandsOfProxies(t *testing.T) {
	lan := &fakeLAN{}
	for range 32 {
		lan.names = append(lan.names, newFakeProxy(t, silence, silence, silence).addr)
	}
	d := testDetector(t, lan, nobody)
	start := time.Now()
	if got := d.choose(t.Context(), plainURL); got != direct || time.Since(start) > 4*testPatience {
		t.Errorf("%s after %v", got, time.Since(start))
	}
}

// TestNotesSpareTheLAN: a second call asks no network again, notices all the
// same that a proxy has gone, and then looks for another.
func TestNotesSpareTheLAN(t *testing.T) {
	first, second := newFakeProxy(t, nodesUsage, found, found), newFakeProxy(t, nodesUsage, found, found)
	lan := &fakeLAN{names: []string{first.addr}}
	d := testDetector(t, lan, nobody)
	for range 3 {
		if got := d.choose(t.Context(), plainURL); got != "http://"+first.addr {
			t.Fatal(got)
		}
	}
	if lan.asked != 1 {
		t.Errorf("the LAN was asked %d times", lan.asked)
	}
	heads := slices.DeleteFunc(first.requests(), func(line string) bool { return !strings.HasPrefix(line, "HEAD ") })
	if want := []string{"HEAD http://deb.example/debian/dists/stable/InRelease HTTP/1.1"}; !slices.Equal(heads, want) {
		t.Errorf("the proxy was asked %q", heads)
	}
	// The first proxy is gone now, and the second has come.
	n := d.book.read(lan.String(), time.Now())
	n.Proxies, n.changed = []string{nobody, "nonsense", "8.8.8.8:3142"}, true
	d.book.write(n)
	lan.names, lan.far = []string{second.addr}, []string{"8.8.8.8"}
	if got := d.choose(t.Context(), plainURL); got != "http://"+second.addr || lan.asked != 2 {
		t.Errorf("%s, the LAN was asked %d times", got, lan.asked)
	}
	// That there is none is noted, too.
	lan.names = nil
	d = testDetector(t, lan, nobody)
	for range 3 {
		if got := d.choose(t.Context(), plainURL); got != direct {
			t.Error(got)
		}
	}
	if lan.asked != 3 {
		t.Errorf("the LAN was asked %d times", lan.asked)
	}
}

// TestChooseWithoutLAN: names of this machine's own are not for others, and
// with mDNS turned off nobody is asked.
func TestChooseWithoutLAN(t *testing.T) {
	lan := &fakeLAN{names: []string{newFakeProxy(t, nodesUsage, found, found).addr}}
	d := testDetector(t, lan, nobody)
	for _, url := range []string{"http://localhost/x", "http://10.0.0.7/x", "http://u:p@deb.example/x", "nonsense", ""} {
		if got := d.choose(t.Context(), url); got != direct {
			t.Errorf("%q: %s", url, got)
		}
	}
	d.links = nil
	if got := d.choose(t.Context(), plainURL); got != direct || lan.asked > 0 {
		t.Errorf("%s, the LAN was asked %d times", got, lan.asked)
	}
}
