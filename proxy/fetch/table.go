// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"errors"
	"net/url"
	"slices"
	"time"
)

// join finds or starts want's transfer and counts the caller as its reader. It
// blocks on nothing: the order of the calls is the order of asking.
func (f *Fetcher) join(want Want) (*transfer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	if f.taints.whole(want.Digest, time.Now()) {
		want.Start = 0 // it will be answered whole
	}
	if t := f.runningLocked(&want); t != nil {
		return t, f.joinLocked(t, want.URL, want.Start)
	}
	// One may have ended since the caller looked.
	if d, ok := f.justStoredLocked(&want); ok {
		return nil, &justStored{d}
	}
	if !want.known() && want.Start > ahead {
		return nil, errTooFar
	}
	t := f.newTransferLocked(want)
	f.transfers[t.key] = t
	t.readers++
	f.wg.Go(t.run)
	return t, nil
}

// laneOf is where want waits among those who ask mirrors.
func laneOf(want *Want) lane {
	l := lane{flow: want.Flow}
	if want.Background {
		l.flow += " in the background"
	}
	if u, err := url.Parse(want.URL); err == nil {
		l.host = u.Host
	}
	return l
}

// sourcesLocked is the ladder for want: the mirrors, without those that have
// sent wrong bytes of it, unless no other is left and nothing else will do.
func (f *Fetcher) sourcesLocked(want *Want) (sources []Source, suspect bool) {
	urls := f.untaintedLocked(want)
	suspect = len(urls) == 0
	if suspect && want.Exact {
		urls = want.urls() // one of them may have come to its senses
	}
	patience := time.Duration(0)
	if len(urls) > 1 {
		patience = nextMirror
	}
	for _, url := range urls {
		sources = append(sources, &mirrorSource{up: f.cfg.Upstream, url: url, patience: patience})
	}
	return sources, suspect
}

// runningLocked is the transfer that serves want: that of its hash, or one of its
// URL that began before the hash became known.
func (f *Fetcher) runningLocked(want *Want) *transfer {
	if t := f.transfers[want.key()]; t != nil {
		return t
	}
	return f.transfers[want.urlKey()]
}

func (f *Fetcher) joinLocked(t *transfer, url string, start int64) error {
	switch {
	case t.ctx.Err() != nil:
		return errEnding
	case start-t.have() > ahead && t.growing.Load() != nil:
		return errTooFar
	case !slices.Contains(t.want.urls(), url):
		return errElsewhere
	}
	t.readers++
	t.stopLingering()
	return nil
}

// justStoredLocked tells what has been stored since the asker came.
func (f *Fetcher) justStoredLocked(want *Want) (Digest, bool) {
	if want.known() {
		_, ok := f.cfg.Store.Stat(want.Digest)
		return want.Digest, ok
	}
	file, ok := f.recent[want.urlKey()]
	return file.digest, ok && file.at.After(want.Since)
}

// justStored: the file need not be fetched, it has just come.
type justStored struct{ digest Digest }

func (*justStored) Error() string { return "the file has just been stored" }

var (
	errTooFar    = errors.New("only the end of the file is wanted")
	errEnding    = errors.New("a transfer of the file is just ending")
	errElsewhere = errors.New("the file is being fetched from elsewhere")
	errAllDiffer = errors.New("every mirror had other bytes than the index names")
)

// leave takes back one join.
func (f *Fetcher) leave(t *transfer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.readers--
	if t.readers > 0 {
		return
	}
	if f.transfers[t.key] != t { // it has ended
		t.closeFirst()
		return
	}
	t.lingering = time.AfterFunc(linger, func() { f.abandon(t) })
}

// abandon ends a transfer that nobody came back to.
func (f *Fetcher) abandon(t *transfer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.readers == 0 {
		t.stop()
	}
}

// forget takes an ended transfer off the list. Askers on their way find what it
// has stored, which is zero for nothing.
func (f *Fetcher) forget(t *transfer, stored Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !t.want.known() && stored != (Digest{}) {
		if len(f.recent) >= maxRecent {
			clear(f.recent)
		}
		f.recent[t.key] = recentFile{stored, time.Now()}
	}
	delete(f.transfers, t.key)
	t.stopLingering()
	if t.readers == 0 {
		t.closeFirst()
	}
}

// taint has a blob answered whole from now on: wrong bytes of it went out.
func (f *Fetcher) taint(d Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taints.add(d, "", time.Now())
}

// distrust takes note of URLs that gave wrong bytes of a blob.
func (f *Fetcher) distrust(d Digest, urls []string) {
	for _, place := range urls {
		if u, err := url.Parse(place); err == nil {
			f.cfg.Upstream.Distrust(u)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, place := range urls {
		f.taints.add(d, place, time.Now())
	}
}

// Transfer is a snapshot of a transfer for the status page.
type Transfer struct {
	URL     string `json:"url"`
	Size    int64  `json:"size"` // -1: not known yet
	Have    int64  `json:"have"`
	Readers int    `json:"readers"`
}

// Transfers lists what is going on.
func (f *Fetcher) Transfers() []Transfer {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]Transfer, 0, len(f.transfers))
	for _, t := range f.transfers {
		list = append(list, Transfer{URL: t.want.URL, Size: t.want.Size, Have: t.total(), Readers: t.readers})
	}
	return list
}
