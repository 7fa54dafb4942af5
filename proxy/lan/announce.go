// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"apt-dht/discovery"
	"apt-dht/proxy/peer"
)

const (
	// newsDelay is how long news wait for company, and doneDelay those for which
	// other nodes wait.
	newsDelay = 200 * time.Millisecond
	doneDelay = 2 * time.Millisecond

	// maxNews bounds the news that wait. What does not fit is told when blobs
	// are announced anew.
	maxNews = 16384
)

// news is that this node has a blob, or has it no more.
type news struct {
	digest Digest
	gone   bool
}

// pending are the news that have not been sent yet.
type pending struct {
	wake  chan struct{} // holds a token when there are news
	hurry chan struct{} // holds a token when others wait for them

	mu    sync.Mutex // guards following
	blobs map[Digest]news
}

func (p *pending) init() {
	p.wake = make(chan struct{}, 1)
	p.hurry = make(chan struct{}, 1)
	p.blobs = make(map[Digest]news)
}

func (p *pending) add(one news) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.blobs) < maxNews {
		p.blobs[one.digest] = one
	}
	poke(p.wake)
}

func (p *pending) take() map[Digest]news {
	p.mu.Lock()
	defer p.mu.Unlock()
	blobs := p.blobs
	p.blobs = make(map[Digest]news)
	return blobs
}

// poke leaves a token in c.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Have tells that the store has got a blob that may be given to others.
func (n *Node) Have(d Digest) { n.news.add(news{digest: d}) }

// Gone tells that the store has lost one.
func (n *Node) Gone(d Digest) { n.news.add(news{digest: d, gone: true}) }

// haveNow is Have for a blob that others may be waiting for.
func (n *Node) haveNow(d Digest) {
	n.Have(d)
	poke(n.news.hurry)
}

// announce sends news to the homes they concern.
func (n *Node) announce(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.news.wake:
		}
		if !n.gather(ctx) {
			return nil
		}
		n.spread(n.news.take())
	}
}

// gather waits for company.
func (n *Node) gather(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(newsDelay):
		return true
	case <-n.news.hurry:
		return peer.Sleep(ctx, doneDelay)
	}
}

// spread sends news to both homes of each blob. A node need not tell itself, and
// one that is alone tells nobody: who joins is told all.
func (n *Node) spread(blobs map[Digest]news) {
	if n.Alone() {
		return
	}
	var have []Digest
	now := time.Now()
	for d, one := range blobs {
		proper, _ := n.view.Load().ring.Homes(d, nil)
		for _, home := range proper {
			if home.ID != "" && n.dead(home.ID) {
				n.anew.fallBehind(home.ID, now)
			}
		}
		for _, home := range n.homes(d) {
			n.tell(home, one)
		}
		if !one.gone {
			have = append(have, d)
		}
	}
	n.announced(have, now)
}

func (n *Node) tell(home discovery.Member, one news) {
	if !n.isSelf(home) && !n.announces.Add(home, one) {
		n.newsLost(home, nil)
	}
}

// newsLost has a member that did not hear the latest news told them later.
func (n *Node) newsLost(home discovery.Member, _ []news) {
	n.anew.fallBehind(home.ID, time.Now().Add(-2*newsPatience))
}

func (n *Node) announced(blobs []Digest, at time.Time) {
	if n.cfg.Announced == nil || len(blobs) == 0 {
		return
	}
	if err := n.cfg.Announced(blobs, at); err != nil {
		n.cfg.Log.Warn("cannot keep what was announced to the LAN; it will be announced again", slog.Any("err", err))
	}
}

func (n *Node) sendNews(home discovery.Member, batch []news) bool {
	msg := announceQuestion{hello: n.hello()}
	for _, one := range batch {
		if one.gone {
			msg.Gone = append(msg.Gone, hash(one.digest))
		} else {
			msg.Have = append(msg.Have, hash(one.digest))
		}
	}
	return n.askMember(home, "announce", newsPatience, &msg, &done{})
}

// sendAll announces blobs to one member, in as many messages as that takes.
func (n *Node) sendAll(ctx context.Context, home discovery.Member, blobs []hash) bool {
	for some := range slices.Chunk(blobs, maxBatch) {
		msg := announceQuestion{hello: n.hello(), Have: some}
		if !n.askMember(home, "announce", newsPatience, &msg, &done{}) || !peer.Sleep(ctx, anewPause) {
			return false
		}
	}
	return true
}
