// SPDX-License-Identifier: GPL-2.0-or-later

// Package discovery knows the other nodes of the local network, and which of
// them keep track of which file. It moves no files and speaks no HTTP: the
// caller lends it a probe, carries its questions and answers, and fetches.
//
// # Who is there
//
// [LAN] announces the DNS-SD service (RFC 6763) _apt-dht._tcp by multicast DNS
// (RFC 6762) and looks for others:
//
//	instance  the node's id: 16 lower-case hexadecimal digits, random at each
//	          start, because disks are cloned and names are not unique
//	SRV       the node's port on the host apt-dht-ID.local., with its addresses
//	TXT       v=1, the protocol's version, and id=ID; nodes of other versions
//	          are ignored
//
// A node that serves other machines' apt also announces _apt_proxy._tcp, under
// the same instance and host, which auto-apt-proxy and squid-deb-proxy-client
// look for.
//
// Where an avahi-daemon runs it announces and answers for us, by its D-Bus
// interface; where none does, or it goes away, we do: hello at 0, 1 and 3 s,
// goodbye (TTL 0) at the end, answers in between. In either case we hear the
// hellos and goodbyes of others, and browse with hashicorp/mdns at 0, 1 and 3 s
// and then every 5 min ± 20 %. hashicorp/mdns does not serve: its server has
// neither hello nor goodbye, takes Avahi's unicast packets, and on a host with
// several interfaces answers each network with the addresses of all.
//
// mDNS runs on each interface that is up, multicasts, is neither loopback nor
// point-to-point nor named like a VPN, is no port of a bridge, and is not
// public: it has a private, unique local or link-local address, and beside a
// link-local IPv6 address, which says nothing, no public one alone; a public
// IPv4 address rules it out. [Config] can name interfaces instead. Interfaces
// and addresses that come and go are noticed within two seconds; after a
// suspension everything is said and asked anew.
//
// [Links] finds the proxies that others announce, for a command that is not a
// node: by one query, which is answered at once, and through Avahi.
//
// # Members
//
// What mDNS says is hearsay: any machine can send it. So it only makes us probe,
// by HTTP and only addresses on the link that the packet came from. A node is a
// member once it has answered with its id. A goodbye drops it only if it does
// not answer either. One that failed a caller is skipped at once ([LAN.Alive]),
// probed after growing pauses, and leaves the ring ([LAN.Members]) after 60 s
// of silence; each change of the ring moves homes, so it is not hasty. Static
// peers, for networks without multicast, are probed in the same way; they
// must name each other.
//
// Bounds: 1024 nodes, 8 unproven ones per source, 8 addresses each, 32 probes at
// a time of 250 ms; 20 packets per second of one source and 500 per link.
//
// # Who keeps track of what
//
// Rendezvous hashing over the ring gives each file two homes: see [Ring]. What
// a node keeps as a home is in [Home].
package discovery
