// SPDX-License-Identifier: GPL-2.0-or-later

// Package fetch brings files to this node: it runs at most one transfer per
// file, whoever and however many ask for it, and lets every asker read the
// bytes as they arrive.
//
// A file is wanted by its SHA-256 (a blob) or, where no index names it, by its
// URL. A transfer owns its context: it ends when its last reader has left and
// not come back for [linger], never because the first one hung up. It climbs
// the ladder of sources, resumes at the offset it has when one breaks, and
// publishes the file in the store once its bytes are right.
//
// Invariants:
//   - Bytes enter the store under a digest only through store.Growing.Commit,
//     which has checked them.
//   - A reader of a blob from its beginning gets the last bytes only after that
//     check, so an answer made of wrong bytes ends short of its Content-Length.
//     Two things are the mirror's own word instead, as they would be without
//     us: the end of a file of which the beginning is not here, and a file
//     under a name whose bytes may change (not Want.Exact) that no mirror has as
//     the index names it.
//   - After a mismatch no part of that blob is handed out by range for
//     [taintFor]: a client must not join a right tail to a wrong head.
//   - A transfer is shared only with those who would have asked one of the same
//     places: nobody's mirror can fail, delay or spoil what others are to get
//     from theirs, also not through the beginning of a file kept for later.
//   - Sources are asked in the order in which the files were wanted: apt must
//     be answered in that order, so the file it waits for must come first.
//
// The package does not know what a URL means (package index does) nor how apt
// is answered (package proxy does).
package fetch
