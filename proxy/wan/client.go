// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"apt-dht/dht"
	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
)

const (
	// dialTimeout is how long a node may take to accept a connection, and
	// answerTimeout, that included, to begin its answer: half around the world
	// and over a bad link it takes no more than two or three times 300 ms.
	dialTimeout   = time.Second
	answerTimeout = 2 * time.Second

	// idleConn is how long a connection is kept: less than servers do.
	idleConn = 30 * time.Second
)

var errNotAllowed = errors.New("an address that no node should have")

// dial makes all connections of the node.
func (n *Node) dial(ctx context.Context, network, address string) (net.Conn, error) {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	if !n.mayDial(addr) {
		return nil, fmt.Errorf("%s: %w", addr, errNotAllowed)
	}
	c, err := n.connect(ctx, network, address)
	if err == nil && n.isSelf(c) {
		c.Close()
		return nil, fmt.Errorf("%s is this node itself: %w", addr, errNotAllowed)
	}
	return c, err
}

// mayDial tells whether addr may be that of another node.
func (n *Node) mayDial(addr netip.AddrPort) bool {
	if !dht.Allowed(addr, n.cfg.Private) {
		return false
	}
	outside, ok := n.cfg.External(addr.Addr().Is4())
	return !(ok && addr == outside)
}

// isSelf tells whether a connection leads from this machine to the node's own port.
func (n *Node) isSelf(c net.Conn) bool {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	remote, ok2 := c.RemoteAddr().(*net.TCPAddr)
	return ok && ok2 && local.IP.Equal(remote.IP) && remote.Port == int(n.cfg.Port)
}

// peerAt names a node by its address, which is all that is known of it.
func peerAt(addr netip.AddrPort) fetch.Peer { return fetch.Peer{ID: addr.String(), Addr: addr} }

// liarAt is whom to blame for what comes from an address: all of its ports, lest
// a liar go on at the next, but in a DHT of one's own just that one.
func (n *Node) liarAt(addr netip.AddrPort) fetch.Peer {
	if n.cfg.Private {
		return peerAt(addr)
	}
	return fetch.Peer{ID: siteOf(addr.Addr()).String(), Addr: addr}
}

// Fetch implements fetch.WAN. The error wraps fetch.ErrNotHere where the peer
// answers, but does not give the bytes; else it could not be reached. A node
// gives four bodies at a time to one address, and refuses more.
func (n *Node) Fetch(ctx context.Context, p fetch.Peer, d Digest, from, to int64) (*fetch.PeerBody, error) {
	r := peer.NewRequest(ctx, http.MethodGet, p.Addr, Prefix+"blob/"+hex.EncodeToString(d[:]))
	var come int64
	began := time.Now()
	body, err := peer.Get(n.transport, r, from, to, answerTimeout, func(read int) {
		come += int64(read)
		n.bytesFrom.Add(int64(read))
	})
	now := time.Now()
	if refused := (*peer.RefusedError)(nil); errors.As(err, &refused) && refused.Code == http.StatusTooManyRequests {
		n.peers.refused(p.Addr, refused.RetryAfter, now)
	}
	if err == nil && body.Growing {
		body.Close()
		err = fmt.Errorf("%w whole", fetch.ErrNotHere)
	}
	if err != nil {
		return nil, fmt.Errorf("wan: blob %x of %s: %w", d, p.Addr, err)
	}
	n.peers.answered(p.Addr, now.Sub(began), now)
	body.ReadCloser = &measured{ReadCloser: body.ReadCloser, ended: func() {
		n.peers.gave(p.Addr, come, time.Since(now), time.Now())
	}}
	return body, nil
}

// measured tells when a body is closed.
type measured struct {
	io.ReadCloser
	ended func()
}

func (m *measured) Close() error {
	m.ended()
	return m.ReadCloser.Close()
}

// Failed implements fetch.WAN: the peer is left alone for a while, longer each
// time.
func (n *Node) Failed(p fetch.Peer) { n.peers.failed(p.Addr, time.Now()) }

// Liar implements fetch.WAN: for a day the peer is asked nothing.
func (n *Node) Liar(p fetch.Peer, d Digest, what string) {
	if n.liars.Add(n.liarAt(p.Addr), what) {
		n.cfg.Log.Warn("a node of the DHT sent what is not the file; it is set aside for a day",
			slog.Any("addr", p.Addr), slog.String("digest", hex.EncodeToString(d[:])), slog.String("what", what))
	}
}

// ask puts a question to a node and reads the answer, of at most most bytes.
func (n *Node) ask(ctx context.Context, addr netip.AddrPort, path string, question any, most int64, answer message) error {
	r, err := peer.NewQuestion(ctx, addr, Prefix+path, question)
	if err != nil {
		return fmt.Errorf("wan: %s: %w", path, err)
	}
	return roundTrip(n.transport, r, most, answer)
}

func roundTrip(t http.RoundTripper, r *http.Request, most int64, answer message) error {
	resp, err := t.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("wan: %s of %s: %w", r.URL.Path, r.URL.Host, err)
	}
	defer resp.Body.Close()
	body, err := peer.ReadAnswer(resp, most)
	if err == nil {
		err = decode(body, answer)
	}
	if err != nil {
		return fmt.Errorf("wan: %s of %s: %w", r.URL.Path, r.URL.Host, err)
	}
	return nil
}
