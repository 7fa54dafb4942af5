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
//   - Leased to this node: fetched from outside, for all.
//   - Nowhere, or without a local network: fetched from outside.
//
// Other nodes cost bounded delays only: half a second to find them, [peerSilence]
// for one that holds the blob and says nothing, [proofWait] until a mirror is
// asked all the same, and after [lanPatience] without a byte the mirror is
// asked whatever the homes say. Where all mirrors fail, the homes are asked once
// more.
//
// # Outside
//
// A file from outside comes from a mirror, then from the next. Where it may be
// shared (Want.Shareable) nodes on the internet are looked for at the same time
// ([WAN]): at once from [WorthSeeking] bytes on, else when mirrors fail or say
// nothing for [mirrorSilence]. The mirror waits for the first of them for
// WAN.Patience. If one is found by then it stands back: the nodes bring the file
// alone, in pieces, the last one first, or whole where it is no more than a piece.
// It is asked after all
//
//   - where nodes bring less than [usefulShare] of what mirrors do: all of them
//     together, or those of this file, of which nobody can tell before [grace];
//   - where a reader has waited for [proofWait], unless all will be there within
//     [wholeWithin]: not a byte can be read before. So apt waits for half of the
//     time that it bears;
//   - where other nodes of the local network wait for a growing front, after
//     [leaseWait].
//
// It then feeds the front while nodes go on with the tail, as nodes do that turn up
// late; what is missing at last is taken from whoever brings it first, and the
// mirror's connection is closed. Where mirrors fail nodes go on alone, and are
// hoped for until [lanPatience] has passed. WAN.Brought is told what nodes brought:
// nothing where the mirror was asked because they were slow, or where they brought
// less than a third.
//
// No node on the internet is asked for more than [maxBodiesWAN] bodies at a time;
// what waits for its turn at one goes to another that is idle.
//
// The source of a file is a mirror where one has begun to answer, whatever part it
// brought, else the internet where any byte came from there.
//
// A [gate] keeps the requests to mirrors in the order in which the
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
//   - What the internet's nodes send is read by nobody, and counts for nothing,
//     before it is proven.
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
// is answered (package proxy does), nor how other nodes are spoken to: [LAN] and
// [WAN] are what it needs of that.
package fetch
