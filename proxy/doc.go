// SPDX-License-Identifier: GPL-2.0-or-later

// Package proxy is the HTTP side of a node: one gorilla/mux server that
// answers apt and shows the node's state.
//
// A request for a file comes in one of four forms: absolute
// (GET http://host/path), prefixed (GET /host/path), and for https origins
// prefixed with HTTPS/// in either of those. CONNECT to port 443 is tunnelled.
// Absolute-form and CONNECT requests are handled before the router sees them:
// GET http://host/~/v1/status is a file of that host, not our own page.
//
// Every file request takes one way:
//
//	accept   pipeline.go   what a connection has pipelined is fetched ahead
//	         access.go     who may ask
//	name     target.go     which URL is meant, byte for byte
//	         plan.go       what the index knows of it
//	answer   blob.go       its SHA-256 is known
//	         root.go       a Release file: asked of the mirror each time, verified
//	         unknown.go    neither: kept by URL as HTTP allows
//	         respond.go    ranges, validators, sendfile
//
// Invariants:
//   - The address that is dialled is the one that the origin policy has judged
//     (origin.go).
//   - A root file is given to a client only after its shape, and its signature
//     where a key is known, have been checked; one asked for with credentials
//     passes through.
//   - What was asked with credentials is neither stored nor given to others.
//   - An answer that breaks after its head ends the connection, short of its
//     Content-Length: apt then asks again. It never ends as if complete.
package proxy
