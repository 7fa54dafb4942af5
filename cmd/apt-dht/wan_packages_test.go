// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"fmt"
	"strings"
	"testing"
)

// wanSizes are those of the packages of the two sets, net-a-… and net-b-…: some
// below what peers are asked for, some of one piece, some of several.
var wanSizes = map[string][]int{
	"a": {1_000, 30_000, 70_000, 100_000, 200_000, 300_000, 500_000, 900_000, 1_200_000, 2_000_000, 12_000_000},
	"b": {3_000, 50_000, 68_000, 150_000, 250_000, 400_000, 700_000, 1_000_000, 1_500_000, 2_500_000, 5_000_000},
}

// newWANWorld is a world with those packages.
func newWANWorld(t *testing.T) *world {
	t.Helper()
	var list []debPackage
	for set, sizes := range wanSizes {
		for i, size := range sizes {
			name := fmt.Sprintf("net-%s-%02d", set, i)
			list = append(list, debPackage{name: name, version: "1.0", file: "pool/main/n/net/" + name + "_1.0_all.deb", size: size})
		}
	}
	w := &world{key: newSigningKey(t)}
	dir := t.TempDir()
	w.packages = buildPackages(t, dir, list)
	w.sources = buildSource(t, dir)
	w.standard = w.publish(t, w.allBut(), suite{})
	return w
}

// set is the packages of one of the sets, in the order of their sizes.
func (w *world) set(letter string) (list []builtPackage) {
	for _, p := range w.allBut() {
		if strings.HasPrefix(p.name, "net-"+letter) {
			list = append(list, p)
		}
	}
	return list
}

// largest is the package of the most pieces.
func (w *world) largest() builtPackage { return w.packages["net-a-10"] }
