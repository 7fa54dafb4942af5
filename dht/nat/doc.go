// SPDX-License-Identifier: GPL-2.0-or-later

// Package nat has the router forward a port to this machine, as long as it
// runs. It does not know what the port is for, nor whether it is really to be
// reached from outside: only somebody outside can tell that.
//
// # What it asks, and whom
//
// The kernel says which gateway packets to the internet take, from which
// address of ours, and through which interface; that it is asked every 5 s, so
// that other routes, addresses and VPNs are noticed. Only that gateway is
// spoken to, and only over something like Ethernet: never through a tunnel. A
// machine with a public address needs nothing of it.
//
// Two protocols are tried at the same time; the first that works is kept:
//
//   - NAT-PMP (RFC 6886), a few UDP packets to port 5351. PCP (RFC 6887), its
//     successor, is not spoken: gateways with PCP alone mostly have UPnP too.
//   - UPnP IGD 1 and 2: SSDP finds the gateway's description, which names a
//     WANIPConnection or WANPPPConnection service, which is told in SOAP.
//
// It is about IPv4 alone. IPv6 has no address translation; there, firewalls are
// the operator's.
//
// # What it keeps
//
// One external port, the same for TCP and UDP, never below 1024: the port
// itself if it is free, else another. It is leased for an hour and renewed at
// half time; what the router grants for less is renewed sooner, what it grants
// only for ever is removed at the end all the same. Every 3 min the external
// address is asked for, which also shows whether the gateway has lost the
// mapping: NAT-PMP by its epoch, UPnP by its list. Three failures, 15 s apart,
// and all begins anew, with pauses that grow from 30 s to 15 min.
//
// An external address that is itself private (RFC 1918) or a provider's (RFC
// 6598) is of no use: nothing is mapped, and [Mapper.Status] says so.
//
// # What it does not believe
//
// Any machine of the LAN can send SSDP answers. They count only if they come
// from the gateway's address and name an http URL on that address, written as a
// number; connections go there alone, without proxy or redirect. Answers are
// bounded: 2 KiB and 64 packets for SSDP, 128 KiB for a description, 16 KiB
// for any other and for headers, 5 s for each request.
package nat
