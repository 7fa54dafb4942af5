// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"apt-dht/dht"
)

const (
	// aloneAfter is how long no node of the DHT may be known before that is told;
	// one that falls silent counts as known for a quarter of an hour.
	aloneAfter = 30 * time.Second
	// aloneEvery is how often it is looked at.
	aloneEvery = 5 * time.Second
)

// What a node's status says where no node of the DHT answers.
const (
	noneNamed     = "no --dht-bootstrap address answers"
	noneWellKnown = "no well-known node answers"
)

// lookout tells the operator when no node of the DHT answers.
type lookout struct {
	cfg   internetConfig
	own   string     // where this node listens, [HOST]:PORT
	nodes func() int // how many are known
	ask   func(ctx context.Context, cfg internetConfig, own string) []bootstrapTry
	log   *slog.Logger
	alone atomic.Bool
}

// newLookout makes one for a node that listens on port.
func newLookout(cfg internetConfig, port uint16, node *dht.Node, log *slog.Logger) *lookout {
	host, _, _ := net.SplitHostPort(cmp.Or(cfg.Listen, defaultWAN)) // it has been opened
	return &lookout{
		cfg: cfg, own: net.JoinHostPort(host, strconv.Itoa(int(port))),
		nodes: func() int { return node.Stats().GoodNodes },
		ask:   tryBootstrap, log: log,
	}
}

// run looks until ctx ends. Who begins a DHT may be alone.
func (l *lookout) run(ctx context.Context) error {
	if len(l.cfg.first()) == 0 {
		return nil
	}
	ticker := time.NewTicker(aloneEvery)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		switch {
		case l.nodes() > 0:
			last = time.Now()
			if l.alone.Swap(false) {
				l.log.Info("nodes of the DHT answer now")
			}
		case time.Since(last) >= aloneAfter && !l.alone.Swap(true):
			l.warn(ctx)
		}
	}
}

func (l *lookout) warn(ctx context.Context) {
	tried := l.ask(ctx, l.cfg, l.own)
	if ctx.Err() == nil {
		l.log.Warn("no node of the DHT answers", "tried", tellTries(tried), "to_do", advise(l.cfg, tried))
	}
}

// trouble is for the status.
func (l *lookout) trouble() string {
	switch {
	case !l.alone.Load():
		return ""
	case len(l.cfg.Bootstrap) > 0:
		return noneNamed
	}
	return noneWellKnown
}
