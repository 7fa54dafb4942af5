// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"time"

	"apt-dht/index/trust"
)

// sourcesPoll is how often apt's configuration is looked at: somebody who has
// added a repository runs apt update some seconds later.
const sourcesPoll = 5 * time.Second

// followSources loads apt's sources and keyrings again when they change.
func (n *node) followSources(ctx context.Context) error {
	seen := sourcesStamp(n.cfg.AptEtc)
	tick := time.NewTicker(sourcesPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := sourcesStamp(n.cfg.AptEtc)
		if now == seen {
			continue
		}
		seen = now
		apt, err := trust.Load(trust.Config{EtcDir: n.cfg.AptEtc, Log: n.log})
		if err != nil {
			n.log.Warn("apt's sources have changed and cannot be read; the old ones stay in force", "dir", n.cfg.AptEtc, "err", err)
			continue
		}
		n.trust.Store(apt)
		n.index.SetTrust(apt)
		n.log.Info("apt's sources have changed and were loaded again", "dir", n.cfg.AptEtc)
	}
}

// sourcesStamp changes when a file of apt's sources or keyrings does. Reading
// directories and file times costs some 50 µs; watching them would cost a
// descriptor for each and still miss files that Signed-By names elsewhere.
func sourcesStamp(etc string) uint64 {
	h := fnv.New64a()
	for _, pattern := range []string{"sources.list", "sources.list.d/*", "trusted.gpg", "trusted.gpg.d/*", "keyrings/*"} {
		files, _ := filepath.Glob(filepath.Join(etc, pattern)) // the patterns are well formed
		for _, f := range files {
			if st, err := os.Stat(f); err == nil {
				fmt.Fprintln(h, f, st.Size(), st.ModTime().UnixNano())
			}
		}
	}
	return h.Sum64()
}
