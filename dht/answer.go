// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"github.com/anacrolix/dht/v2/krpc"
)

const (
	// answerRate and answerBurst bound the answers per second: enough for an
	// ordinary node, and little use to who would have us flood a third.
	answerRate  = 100
	answerBurst = 200
	// modestBurst is what of the burst is for those who ask no more than their due.
	modestBurst = 100
	// maxValues4 and maxValues6 keep an answer below 1,000 bytes.
	maxValues4 = 50
	maxValues6 = 25
)

// answer answers a stranger's query (BEP 5, 32, 42, 43). The library's own
// answers are not used: they crash on an announce without arguments, store
// without bounds, and name nodes near to the wrong key.
func (f *family) answer(from netip.AddrPort, m *krpc.Msg, eager bool) {
	if m.A == nil || f.isReadOnly() {
		return
	}
	f.meet(from, m)
	if eager && f.answers.Tokens() <= modestBurst || !f.answers.Allow() {
		return
	}
	reply := krpc.Msg{T: m.T, Y: krpc.YResponse, IP: krpc.NodeAddr{IP: from.Addr().AsSlice(), Port: int(from.Port())}}
	var err *krpc.Error
	if reply.R, err = f.answerTo(from, m); err != nil {
		reply.Y, reply.R, reply.E = krpc.YError, nil, err
	} else {
		reply.R.ID = f.ownID()
	}
	b, encodeErr := encode(reply)
	if encodeErr == nil {
		_, encodeErr = f.socket.send(b, from)
	}
	if encodeErr != nil {
		f.log.Debug("answering a DHT query", slog.Any("error", encodeErr))
	}
}

func (f *family) answerTo(from netip.AddrPort, m *krpc.Msg) (*krpc.Return, *krpc.Error) {
	switch m.Q {
	case "ping":
		return &krpc.Return{}, nil
	case "find_node":
		return f.nodesFor(m.A.Target, m.A.Want), nil
	case "get_peers":
		r := f.nodesFor(m.A.InfoHash, m.A.Want)
		token := f.tokens.give(from.Addr())
		r.Token, r.Values = &token, f.valuesFor(m.A.InfoHash)
		return r, nil
	case "announce_peer":
		return f.answerAnnounce(from, m.A)
	}
	// Whatever seeks a target can at least go on from the nearest nodes.
	for _, target := range []Key{m.A.Target, m.A.InfoHash} {
		if target != (Key{}) && m.A.Token == "" {
			return f.nodesFor(target, m.A.Want), nil
		}
	}
	return nil, &krpc.ErrorMethodUnknown
}

func (f *family) answerAnnounce(from netip.AddrPort, a *krpc.MsgArgs) (*krpc.Return, *krpc.Error) {
	if !f.tokens.valid(a.Token, from.Addr()) {
		return nil, &krpc.Error{Code: krpc.ErrorCodeProtocolError, Msg: "invalid token"}
	}
	port := int(from.Port())
	if !a.ImpliedPort {
		if a.Port == nil || *a.Port < MinPort || *a.Port > 65535 {
			return nil, &krpc.Error{Code: krpc.ErrorCodeProtocolError, Msg: "invalid port"}
		}
		port = *a.Port
	}
	if !f.peers.add(a.InfoHash, from, uint16(port)) {
		return nil, &krpc.Error{Code: krpc.ErrorCodeServerError, Msg: "no room for more peers"}
	}
	return &krpc.Return{}, nil
}

// nodesFor names the nodes nearest to target, of the families that were asked
// for (BEP 32), else of this one.
func (f *family) nodesFor(target Key, want []krpc.Want) *krpc.Return {
	r := new(krpc.Return)
	for _, of := range f.all {
		if !slices.Contains(want, of.want) && (of != f || len(want) > 0) {
			continue
		}
		nodes := wireNodes(of.table.nearest(target, bucketSize))
		if of.want == krpc.WantNodes {
			r.Nodes = nodes
		} else {
			r.Nodes6 = nodes
		}
	}
	return r
}

func wireNodes(list []contact) []krpc.NodeInfo {
	nodes := make([]krpc.NodeInfo, len(list))
	for i, c := range list {
		nodes[i] = krpc.NodeInfo{ID: c.id, Addr: wireAddr(c.addr)}
	}
	return nodes
}

func wireAddr(addr netip.AddrPort) krpc.NodeAddr {
	return krpc.NodeAddr{IP: net.IP(addr.Addr().AsSlice()), Port: int(addr.Port())}
}

func (f *family) valuesFor(key Key) []krpc.NodeAddr {
	n := maxValues4
	if f.want == krpc.WantNodes6 {
		n = maxValues6
	}
	var values []krpc.NodeAddr
	for _, addr := range f.peers.sample(key, n) {
		values = append(values, wireAddr(addr))
	}
	return values
}

// meet has an unknown node that asks pinged, if the table has room for it: only
// a node that has answered is told to others, and a fresh network would
// otherwise take a minute to know itself.
func (f *family) meet(from netip.AddrPort, m *krpc.Msg) {
	c := contact{m.A.ID, from}
	if m.ReadOnly || !f.table.wants(c) || f.contacts.silent(from) || f.contacts.expected(from) {
		return
	}
	select {
	case f.strangers <- c:
	default:
	}
}
