// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"crypto/sha256"
	"net/netip"
)

// Digest is the SHA-256 of a whole file, the name under which nodes know it.
type Digest = [sha256.Size]byte

// Member is a node of the LAN.
type Member struct {
	// ID is 16 hexadecimal digits, chosen at random at each start of the node.
	ID string
	// Addr is where the node answers HTTP; it carries a zone if it is
	// link-local IPv6.
	Addr netip.AddrPort
}
