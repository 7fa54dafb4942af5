// SPDX-License-Identifier: GPL-2.0-or-later

// Package wan speaks the protocol of the internet: it finds nodes that have a
// blob, takes bytes from them and gives bytes to them, and has others check
// whether this node can be reached. It verifies no bytes: that is for fetch,
// whose WAN it implements. How the DHT works is for dht, how the router is
// told for dht/nat.
//
// All is HTTP/1.1 below /~/v1/wan/, on a port of its own; docs/protocol.md has
// the messages, the bounds and the timing. Everybody there is a stranger:
//
//   - Connections are made to addresses that Config allows, from port 1024 up,
//     never to this node itself; what is checked is the address that is dialled.
//     There are no names to resolve, no proxies and no redirects.
//   - Nothing is given but whole, shareable blobs, within a rate that all share,
//     and refused early where it would be slow.
//   - A stranger's question makes this node connect to that stranger's own
//     address at most, once a minute.
//   - Whatever others send is bounded, in length, in time and in memory.
package wan
