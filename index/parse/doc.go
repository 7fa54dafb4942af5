// SPDX-License-Identifier: GPL-2.0-or-later

// Package parse reads the files by which an apt repository names other files,
// and tells for each file named its path, its size and its SHA-256. It knows
// nothing of URLs, signatures or trust: its callers join the paths to a
// repository and decide whether to believe them.
//
// Formats, all of them deb822 (deb822(5), Debian Policy section 5.1) but the last:
//   - Release, and the signed text of InRelease: https://wiki.debian.org/DebianRepository/Format
//   - Packages: one stanza a package; Filename, Size, SHA256
//   - Sources: one stanza a source package; Directory, Checksums-Sha256
//   - Index of a *.diff directory, the list of patches to an older Packages
//   - SHA256SUMS, as sha256sum(1) writes it, beside installer and CD images
//
// Any of them may be compressed; see [Decompress].
//
// Field names are matched without regard to case; of a single-line field given
// twice in a stanza the last counts. Lines may end in CRLF, the last one in
// nothing. Only empty lines separate stanzas, and '#' begins a comment line.
//
// Invariants, whatever the input:
//   - A path that is emitted is relative, at most [MaxPath] bytes, has no "."
//     or ".." segment and no control character, and does not end in a slash.
//   - A size that is emitted is -1, which is unknown, or not negative.
//   - One bad stanza or line loses itself alone, and is counted in
//     [Summary].Skipped. A file that is of another kind altogether, that has
//     an over-long line where it matters or too many entries, is an error.
//   - Memory does not grow with the input, save for [Release] itself, which is bounded.
package parse
