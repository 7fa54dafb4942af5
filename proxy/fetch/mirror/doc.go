// SPDX-License-Identifier: GPL-2.0-or-later

// Package mirror is the HTTP/1.1 client with which files are fetched from Debian mirrors. It pipelines, as apt
// itself does: requests to one host go out on few connections, in the order asked, without waiting for the
// answers before them. A client of many parallel connections pays a round trip between the files of each of
// them, and divides the link among so many files that the one wanted first comes late.
//
// It is not a general HTTP client: it sends GET without a body, follows no redirect, keeps no cookie, decodes
// no content coding and retries nothing but what a closed connection left unanswered. https origins and
// upstream proxies are served by a [net/http.Transport], behind the same errors and the same limits.
//
// # How requests are placed
//
// The requests to one host and port form a pool for each realm ([WithRealm]), those of [WithBackground] another;
// they wait there in the order asked, with flows taking turns ([WithFlow]). The first of them goes to the busy
// connection with the fewest bytes still to come ([WithSize]), provided that these come within a second at the
// rate seen; else to an idle one. Else it waits, and a further connection is made if there is a reason: it is
// only the second, each is at a body of more than a second, or nothing has moved for two. So a connection is
// never out of work for the time of a round trip, files come in the order in which they are wanted, and no
// request stands behind a large body, a silent mirror or a reader that does not read.
//
// # Invariants
//
//   - A request is pipelined only to a host that was seen to keep a connection of HTTP/1.1 open (RFC 9112 §9.3.2).
//   - An answer belongs to the oldest unanswered request of its connection. Bytes that come when nothing was
//     asked end the connection.
//   - A request is sent again only while no byte of its answer has been handed on. A body that breaks off is an
//     error that wraps [io.ErrUnexpectedEOF].
//   - A request target is sent byte for byte as given.
//   - Connections made for one realm are never used for another.
package mirror
