// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// holdTime is how long a client is answered from the generation whose root it was given: an update takes
	// less, and a mirror keeps the files that it replaces about as long.
	holdTime = 15 * time.Minute

	maxClients     = 4096
	maxClientViews = 256 // suites of one client
)

// clients remembers which roots were given to whom.
type clients struct {
	mu    sync.RWMutex // guards following
	views map[netip.Addr][]clientView
}

// clientView is a root that a client was given. Slices of them are replaced, never changed.
type clientView struct {
	dir   string // of the suite
	root  Digest
	until time.Time
}

func (c *clients) holding(client netip.Addr) holding {
	c.mu.RLock()
	views := c.views[client.Unmap()]
	c.mu.RUnlock()
	if len(views) == 0 {
		return holding{}
	}
	return holding{views, time.Now()}
}

// gave notes a root. Where there are too many clients, those unknown so far are not remembered.
func (c *clients) gave(dir string, root Digest, client netip.Addr) {
	client = client.Unmap()
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.views == nil {
		c.views = make(map[netip.Addr][]clientView)
	}
	old, known := c.views[client]
	if !known && len(c.views) >= maxClients {
		c.expireLocked(now)
	}
	if !known && len(c.views) >= maxClients {
		return
	}
	views := []clientView{{dir, root, now.Add(holdTime)}}
	for _, v := range old {
		if v.dir != dir && now.Before(v.until) && len(views) < maxClientViews {
			views = append(views, v)
		}
	}
	c.views[client] = views
}

func (c *clients) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expireLocked(time.Now())
}

func (c *clients) expireLocked(now time.Time) {
	for client, views := range c.views {
		if !slices.ContainsFunc(views, func(v clientView) bool { return now.Before(v.until) }) {
			delete(c.views, client)
		}
	}
}
