// SPDX-License-Identifier: GPL-2.0-or-later

// Package peer is what the protocols of the local network and of the internet
// have in common: how blobs are asked for and given over HTTP, with the states
// of their hashes, how questions are put and read, and how much of either goes
// on at a time. It knows neither where other nodes are nor who may ask; it
// verifies nothing, which is for fetch. docs/protocol.md has the formats.
//
// Whatever another node sends is bounded here in length; in time, where a
// function says so.
package peer
