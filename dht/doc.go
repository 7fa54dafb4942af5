// SPDX-License-Identifier: GPL-2.0-or-later

// Package dht is a node of the mainline DHT (BEP 5): it finds the peers that
// have a blob, anywhere, and tells others what this one has. It transfers no
// files, maps no ports, and does not know what a key stands for.
//
// # What is the library's, what is ours
//
// github.com/anacrolix/dht/v2 encodes and sends our queries, sends them again,
// and matches the answers. It sees nothing else of the network: one packet of 20
// bytes, an address of one byte in it, would crash it, and so would an announce
// without arguments; it names nodes near the wrong key; and its table needs a loop
// that leaks while no node is known. So each socket is read here, and strangers'
// queries are answered here:
//
//	socket.go     reads, bounds and sorts packets; the PacketConn for the library
//	message.go    which packets may be decoded
//	node.go       both families together; bootstrap.go: where it begins
//	family.go     one address family: the library's server, its id, our queries
//	standing.go   where others find this node; votes.go: as they say
//	contacts.go   whom we asked, and what; floods.go: who sends too much
//	answer.go     what others ask; tokens.go, peers.go: announces stored for them
//	table.go      the routing table; upkeep.go: keeps it alive; saved.go: on disk
//	traversal.go  the way to a key
//	lookup.go     who has a key; sieve.go, results.go
//	announce.go   which of ours is told when; schedule.go, budget.go, row.go
//	tell.go       one key's announce
//	key.go, address.go: what names a blob and a node; recent.go: a map that forgets
//
// IPv4 and IPv6 are two DHTs with a table and a server each (BEP 32). The id fits
// the outside address that other nodes report (BEP 42). A node that cannot be
// reached is read-only (BEP 43). Items (BEP 44) and scrapes (BEP 33) are not
// offered; queries that we do not know are answered with the nearest nodes, or
// error 204.
//
// # Invariants
//
//   - No packet goes to, and none is read from, an address that [Config] does not
//     allow, or a port below 1024. A lookup yields no others either.
//   - A packet is decoded if it comes from whom we asked in the last 5 s, else at
//     most 100 times a second per network (/24, /48). No more than that, whoever
//     asks, are answered. None is decoded if it has more than
//     2,048 bytes, nests deeper than 4, or claims a string beyond its end.
//   - A node enters the routing table by answering us, and one per address. It is
//     told to others while it has answered within 15 minutes. Who asks us and is
//     not known is pinged, at a bounded rate: that is how networks form.
//   - An announce is stored for a peer at its sender's own address, with a token
//     that we gave to it within 10 minutes, and expires after 35.
//   - A traversal sends at most 128 questions (64 to announce), at most 4 to one
//     network, and has ended, with all it started, when its function returns.
//   - This node's questions and their answers come to at most 55 packets per
//     second over time. Announcing has what upkeep and lookups leave; of lookups
//     about twenty may be ahead, nine where the DHT has a million nodes.
//   - What a node near a key says of who announces it is believed as far as to
//     announce less: who sits near one may keep this node's announces of that key
//     away, as it could by not telling of them. Other keys have other nodes.
//   - All memory is bounded: about 25 MB with 32,768 keys to announce and under
//     attack from everywhere, some 2 MB otherwise.
//
// In a private DHT ([Config].Private) all unicast addresses are allowed, and the
// bounds per network are bounds per node.
//
// # Formats
//
// The key of a blob is the first 20 bytes of its SHA-256. The file of known nodes
// is text: the line "apt-dht nodes 1"; for each family "udp4" or "udp6", this
// node's id in hexadecimal and, once it has announced, the ADDRESS:PORT where others
// find it, with the time since when; for each node its id and ADDRESS:PORT; for each
// peer stored for others "peer", the key, its ADDRESS:PORT, that of who announced it
// (of a network: its first address and port 0), and when. Times are Unix's. It is
// replaced as a whole, and of no worth to anybody but this node. For the rows that [Rows]
// keeps see [Row.MarshalBinary].
package dht
