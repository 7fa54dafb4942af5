// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"apt-dht/discovery"
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

func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: patience}).DialContext,
		DisableCompression:     true,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        idleConn,
		MaxResponseHeaderBytes: 8 << 10,
		ReadBufferSize:         16 << 10,
	}
}

// newProbing makes a connection for each probe: a kept one would tell nothing
// about new ones.
func newProbing() *http.Transport {
	t := newTransport()
	t.DisableKeepAlives = true
	return t
}

// Probe asks the node at addr for its id (discovery.Config.Probe).
func (n *Node) Probe(ctx context.Context, addr netip.AddrPort) (id string, err error) {
	resp, err := n.probing.RoundTrip(newRequest(ctx, http.MethodGet, addr, "ping"))
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

// newRequest names what is below Prefix at a node.
func newRequest(ctx context.Context, method string, addr netip.AddrPort, path string) *http.Request {
	r := &http.Request{
		Method:     method,
		URL:        &url.URL{Scheme: "http", Host: addr.String(), Path: Prefix + path},
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     http.Header{"User-Agent": {"apt-dht"}},
	}
	return r.WithContext(ctx)
}

// ask puts a question to a member and reads the answer.
func (n *Node) ask(m discovery.Member, path string, timeout time.Duration, question any, answer message) error {
	ctx, cancel := context.WithTimeout(n.ctx, timeout)
	defer cancel()
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("lan: %s: %w", path, err)
	}
	r := newRequest(ctx, http.MethodPost, m.Addr, path)
	r.Header["Content-Type"] = []string{"application/json"}
	// All questions may be repeated: one that meets a connection just being
	// closed is sent on another. The empty field itself is not sent.
	r.Header["Idempotency-Key"] = nil
	r.ContentLength = int64(len(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, _ = r.GetBody()
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

// errBusy: a node answers, but not this question now.
var errBusy = errors.New("it has too much to do")

func readAnswer(resp *http.Response, most int64, answer message) error {
	if resp.StatusCode == http.StatusTooManyRequests {
		return errBusy
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answered %q", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return err
	}
	if int64(len(body)) > most {
		return fmt.Errorf("it answered more than %d bytes", most)
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
	if n.ctx.Err() == nil && !errors.Is(err, errBusy) {
		n.cfg.Log.Debug("a node of the LAN failed", "id", m.ID, "err", err)
		n.cfg.Members.Failed(m.ID)
	}
	return false
}
