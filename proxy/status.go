// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"encoding/json"
	"net/http"
	"time"

	"apt-dht/proxy/fetch"
	"apt-dht/proxy/lan"
)

// Status is the answer of GET /~/v1/status: what the node is doing, and what
// it saved. Sizes are in bytes, counted since the node started.
type Status struct {
	NodeID    string           `json:"node_id"`
	Version   string           `json:"version"`
	UptimeS   int64            `json:"uptime_s"`
	LAN       LANStatus        `json:"lan"`
	DHT       DHTStatus        `json:"dht"`
	WAN       WANStatus        `json:"wan"`
	Store     StoreStatus      `json:"store"`
	BytesFrom BytesFrom        `json:"bytes_from"`
	BytesTo   BytesTo          `json:"bytes_to"`
	Index     IndexStatus      `json:"index"`
	Transfers []fetch.Transfer `json:"transfers"`
}

// LANStatus tells of the other nodes of the local network.
type LANStatus struct {
	// Mode is ModeOn or ModeOff.
	Mode  string           `json:"mode"`
	Peers []lan.PeerStatus `json:"peers"`
}

// StoreStatus tells how full the store is.
type StoreStatus struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
	Quota int64 `json:"quota"`
}

// BytesFrom tells where bytes came from: Store, to clients without asking
// anybody; LAN, from other nodes of it; WAN and Mirror, over the uplink from nodes
// on the internet and from mirrors.
type BytesFrom struct {
	Store  int64 `json:"store"`
	LAN    int64 `json:"lan"`
	WAN    int64 `json:"wan"`
	Mirror int64 `json:"mirror"`
}

// BytesTo tells where bytes went.
type BytesTo struct {
	Apt int64 `json:"apt"`
	LAN int64 `json:"lan"`
	WAN int64 `json:"wan"`
}

// IndexStatus tells how many repositories and file names are known by hash.
type IndexStatus struct {
	Origins int `json:"origins"`
	Files   int `json:"files"`
}

// status takes a snapshot.
func (s *Server) status() Status {
	blobs, bytes, quota := s.cfg.Store.Usage()
	origins, files := s.cfg.Index.Stats()
	fromStore := s.counters.aptFromStore.Load()
	st := Status{
		NodeID:    s.cfg.NodeID,
		Version:   s.cfg.Version,
		UptimeS:   int64(time.Since(s.started) / time.Second),
		Store:     StoreStatus{Blobs: blobs, Bytes: bytes, Quota: quota},
		LAN:       LANStatus{Mode: ModeOff, Peers: []lan.PeerStatus{}},
		DHT:       s.cfg.Internet.dhtStatus(),
		WAN:       s.cfg.Internet.wanStatus(),
		BytesFrom: BytesFrom{Store: fromStore, LAN: s.cfg.Fetch.BytesFromLAN(), WAN: s.cfg.Fetch.BytesFromWAN(), Mirror: s.cfg.Fetch.BytesFromMirror()},
		BytesTo:   BytesTo{Apt: fromStore + s.counters.aptFromLAN.Load() + s.counters.aptFromWAN.Load() + s.counters.aptFromMirror.Load()},
		Index:     IndexStatus{Origins: origins, Files: files},
		Transfers: s.cfg.Fetch.Transfers(),
	}
	st.BytesTo.WAN = st.WAN.BytesTo
	if s.cfg.LAN != nil {
		st.LAN.Mode = ModeOn
		st.LAN.Peers = append(st.LAN.Peers, s.cfg.LAN.Peers()...)
		st.BytesTo.LAN = s.cfg.LAN.BytesTo()
	}
	return st
}

func (s *Server) serveStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s.status()); err != nil {
		s.log.Debug("a status was not delivered", "err", err)
	}
}
