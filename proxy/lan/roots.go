// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"apt-dht/discovery"
	"apt-dht/proxy/peer"
)

const (
	// maxRootAskers bounds the members asked for a root file, rootsAtOnce those
	// asked at a time, which bounds what their answers take in memory.
	maxRootAskers = 16
	rootsAtOnce   = 4

	// maxRoot bounds a root file, maxRoots all copies of one together, in bytes.
	// Debian's take some 200 kB.
	maxRoot  = 4 << 20
	maxRoots = 16 << 20

	// maxRootName is longer than any URL that apt asks for.
	maxRootName = 4 << 10

	rootsTimeout = time.Second
)

// serveRoot gives a signed root file that this node has.
func (n *Node) serveRoot(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	source := peer.SourceOf(r)
	if n.cfg.Root == nil || name == "" || len(name) > maxRootName {
		http.NotFound(w, r)
		return
	}
	if !n.asking.Take(source) {
		peer.TooMany(w, time.Second)
		return
	}
	defer n.asking.Put(source)
	body, ok := n.cfg.Root(name)
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	out := newSender(w, nil)
	defer out.End()
	out.Write(body) // who has gone needs none
}

// Roots asks members for their copies of a signed root file and returns those that
// differ, in no order, within a second. They are unverified.
func (n *Node) Roots(ctx context.Context, name string) [][]byte {
	ctx, cancel := context.WithTimeout(ctx, rootsTimeout)
	defer cancel()
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, rootsAtOnce)
		all   copies
	)
	for _, m := range n.someMembers(maxRootAskers) {
		wg.Go(func() {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				all.add(n.askRoot(ctx, m, name))
			case <-ctx.Done():
			}
		})
	}
	wg.Wait()
	return all.bodies
}

// someMembers are members that answer, chosen by chance if there are more.
func (n *Node) someMembers(most int) []discovery.Member {
	var some []discovery.Member
	members := n.view.Load().members
	for _, i := range rand.Perm(len(members)) {
		if len(some) < most && n.alive(members[i].ID) {
			some = append(some, members[i])
		}
	}
	return some
}

// askRoot returns nil where the member has no copy or does not answer.
func (n *Node) askRoot(ctx context.Context, m discovery.Member, name string) []byte {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	impatience := time.AfterFunc(patience, cancel)
	r := peer.NewRequest(ctx, http.MethodGet, m.Addr, Prefix+"root")
	r.URL.RawQuery = url.Values{"name": {name}}.Encode()
	resp, err := n.transport.RoundTrip(r)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	if !impatience.Stop() || resp.StatusCode != http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRoot+1))
	if err != nil || len(body) == 0 || len(body) > maxRoot {
		return nil
	}
	return body
}

// copies are different bodies, of maxRoots in all.
type copies struct {
	mu     sync.Mutex // guards following
	bodies [][]byte
	seen   map[Digest]bool
	size   int
}

func (c *copies) add(body []byte) {
	sum := sha256.Sum256(body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if body == nil || c.seen[sum] || c.size+len(body) > maxRoots {
		return
	}
	if c.seen == nil {
		c.seen = make(map[Digest]bool)
	}
	c.seen[sum] = true
	c.size += len(body)
	c.bodies = append(c.bodies, body)
}
