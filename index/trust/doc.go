// SPDX-License-Identifier: GPL-2.0-or-later

// Package trust answers two questions from apt's own configuration: which repositories does this
// machine use, and did somebody whom apt would believe sign this Release file?
//
// It reads sources.list(5) in both styles and the OpenPGP keyrings, and verifies InRelease (clearsigned)
// and Release with Release.gpg. It reads no passwords, and fetches nothing, keeps nothing on disk, and
// does not read what a Release file says: that is for index/parse. Its answer never replaces apt's own
// check, which every client makes again with its own keys.
//
// # Which keys may judge a repository
//
//   - One that our sources name: the keys of its Signed-By, or the default set (trusted.gpg and
//     trusted.gpg.d) where it has none. Where our sources name the repository, but not that suite: the
//     keys of any of them.
//   - Any other (a proxy serves machines with other sources): every key held, that is the default set,
//     all Signed-By keys, /etc/apt/keyrings and /usr/share/keyrings. Retired keys (files named
//     '*removed-keys*') and keyrings of more than 1 MiB (those of people, not of archives) are left out.
//
// The second rule is safe for the one use of the verdict, which is to decide whether an index may be
// believed about its hashes and whether the files that it names may be shared. Anybody can replay a signed
// Release at any host, but then it names only hashes that the key's owner signed. The owner of a
// held key can sign what he likes, but gains nothing that he has not at his own repository: he may
// have his files shared, and clients that do not trust his key reject his Release. The verdict must not be used to let
// two hosts stand in for each other, nor to decide what a client installs.
//
// # Where this differs from apt with gpgv
//
//   - A good signature and no bad one suffices, as for apt. Also as for apt, expired or revoked keys,
//     expired signatures and SHA-1 do not count, a clock that runs behind does not matter, and keys must be
//     RSA of 2048 bits or more or elliptic curves (apt ≥ 2.7.13 asks that; apt 2.6 did not).
//   - A Signed-By in the Release file itself, which apt heeds at the next update, is ignored: it only ever
//     narrows what the configuration allows.
//   - The same key in several keyrings of one set counts as revoked if it is revoked in one of them, and as
//     expiring at the latest date that one of them tells; gpgv takes the first that it finds.
//   - A signing subkey must say that it is one, and be cross-certified.
//   - Keyrings are recognised by content, not by the file's ending. Keyboxes (.kbx) are skipped, as is what
//     apt.conf(5) says about other places for these files. Version 3 keys and signatures are unknown, and
//     designated revokers are not supported.
//   - 'Trusted: yes' and Allow-Insecure do not change a verdict: no signature, no belief.
//   - One malformed line, stanza or file is skipped with a warning; apt refuses all sources.
package trust
