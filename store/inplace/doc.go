// SPDX-License-Identifier: GPL-2.0-or-later

// Package inplace offers the files of an existing directory as blobs, named by the SHA-256 of their
// bytes: a repository, a mirror of terabytes, a cache of packages. Nothing is copied, and nothing is
// ever written to the directory. It is no store: nothing can be put in, and what the files mean is
// nothing to it. It runs on Linux.
//
// # What is offered
//
// Regular files of 1 byte to 512 GiB that anybody on the machine may read, in directories that
// anybody may list and enter; of Dir itself it is asked only that this process may. Left out is what
// is hidden, or has a name that says that it is unfinished (leftOut). A file counts once it has been
// left alone for Config.Rest.
//
// Symbolic links are followed to what is hidden beneath Dir, as in 'dists -> .dists.2', since all
// else is found by its own path. Absolute links, and those that lead out, are not followed. A file is
// known by its path without links. Everything is opened with os.Root, so that whatever is switched
// meanwhile, nothing outside Dir is opened. While nothing is scanned, hashed or given out, nothing
// in Dir is held open: it can be unmounted, or its link switched.
//
// # How it is followed
//
// One goroutine, of the lowest priority for the disk, does all the work, and alone changes what is
// known:
//
//   - A scan walks all of Dir without hashing. What it did not come by is gone. What it knows neither
//     by path and stamp nor, under another path, by inode and stamp, waits.
//   - A second walk hashes what waits, at Config.Rate; scans go on meanwhile.
//   - Paths of which inotify tells, or that Get found changed, are looked at after they have rested.
//     Lost events, a directory that went away, and another directory in Dir's place are reasons to scan.
//   - Where inotify does not reach (network file systems, more directories than can be watched, a
//     file system that is mounted somewhere beneath Dir), the next scan finds what is new.
//   - Every file is read once more within Config.Verify, in case it has gone bad.
//
// What is gone is remembered for 24 scans, so that a disk that is mounted again is not hashed again.
//
// # Files
//
// In Config.Cache:
//
//	files       the journal of records
//	files.new   one that is to take its place, while it is written
//	lock        held with flock while a process has the cache
//
// The journal begins with "apt-dht inplace\x01". Records follow, each at a multiple of 16 bytes;
// integers are big-endian:
//
//	 0   4   magic, 0xadf11e01
//	 4   4   CRC-32C of what follows, to the end of the path
//	 8   8   size in bytes
//	16   8   mtime, and 24 8 ctime: ns since the Unix epoch
//	32   8   number of the inode, 0 if unstable, and 40 8 of the device
//	48  32   SHA-256
//	80   4   CRC-32C of the states
//	84   2   length of the path, and 86 2 zero
//	88       the path, relative to Dir
//	         the states: SHA-256's chaining state, 32 bytes, after each whole MiB but for the last
//	         piece
//
// The last record of a path counts. A record states what was true once, and is believed only while
// the file has that stamp. So none ever needs to be taken back, and nothing is fsynced but a journal
// that was rewritten: what a crash loses is hashed again. Bytes that are no record are skipped. When
// half of the journal is garbage it is rewritten.
//
// # Invariants
//
//   - What Get gives out has, when it is opened, the size, mtime, ctime and inode that it had both
//     before and after it was hashed. What is read then is right while Unchanged says nothing. Whoever
//     writes through mmap can still make the bytes wrong: those who receive them verify them.
//   - What Changed has told and what Each yields agree, but for what is to be told within Config.Rest,
//     and for blobs whose record was damaged, which are told of again.
//   - Memory: 55 bytes a file and 110 a directory. Paths, digests and states stay on disk.
//   - A blob that was opened stays readable whatever happens to the Set.
package inplace
