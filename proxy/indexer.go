// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"apt-dht/index"
	"apt-dht/proxy/fetch"
	"apt-dht/store"
)

// maxJobs bounds the index files waiting to be parsed or fetched. What does not
// fit is asked for again by the next request that misses it.
const maxJobs = 256

// indexer feeds the index in the background with the files that name others:
// those that pass by, and those that clients updating by pdiff never ask for.
type indexer struct {
	index    *index.Index
	internet *Internet
	store    *store.Store
	fetch    *fetch.Fetcher
	header   http.Header // of our own requests
	log      *slog.Logger
	jobs     chan job

	mu      sync.Mutex // guards following
	pending map[fetch.Digest]bool
}

// job is an index file to be parsed, and to be fetched before where fetch is
// set.
type job struct {
	name   string
	digest fetch.Digest
	want   *fetch.Want
}

func newIndexer(cfg Config, via string) *indexer {
	return &indexer{
		index:    cfg.Index,
		internet: cfg.Internet,
		store:    cfg.Store,
		fetch:    cfg.Fetch,
		// Some mirrors answer only what looks like apt.
		header:  http.Header{"User-Agent": {"Debian APT-HTTP/1.3 (apt-dht/" + cfg.Version + ")"}, "Via": {via}},
		log:     cfg.Log,
		jobs:    make(chan job, maxJobs),
		pending: map[fetch.Digest]bool{},
	}
}

// run works until ctx ends.
func (x *indexer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-x.jobs:
			x.do(ctx, j)
		}
	}
}

// parse has the stored file parsed.
func (x *indexer) parse(name string, digest fetch.Digest) {
	x.add(job{name: name, digest: digest})
}

// asked looks after what a request shows to be missing from the index.
func (x *indexer) asked(a *ask) {
	if x.busy() {
		return // what is missing may be just coming
	}
	for _, ref := range x.index.Wanted(a.name) {
		url := urlOf(schemeOf(a.url), ref.Name)
		x.add(job{name: ref.Name, digest: ref.Digest, want: &fetch.Want{
			URL: url, Digest: ref.Digest, Size: ref.Size,
			Header: x.header, Realm: realmOf(a.client), Background: true, Keep: true,
			Shareable: x.internet.shareable(url, ref.Name, a.entry.Base),
		}})
	}
}

func (x *indexer) busy() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.pending) > 0
}

func (x *indexer) add(j job) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.pending[j.digest] {
		return
	}
	select {
	case x.jobs <- j:
		x.pending[j.digest] = true
	default:
	}
}

func (x *indexer) do(ctx context.Context, j job) {
	defer x.done(j.digest)
	if j.want != nil {
		if err := x.bring(ctx, *j.want); err != nil {
			x.log.Warn("an index could not be fetched; files it names are not known by hash", "url", j.want.URL, "err", err)
			return
		}
	}
	if err := x.feed(j); err != nil && ctx.Err() == nil {
		x.log.Warn("an index could not be parsed; files it names are not known by hash", "name", j.name, "err", err)
	}
}

func (x *indexer) done(d fetch.Digest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.pending, d)
}

// bring fetches the file into the store.
func (x *indexer) bring(ctx context.Context, want fetch.Want) error {
	content, err := x.fetch.Open(ctx, want)
	if err != nil {
		return err
	}
	defer content.Close()
	_, err = io.Copy(io.Discard, content)
	return err
}

func (x *indexer) feed(j job) error {
	blob, err := x.store.Get(j.digest)
	if errors.Is(err, store.ErrNotFound) {
		return nil // evicted, or not stored for want of space
	}
	if err != nil {
		return err
	}
	defer blob.Close()
	return x.index.AddFile(j.name, j.digest, blob)
}
