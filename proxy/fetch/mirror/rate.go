// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"slices"
	"time"
)

const (
	// maxWait is how long a request may expect to stand behind others on a connection. Less would spread
	// files that are wanted in order over several connections: the later ones come first, and then the
	// window of whoever asked is used up and the link falls idle for a round trip. On a slow link, where one
	// body takes longer than that, a round trip is little.
	maxWait = time.Second

	// Bounds of what comes in maxWait; the first holds until something has been measured.
	assumedAhead = 8 << 20
	minAhead     = 256 << 10
	maxAhead     = 32 << 20

	// sampleTime is over how long the rate of a pool is measured.
	sampleTime = 100 * time.Millisecond
)

// enoughLocked returns how many bytes may still be to come on a connection that is given another request.
func (p *pool) enoughLocked() int64 {
	if p.rate == 0 {
		return assumedAhead
	}
	return min(max(int64(p.rate*maxWait.Seconds()), minAhead), maxAhead)
}

// sampleLocked measures the rate, as long as there is something to come.
func (p *pool) sampleLocked(now time.Time) {
	took := now.Sub(p.sampleAt)
	if p.sampleAt.IsZero() || took < sampleTime {
		return
	}
	rate := float64(p.sampled.Swap(0)) / took.Seconds()
	if p.rate == 0 {
		p.rate = rate
	}
	p.rate = (3*p.rate + rate) / 4
	p.sampleAt = now
}

// startSampleLocked begins the measurement with the first answer: the round trip before it says nothing.
func (p *pool) startSampleLocked(now time.Time) {
	if p.sampleAt.IsZero() {
		p.sampled.Store(0)
		p.sampleAt = now
	}
}

// restLocked ends the measurement if nothing is to come.
func (p *pool) restLocked() {
	if !slices.ContainsFunc(p.conns, func(c *conn) bool { return len(c.queue) > 0 }) {
		p.sampleAt = time.Time{}
	}
}

// hear notes that the mirror lives.
func (p *pool) hear() { p.heard.Store(int64(time.Since(p.born))) }

// silentFor returns for how long nothing has come on any connection.
func (p *pool) silentFor() time.Duration {
	return time.Since(p.born) - time.Duration(p.heard.Load())
}
