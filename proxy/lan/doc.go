// SPDX-License-Identifier: GPL-2.0-or-later

// Package lan speaks the protocol of the local network: it asks other nodes
// who has a blob, tells them what this one has, and gives and takes bytes. It
// verifies no bytes and decides no order: that is for fetch, whose LAN it
// implements. Who is there, and what a home keeps, is for discovery.
//
// All is HTTP/1.1 on the node's one port below /~/v1/lan/, questions and answers
// in JSON; docs/protocol.md has the messages, the bounds and the timing. Three
// rules keep it harmless:
//
//   - A node speaks for itself alone: whoever asks, announces or reports is the
//     source address of the connection, with the port and id that it tells.
//   - What others say of third nodes makes this one connect to nobody but
//     members, at the address that answered our own probe, or to a node on the
//     link at an unprivileged port.
//   - Whatever goes wrong costs a bounded delay: questions are answered within
//     half a second, at worst with the lease that lets the asker fetch by itself.
package lan
