// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/store"
)

// What others have whole comes from them, and from all of them where it is
// large; no mirror is asked.
func TestHeld(t *testing.T) {
	for _, size := range []int{0, 1, 16 << 10, store.PieceSize - 1, store.PieceSize, store.PieceSize + 1, 5*store.PieceSize + 77, 12*store.PieceSize + 1} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprint(size, known), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t, 4)
					data := randomBytes(1, size)
					want := s.file("f", data)
					if !known {
						want.Size = -1
					}
					for i := range 3 {
						s.node(i).has(data)
					}
					n := s.node(3)
					g := n.mustRead(want, data)
					if g.from != FromLAN || !g.head.Modified.Equal(modified) || g.head.Size != int64(size) || g.first > time.Second {
						t.Errorf("from %s, modified %v, size %d, after %v", g.from, g.head.Modified, g.head.Size, g.first)
					}
					if len(s.requests(want)) > 0 {
						t.Error("the mirror was asked")
					}
					if n.BytesFromLAN() != int64(size) || n.BytesFromMirror() != 0 {
						t.Errorf("%d bytes from others, %d from mirrors", n.BytesFromLAN(), n.BytesFromMirror())
					}
					if _, ok := n.store.Stat(want.Digest); !ok {
						t.Error("it was not stored")
					}
					for i := range 3 {
						if known && size > 10*store.PieceSize && s.node(i).fed == 0 {
							t.Errorf("node %d was asked for nothing", i)
						}
					}
				})
			})
		}
	}
}

// One fetches, the others read from it and from each other.
func TestHerdOfOneFile(t *testing.T) {
	for _, size := range []int{100, 3 * store.PieceSize, 8 * store.PieceSize} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 6)
				data := randomBytes(2, size)
				want := s.file("f", data)
				s.all(want, data, nil)
				if n := len(s.requests(want)); n != 1 {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}
