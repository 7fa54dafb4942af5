// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/proxy/fetch"
)

// A liar is set aside for a day, by its id and by its address; others are not.
func TestLiars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Liars
		at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), port) }
		liar := fetch.Peer{ID: "a", Addr: at(1)}
		if l.Has(liar) || l.About(liar) != "" {
			t.Error("one who has done nothing is set aside")
		}
		if !l.Add(liar, "it lied") || l.Add(liar, "again") {
			t.Error("it is not told apart who is set aside already")
		}
		for p, want := range map[fetch.Peer]bool{
			liar: true, {ID: "a", Addr: at(2)}: true, {ID: "b", Addr: at(1)}: true, {ID: "b", Addr: at(2)}: false,
		} {
			if l.Has(p) != want || (l.About(p) == "again") != want {
				t.Errorf("%v is set aside: %t, for %q", p, l.Has(p), l.About(p))
			}
		}
		time.Sleep(asideFor)
		if l.Has(liar) {
			t.Error("after a day it is still set aside")
		}
		for i := range 3 * maxLiars {
			l.Add(fetch.Peer{ID: string(rune(i)), Addr: at(uint16(i))}, "x")
		}
		if len(l.byID) > maxLiars || len(l.byAddr) > maxLiars {
			t.Errorf("%d are remembered", len(l.byID))
		}
	})
}
