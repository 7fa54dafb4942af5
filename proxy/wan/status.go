// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"
)

// Status is what the node tells of itself.
type Status struct {
	// Reachable: other nodes can fetch from this one, at Port of its outside
	// address: over IPv4 or, if not so, over IPv6.
	Reachable bool   `json:"reachable"`
	Port      uint16 `json:"port,omitempty"`
	// Reach says in a sentence for people, without a full stop, whether others
	// can reach this node, how that is known, and what to do if not.
	Reach string `json:"reach"`
	// Checked is when a node last tried. Zero: none has.
	Checked time.Time `json:"checked,omitzero"`
	// Offered is how many blobs may be given to others.
	Offered int `json:"offered"`
	// Uploads is how many are being given now.
	Uploads int `json:"uploads"`
	// BytesFrom and BytesTo are body bytes of blobs, all nodes together.
	BytesFrom int64 `json:"bytes_from"`
	BytesTo   int64 `json:"bytes_to"`
	// Peers are the nodes that answered lately, the best first.
	Peers []PeerStatus `json:"peers"`
}

// PeerStatus is what is known of another node.
type PeerStatus struct {
	Addr netip.AddrPort `json:"addr"`
	// Seen is when it last answered.
	Seen time.Time `json:"seen"`
	// Rate is how fast its blobs came, in bytes per second. 0: not measured.
	Rate int64 `json:"rate,omitempty"`
	// Answer is how long it took to answer, on average.
	Answer    time.Duration `json:"answer_ns,omitempty"`
	BytesFrom int64         `json:"bytes_from"`
	// Resting: it failed, and is left alone for a while.
	Resting bool `json:"resting,omitempty"`
}

// Status tells what the node is doing now.
func (n *Node) Status() Status {
	s := Status{
		Offered:   n.offered.count(),
		Uploads:   n.uploads.InUse(),
		BytesFrom: n.bytesFrom.Load(),
		BytesTo:   n.bytesTo.Load(),
		Peers:     n.peers.status(time.Now()),
	}
	n.tellReach(&s)
	return s
}

// tellReach tells of a family of addresses if there is something to tell, or no
// other.
func (n *Node) tellReach(s *Status) {
	var texts []string
	for _, is4 := range n.families() {
		reach, ok := n.Reachable(is4)
		if ok && !s.Reachable {
			s.Reachable, s.Port = true, reach.Port()
		}
		outside, known := n.outside(is4)
		v, at := n.reach.found(is4, outside)
		if at.After(s.Checked) {
			s.Checked = at
		}
		text := n.reachText(is4, v, outside, known)
		if v == unknown && !known {
			s.Reach = cmp.Or(s.Reach, text)
			continue
		}
		texts = append(texts, text)
	}
	switch len(texts) {
	case 1:
		s.Reach = texts[0]
	case 2:
		s.Reach = "over IPv4, " + texts[0] + "; over IPv6, " + texts[1]
	}
}

// reachText is for people.
func (n *Node) reachText(is4 bool, v verdict, outside netip.AddrPort, known bool) string {
	port := n.cfg.Port
	const denied = "other nodes have tried, and cannot reach this one at "
	switch {
	case v == reached && known:
		return fmt.Sprintf("other nodes reach this one at %s", outside)
	case v == reached:
		return fmt.Sprintf("other nodes reach this one at TCP port %d", port)
	case v == unreached && n.cfg.Private: // there is no router to speak of
		at := fmt.Sprintf("port %d", port)
		if known {
			at = outside.String()
		}
		return denied + fmt.Sprintf("%s: it only downloads. Let TCP and UDP port %d in through this machine's firewall, and those between", at, port)
	case v == unreached && !is4: // no address is translated, but home routers let nothing in
		return denied + fmt.Sprintf("port %d: it only downloads. "+
			"Let TCP and UDP port %d in over IPv6 through this machine's firewall and the router's", port, port)
	case v == unreached && known:
		return denied + fmt.Sprintf("%s: it only downloads. "+
			"Let TCP and UDP port %d in through this machine's firewall, and forward port %d to it on the router", outside, port, outside.Port())
	case v == unreached:
		return denied + fmt.Sprintf("port %d: it only downloads. "+
			"Forward TCP and UDP port %d to this machine on the router, or turn on UPnP or NAT-PMP there", port, port)
	case known:
		return fmt.Sprintf("other nodes should reach this one at %s; none has tried yet", outside)
	default:
		return fmt.Sprintf("it is not known whether other nodes reach this one at port %d, so it only downloads; none has tried yet", port)
	}
}
