// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"
)

// bigIndex has as many suites as told above one pool, each with a list of its own.
func bigIndex(t testing.TB, cfg Config, suites, files int) *Index {
	t.Helper()
	x := openIndex(t, cfg)
	for s := range suites {
		names := make([]string, 0, 2*files)
		for i := range files {
			names = append(names, fmt.Sprintf("pool/main/p/package%d/package%d_%d_amd64.deb", i, i, s), "x")
		}
		dir := fmt.Sprintf("%s/dists/suite%d", base, s)
		r := stable(july, names...)
		r.publish(t, x, dir)
		r.parse(t, x, dir, list)
	}
	return x
}

func TestLookupDoesNotAllocate(t *testing.T) {
	x := bigIndex(t, Config{}, 2, 100)
	root := x.suites[base+"/dists/suite0"].generations[0].root
	x.GaveRoot(base+"/dists/suite0/InRelease", root, alice)
	for _, name := range []string{
		base + "/pool/main/p/package1/package1_1_amd64.deb",
		base + "/pool/main/p/package1/missing.deb",
		base + "/dists/suite0/" + list,
		base + "/dists/suite0/InRelease",
		fmt.Sprintf("%s/dists/suite0/main/by-hash/SHA256/%x", base, root),
	} {
		if n := testing.AllocsPerRun(100, func() { x.Lookup(name, alice) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, suites := range []int{1, 10} {
		x := bigIndex(b, Config{}, suites, 60_000)
		for _, bm := range []struct{ name, path string }{
			{"hit", "/pool/main/p/package%d/package%d_0_amd64.deb"},
			{"miss", "/pool/main/p/package%d/missing%d.deb"},
		} {
			names := make([]string, 10_000)
			for i := range names {
				names[i] = base + fmt.Sprintf(bm.path, 5*i, 5*i)
			}
			b.Run(fmt.Sprintf("suites=%d/%s", suites, bm.name), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					x.Lookup(names[i%len(names)], alice)
				}
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	cfg := Config{Dir: b.TempDir(), Trust: loadTrust(b)}
	bigIndex(b, cfg, 10, 60_000)
	for b.Loop() {
		openIndex(b, cfg)
	}
}

func BenchmarkAddFile(b *testing.B) {
	names := make([]string, 0, 120_000)
	for i := range 60_000 {
		names = append(names, fmt.Sprintf("pool/main/p/package%d_amd64.deb", i), "x")
	}
	r := stable(july, names...)
	body := r.files[list]
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		x := openIndex(b, Config{})
		r.publish(b, x, dists)
		if err := x.AddFile(dists+"/"+list, sha256.Sum256(body), bytes.NewReader(body)); err != nil {
			b.Fatal(err)
		}
	}
}
