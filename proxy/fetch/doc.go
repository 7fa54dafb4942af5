// SPDX-License-Identifier: GPL-2.0-or-later

// Package fetch brings files to this node: it runs at most one transfer per
// file, whoever and however many ask for it, and lets every asker read the
// bytes as they arrive.
//
// A file is wanted by its SHA-256 (a blob) or, where no index names it, by its
// URL. A transfer owns its context: it ends when its last reader has left and
// not come back for [linger], never because the first one hung up; other nodes
// that read from it count as readers. It resumes at the offset it has when a
// source breaks, and publishes the file in the store once its bytes are right.
//
// # The ladder
//
// A blob's homes on the local network (package discovery) say where it is to be
// had, and a transfer does what they say:
//
//   - Held by others: taken from several of them at once, in pieces, the last
//     one first, each proven by the one behind it (package store); up to a piece
//     is taken whole. Nobody reads it before it is proven. If a reader has waited
//     for [proofWait], a mirror feeds the file from its front, and the two meet.
//   - Coming to another node: read from where the home says, byte for byte as
//     it grows there, proven only at its end. Whoever gives nothing in time is
//     complained of, and the home names another place or moves the lease.
//   - Leased to this node: asked of a mirror, then of the next, for all.
//   - Nowhere, or without a local network: asked of the mirrors.
//
// Other nodes cost bounded delays only: half a second to find them, [peerSilence]
// for one that holds the blob and says nothing, [proofWait] until a mirror is
// asked all the same, and after [lanPatience] without a byte the mirror is
// asked whatever the homes say. Where all mirrors fail, the homes are asked once
// more. A [gate] keeps the requests to mirrors in the order in which the
// files were wanted, and this node from taking leases that it would not use soon.
//
// # Invariants
//
//   - Bytes enter the store under a digest only through store.Growing.Commit,
//     which has checked them.
//   - A reader of a blob from its beginning gets the last bytes only after that
//     check, so an answer made of wrong bytes ends short of its Content-Length.
//     Two things are the mirror's own word instead, as they would be without
//     us: the end of a file of which the beginning is not here, and a file
//     under a name whose bytes may change (not Want.Exact) that no mirror has as
//     the index names it.
//   - Other nodes' bytes are given out once they are proven. Before that, only to
//     who wants them so (Want.Unproven) and reads from the beginning, and what
//     a mirror adds to them must prove right together with them.
//   - After a mismatch of which anybody got bytes no part of that blob is handed
//     out by range for [taintFor]: a client must not join a right tail to a
//     wrong head.
//   - Blame is exact: a node is a liar only if a piece that it sent, or the whole
//     blob that it said to have, is proven wrong. One that passed on what it
//     was fetching itself is only barred from doing so for a while; a mirror is
//     blamed only for bytes that were all mirrors'.
//   - A transfer is shared only with those who would have asked one of the same
//     places: nobody's mirror can fail, delay or spoil what others are to get
//     from theirs, also not through the beginning of a file kept for later.
//   - Mirrors are asked in the order in which one asker wanted the files: apt must
//     be answered in that order, so the file it waits for must come first.
//   - No lock is held while a file is opened, read or written.
//
// The package does not know what a URL means (package index does), how apt
// is answered (package proxy does), nor how other nodes are spoken to: [LAN] is
// what it needs of that.
package fetch
