// SPDX-License-Identifier: GPL-2.0-or-later

// Package store keeps blobs on disk, named by the SHA-256 of their bytes, and what is known of them.
// It knows nothing of URLs' meaning, of indexes, peers or HTTP: it is told which digests are in use,
// and it records what it is told of a URL. It runs on Linux.
//
// # Files
//
// In Config.Dir:
//
//	blobs/ab/abcd…   a blob, named by its digest in hex. The mtime is the origin's Last-Modified, the
//	                 epoch if unknown; the mode is what the umask leaves of 0644. Plain files:
//	                 sendfile works, other programs may read them.
//	partial/abcd…    the beginning of a blob, growing or suspended, named by the digest it is to have
//	partial/….holes  one that has pieces beyond its beginning; partial/….note says what of it is there
//	partial/tmp-…    one whose digest is not known yet, or an import; removed by Open
//	badger/          the database, described below
//	badger.opening   a byte for each unfinished attempt to open the database
//	lock             held with flock while a process has the store; its pid, for people
//	state            'running' or 'closed', and the kernel's boot id
//
// Whatever else lies there is left alone.
//
// # Database
//
// The keys are a letter followed by a digest, unless it says otherwise; integers are big-endian.
// h and a vanish a day after the time they hold.
//
//	b  JSON metaRow: where the blob came from
//	t  last use, last verification and flags (entry), 21 bytes
//	p  digest and 2 bytes of number: up to 1024 chaining states of 32 bytes (see Pieces)
//	u  a URL: JSON urlRow; badger's user meta is 1 for a root file
//	h  digest and 8 bytes of a node's id: that node of the LAN has the blob; time in s, 8 bytes, and
//	   its address as netip.AddrPort marshals it
//	a  when this node last announced the blob on the LAN, in s, 8 bytes
//	d  20 bytes of key: what the DHT knows of its announce there; vanishes when the DHT says
//	i  8 bytes of hash of a directory's name, 8 of inode: a file that Import hashed
//
// All of it can be lost, and is thrown away when it is damaged: the blobs are then found by a walk
// of the directory, with size and Last-Modified from the files, and are verified before
// they are first given out. While the disk has no room for badger, rows are held in memory.
//
// # Notes
//
// A note says what is there of a partial file with a hole: "adhtnot2"; its sequence number, the blob's
// size, the bytes from its start, a multiple of 64, 8 bytes each; the state after them, 32 bytes; the
// number of the piece from which on all are there, that of all pieces if none is, 8; the state before
// that, 32; a CRC-32 of all that, 4. The file has places for two, which are written by turns: one is
// whole whatever happens, and the one of the greater number counts. A note is written before the file gets a
// hole, when a second has passed or 16 MiB have come since the last, and by Suspend.
//
// # Pieces
//
// A blob arrives in order from its front, by Write. One of known digest and size that has several
// pieces of PieceSize bytes can at the same time arrive from its tail, by PutPiece, each piece with
// the chaining state of SHA-256 that its sender claims to come before it, and be proven by Prove from
// the last piece down (see proof). Front and tail meet at a border between pieces, where their states
// must agree; then the blob has been verified.
//
// Each piece has one source at a time: the front once it has entered it, else the PutPiece call that
// last began to write it. Who loses a piece writes no further byte of it, so what Prove judges is
// what the file holds. What has been proven changes no more.
//
// # Invariants
//
//   - Only publish renames into blobs, after it has counted and verified the bytes; what was proven by
//     pieces it does not hash again.
//   - A file in partial that is named by a digest alone has no holes. So before the first piece is
//     written beyond its front it gets another name, and Suspend cuts it to its front before it gives
//     the name back, where nothing of the tail is proven. What its note says is verified before it
//     counts: the front must lead to the state that is noted, the tail from one to the digest.
//   - What Get gives out was verified by this store: when it was written, or later if the bytes may
//     have been lost or gone bad since (an unclean stop, a reboot, a lost row, a day's age; for
//     large files the last is done after the answer).
//   - Nothing is fsynced, and needs not be: see suspectWindow.
//   - A reader's open file stays readable whatever happens to the blob.
//   - badger never gets to write to a full disk, which would end the process: see walspace.go.
package store
