// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"context"
	"net/http"
	"net/netip"

	"apt-dht/proxy/fetch"
	"apt-dht/proxy/wan"
	"apt-dht/store"
)

// Internet is what a Server knows of its node's part in the DHT.
type Internet struct {
	WAN *wan.Node
	// DHT and Router tell how they stand, for the status.
	DHT    func() DHTStatus
	Router func() string
	// Origins says which repositories' files may go there.
	Origins *Origins
}

// Modes are a node's parts in a DHT or the local network.
const (
	ModeOff     = "off"
	ModeOn      = "on"      // in the local network
	ModePublic  = "public"  // in everybody's DHT
	ModePrivate = "private" // in a DHT of one's own
)

// DHTStatus tells of the DHT.
type DHTStatus struct {
	// Mode is ModeOff, ModePublic or ModePrivate.
	Mode string `json:"mode"`
	// Trouble says in a few words why no node answers, without addresses. Empty:
	// some do, or it is too early to tell.
	Trouble string `json:"trouble,omitempty"`
	// Nodes is how many are known, of those that have answered lately.
	Nodes int `json:"nodes"`
	// Announced is how many files other nodes find this one by, of Offered that
	// they may.
	Announced int `json:"announced"`
	Offered   int `json:"offered"`
	// ReadOnly: this node cannot be reached, so it asks only (BEP 43).
	ReadOnly bool `json:"read_only"`
	// External are the addresses that others see this node at.
	External   []netip.Addr `json:"external"`
	PacketsIn  uint64       `json:"packets_in"`
	PacketsOut uint64       `json:"packets_out"`
	BytesIn    uint64       `json:"bytes_in"`
	BytesOut   uint64       `json:"bytes_out"`
}

// Where is what the DHT's nodes are on, for people.
func (s DHTStatus) Where() string {
	if s.Mode == ModePrivate {
		return "the private DHT"
	}
	return "the internet"
}

// WANStatus tells of the nodes on the internet.
type WANStatus struct {
	wan.Status
	// Router says in a sentence what the router has been asked for.
	Router string `json:"router"`
}

// noInternet is the status of a node that has no part in it.
var noInternet = WANStatus{
	Status: wan.Status{Reach: "this node has no part in the DHT (--dht, --wan-listen)", Peers: []wan.PeerStatus{}},
	Router: "not asked",
}

func (n *Internet) dhtStatus() DHTStatus {
	if n == nil {
		return DHTStatus{Mode: ModeOff, External: []netip.Addr{}}
	}
	return n.DHT()
}

func (n *Internet) wanStatus() WANStatus {
	if n == nil {
		return noInternet
	}
	return WANStatus{n.WAN.Status(), n.Router()}
}

// shareable tells whether a file may be looked for on the internet and given to
// it (fetch.Want.Shareable); nil: it may not.
func (n *Internet) shareable(url, name, base string) func(context.Context) bool {
	if n == nil {
		return nil
	}
	return n.Origins.shares(url, name, base)
}

// tellInternet takes note of a file of the repository at base that has entered the
// store.
func (s *Server) tellInternet(d fetch.Digest, head fetch.Head, base string) {
	if fetch.Personal(head.Header) {
		s.cfg.Internet.Origins.close(base)
	}
	if meta, ok := s.mayGive(d); ok {
		s.cfg.Internet.WAN.Have(d, meta.Added)
	}
}

// mayGive tells whether a blob in the store may be given to the internet, as the
// operator wants it now: it may be that of an origin which has been excluded since.
func (s *Server) mayGive(d fetch.Digest) (store.Meta, bool) {
	meta, err := s.cfg.Store.Meta(d)
	return meta, err == nil && meta.Shareable && !s.cfg.Internet.Origins.Excluded(meta.Origin)
}

// strangerKey marks the requests that come from the internet.
type strangerKey struct{}

// WAN answers the nodes on the internet, from the same routes, of which they get
// their own alone. It is for wan.Node.Serve, which bounds their connections.
func (s *Server) WAN() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.router.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), strangerKey{}, true)))
	})
}

func isStranger(r *http.Request) bool { return r.Context().Value(strangerKey{}) != nil }
