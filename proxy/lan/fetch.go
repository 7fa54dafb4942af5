// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"apt-dht/proxy/fetch"
	"apt-dht/proxy/peer"
)

const (
	// headPatience is how long a living peer may take to begin an answer: its
	// processor or its cable may be busy.
	headPatience = 2 * time.Second

	// lookEvery is how often it is looked whether a silent peer is still alive.
	lookEvery = 50 * time.Millisecond
)

// Fetch implements fetch.LAN. The error wraps fetch.ErrNotHere where the peer
// answers, but does not give the blob; otherwise it could not be reached. A peer
// that is silent is probed meanwhile, and left as soon as it proves dead.
func (n *Node) Fetch(ctx context.Context, p fetch.Peer, d fetch.Digest, from, to int64) (*fetch.PeerBody, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	heard := make(chan struct{})
	defer close(heard)
	silence := time.AfterFunc(patience, func() { n.watchSilent(p, heard, cancel) })
	defer silence.Stop()
	r := peer.NewRequest(ctx, http.MethodGet, p.Addr, Prefix+"blob/"+hex.EncodeToString(d[:]))
	total := counter(&n.bytes, &n.bytes.from, p.ID)
	body, err := peer.Get(n.transport, r, from, to, headPatience, func(read int) {
		n.bytes.allFrom.Add(int64(read))
		total.Add(int64(read))
	})
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("lan: blob %x of %s: %w", d, p.Addr, err)
	}
	body.ReadCloser = &cancelling{body.ReadCloser, cancel}
	return body, nil
}

// watchSilent ends the wait for a peer's answer when the peer has died.
func (n *Node) watchSilent(p fetch.Peer, heard <-chan struct{}, cancel context.CancelCauseFunc) {
	if _, member := n.view.Load().byID[p.ID]; !member {
		return
	}
	n.Failed(p)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for !n.dead(p.ID) {
		select {
		case <-heard:
			return
		case <-tick.C:
		}
	}
	cancel(errDead)
}

var errDead = errors.New("the peer has died")

// cancelling is a body that ends its request's context when it is closed.
type cancelling struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (c *cancelling) Close() error {
	defer c.cancel(nil)
	return c.ReadCloser.Close()
}
