// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"context"
	"net"
	"net/http"
	"time"
)

// DialFunc connects to another node.
type DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// NewTransport keeps up to most connections open for idle after their last use, up to
// each of them to one node. It follows no redirects, as RoundTrip does not, and knows
// no proxies.
func NewTransport(dial DialFunc, most, each int, idle time.Duration) *http.Transport {
	return &http.Transport{
		DialContext:            dial,
		DisableCompression:     true,
		MaxIdleConns:           most,
		MaxIdleConnsPerHost:    each,
		IdleConnTimeout:        idle,
		MaxResponseHeaderBytes: 8 << 10,
		ReadBufferSize:         16 << 10,
	}
}

// NewProbing makes a connection for each probe: a kept one would tell nothing
// about new ones.
func NewProbing(dial DialFunc) *http.Transport {
	t := NewTransport(dial, 0, 0, 0)
	t.DisableKeepAlives = true
	return t
}
