// SPDX-License-Identifier: GPL-2.0-or-later

// Package index tells what a URL is, and which SHA-256 and size the file behind it must have. It learns that
// from the signed indexes of apt repositories: from those that pass through the proxy (AddRoot, AddFile) and
// from those that this machine's apt keeps in its lists directory (Run). It fetches nothing, stores no
// files, and reads no index format itself: that is for index/parse, and judging signatures for index/trust.
//
// # Words
//
//   - A root file is InRelease, Release or Release.gpg. It has signatures instead of a hash.
//   - A suite is a directory with a root file. Its base is what Packages' paths are relative to: what stands
//     before the last "/dists/", or in a flat repository ("deb URL ./") the directory itself, and, where
//     Packages' paths begin with its name ("deb URL sub/"), up to three directories above. A name
//     outside its directory is never a flat repository's.
//   - A generation is what one root file says. A suite has several: mirrors and clients differ.
//   - A part is a file that names others: Packages, Sources, a pdiff Index, SHA256SUMS; in any compression.
//   - A catalogue is what was read of a part.
//
// # Which generation answers
//
// A by-hash/SHA256 path is that hash and nothing else, whoever asks. A name that changes its content (what a Release
// lists, what a SHA256SUMS lists) is answered from the generation whose root was last given to that client's
// address, for 15 minutes, else from the newest. The name of a patch keeps its content, so any generation
// may answer. A name in a pool is answered from the client's generations, then from the newest of every suite
// above that pool, then from older ones.
//
// The newest of a suite is the trusted one with the latest Date, as long as it has not expired; where none is
// trusted, the one that came last. Of several suites above one pool the trusted come first, then the
// latest Date.
//
// Where the list that counts has not been read, an older one may still name the pool's file. Its answer is given, for
// nearly all archives never change a file of a pool, but marked [Entry].Stale. Where that list has been
// read and does not name the file, the older answer counts: the file was withdrawn, and no other
// hash can be meant.
//
// # Files
//
// All are in Config.Dir, written beside their name, synchronised and renamed.
//
//   - index.json: the suites, their generations, which of them are trusted, and what was read of apt's lists.
//   - <SHA-256>.release: the signed text of a root file, named by its own hash; read anew at each start.
//   - <SHA-256>.<format>.cat: a catalogue; format is packages, sources, pdiff or sums. The hash is that of the
//     plain part where its Release names that, so that every compression gives the same file, else that of
//     the compressed one.
//
// A catalogue has a header of 24 bytes, then a key for each file in ascending order, then in the same order a value
// for each; numbers are big-endian:
//
//	0   8 bytes  "apt-dht\x01"
//	8   4 bytes  0
//	12  4 bytes  CRC-32C of all that follows
//	16  8 bytes  number of files
//
//	key    8 bytes  the first eight of the SHA-256 of the path
//	value  8 bytes  size of the file, or -1
//	       32 bytes SHA-256 of the file
//
// Paths are relative to the suite's base (packages, sources) or to the part's directory (pdiff, sums). Two paths
// with one key would take a search of 2³² hashes by the archive's own author, who could as well name a wrong hash.
//
// Catalogues are mapped into memory, so an idle one costs nothing and a restart reads them but once. A damaged
// one is removed, and its part is wanted again.
//
// # Invariants
//
//   - Nothing is believed that a root file does not name: the bytes of every part are hashed as they are read.
//   - A trusted answer comes from a root that a key signed which apt trusts for that repository.
//   - Lookups see one immutable snapshot, and never wait for parsing or for the disk's lock.
//   - Catalogues have at most 2¹⁹ rows, Release files together at most 48 MiB; one part is parsed at a time.
package index
