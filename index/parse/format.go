// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"path"
	"strings"
)

// Format is the kind of a file that names other files.
type Format int

// The formats, each with the function that reads it.
const (
	FormatRelease    Format = iota + 1 // ReadRelease
	FormatPackages                     // ReadPackages
	FormatSources                      // ReadSources
	FormatPdiffIndex                   // ReadPdiffIndex
	FormatSHA256SUMS                   // ReadSHA256SUMS
)

// FormatOf tells from the base name of file, without the extension of a
// compression that [Decompress] knows, which reader it needs. An "Index"
// counts only in a directory whose name ends in ".diff". It is false for all
// other files, and for by-hash paths, which do not tell what they are.
func FormatOf(file string) (Format, bool) {
	if ext := path.Ext(file); codecs[ext].open != nil {
		file = strings.TrimSuffix(file, ext)
	}
	dir, base := path.Split(file)
	switch base {
	case "Release", "InRelease":
		return FormatRelease, true
	case "Packages":
		return FormatPackages, true
	case "Sources":
		return FormatSources, true
	case "Index":
		if strings.HasSuffix(dir, ".diff/") {
			return FormatPdiffIndex, true
		}
	case "SHA256SUMS":
		return FormatSHA256SUMS, true
	}
	return 0, false
}
