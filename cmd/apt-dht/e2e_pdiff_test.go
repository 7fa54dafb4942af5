// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

// writePdiffs writes Packages.diff: patches from each earlier version to the
// next, and the Index of them (Debian's RepositoryFormat, 'Indices acquisition
// via diff').
func (a *archive) writePdiffs(t *testing.T) {
	t.Helper()
	if len(a.previous) == 0 {
		return
	}
	var history, patches, downloads strings.Builder
	for i, old := range a.previous {
		next := a.plain
		if i+1 < len(a.previous) {
			next = a.previous[i+1].plain
		}
		name := fmt.Sprintf("2026-01-%02d-0000.00", i+1)
		patch := edScript(old.plain, next)
		packed := compressed(t, ".gz", patch)
		writeFile(t, a.dists(packagesDir, "Packages.diff", name+".gz"), packed)
		row(&history, old.plain, name)
		row(&patches, patch, name)
		row(&downloads, packed, name+".gz")
	}
	index := fmt.Sprintf("SHA256-Current: %x %d\nSHA256-History:\n%sSHA256-Patches:\n%sSHA256-Download:\n%s",
		sha256.Sum256(a.plain), len(a.plain), &history, &patches, &downloads)
	a.index(t, packagesDir+"/Packages.diff/Index", []byte(index))
}

func row(b *strings.Builder, body []byte, name string) {
	fmt.Fprintf(b, " %x %d %s\n", sha256.Sum256(body), len(body), name)
}

// edScript is what `diff --ed` prints for two files that differ in one place,
// and still right, though longer, where they differ in several.
func edScript(from, to []byte) []byte {
	old, new := bytes.SplitAfter(from, []byte("\n")), bytes.SplitAfter(to, []byte("\n"))
	old, new = old[:len(old)-1], new[:len(new)-1] // both end with a new line
	start := 0
	for start < min(len(old), len(new)) && bytes.Equal(old[start], new[start]) {
		start++
	}
	end := 0 // lines that are the same at the end
	for end < min(len(old), len(new))-start && bytes.Equal(old[len(old)-1-end], new[len(new)-1-end]) {
		end++
	}
	gone, come := old[start:len(old)-end], new[start:len(new)-end]
	switch {
	case len(gone) == 0 && len(come) == 0:
		return nil
	case len(gone) == 0:
		return fmt.Appendf(nil, "%da\n%s.\n", start, bytes.Join(come, nil))
	case len(come) == 0:
		return fmt.Appendf(nil, "%d,%dd\n", start+1, start+len(gone))
	}
	return fmt.Appendf(nil, "%d,%dc\n%s.\n", start+1, start+len(gone), bytes.Join(come, nil))
}
