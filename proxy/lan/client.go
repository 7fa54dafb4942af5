// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"apt-dht/discovery"
	"apt-dht/proxy/peer"
)

const (
	// patience is how long a node may take to accept a connection or to answer a
	// question: on a LAN a living one does in a few milliseconds, and a dead one
	// costs as long.
	patience = 250 * time.Millisecond

	// newsPatience is the same for what nobody waits for.
	newsPatience = time.Second

	// idleConn is how long a connection is kept: less than servers do.
	idleConn = time.Minute

	maxPong = 4 << 10
)

// Probe asks the node at addr for its id (discovery.Config.Probe).
func (n *Node) Probe(ctx context.Context, addr netip.AddrPort) (id string, err error) {
	resp, err := n.probing.RoundTrip(peer.NewRequest(ctx, http.MethodGet, addr, Prefix+"ping"))
	if err != nil {
		return "", fmt.Errorf("lan: ping %s: %w", addr, err)
	}
	defer resp.Body.Close()
	var answer pong
	if err := readAnswer(resp, maxPong, &answer); err != nil {
		n.noteVersion(err, addr.String())
		return "", fmt.Errorf("lan: ping %s: %w", addr, err)
	}
	return answer.ID, nil
}

// ask puts a question to a member and reads the answer.
func (n *Node) ask(m discovery.Member, path string, timeout time.Duration, question any, answer message) error {
	ctx, cancel := context.WithTimeout(n.ctx, timeout)
	defer cancel()
	r, err := peer.NewQuestion(ctx, m.Addr, Prefix+path, question)
	if err != nil {
		return fmt.Errorf("lan: %s: %w", path, err)
	}
	resp, err := n.transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("lan: %s of %s: %w", path, m.Addr, err)
	}
	defer resp.Body.Close()
	if err := readAnswer(resp, maxAnswer, answer); err != nil {
		n.noteVersion(err, m.Addr.String())
		return fmt.Errorf("lan: %s of %s: %w", path, m.Addr, err)
	}
	return nil
}

func readAnswer(resp *http.Response, most int64, answer message) error {
	body, err := peer.ReadAnswer(resp, most)
	if err != nil {
		return err
	}
	return decode(body, answer)
}

// askMember is ask of a member that is skipped from now on if it fails. It
// reports whether there is an answer.
func (n *Node) askMember(m discovery.Member, path string, timeout time.Duration, question any, answer message) bool {
	err := n.ask(m, path, timeout, question, answer)
	if err == nil {
		return true
	}
	if n.ctx.Err() == nil && !errors.Is(err, peer.ErrBusy) {
		n.cfg.Log.Debug("a node of the LAN failed", "id", m.ID, "err", err)
		n.cfg.Members.Failed(m.ID)
	}
	return false
}
