// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
)

// Lookups go on while generations come and go; each answer is of one of them, and whole.
func TestLookupWhileAdding(t *testing.T) {
	x := openIndex(t, Config{})
	const rounds = 10
	contents := make(map[Digest]bool)
	repos := make([]*repo, rounds)
	for i := range repos {
		content := fmt.Sprintf("content %d", i)
		contents[sha256.Sum256([]byte(content))] = true
		repos[i] = stable(july.AddDate(0, 0, i), "pool/a.deb", content)
		contents[sha256.Sum256(repos[i].files[list])] = true
	}
	repos[0].publish(t, x, dists)
	repos[0].parse(t, x, dists, list)

	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, name := range []string{base + "/pool/a.deb", dists + "/" + list} {
					if e := x.Lookup(name, alice); e.Kind == KindUnknown || !contents[e.Digest] {
						t.Errorf("%s: got %+v", name, e)
					}
				}
				x.Wanted(base + "/pool/a.deb")
				x.Mirrors(base + "/pool/a.deb")
				x.InUse(func(Digest) bool { return true })
			}
		})
	}
	for _, r := range repos {
		root := r.publish(t, x, dists)
		x.GaveRoot(dists+"/InRelease", root, alice)
		r.parse(t, x, dists, list+".gz")
		x.tidy()
	}
	close(stop)
	readers.Wait()
}
