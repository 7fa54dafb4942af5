// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import "time"

const (
	// The budget is what this node fetches from outside at a time, in bytes: what
	// its uplink brings in about a second. More would be leases that it does
	// not use yet, and that other nodes could.
	firstBudget = 1 << 20
	minBudget   = 256 << 10
	maxBudget   = 32 << 20

	// sample is how long one measurement takes.
	sample = 500 * time.Millisecond

	// lull is a pause in which nothing was asked for rather than slow to come.
	lull = 250 * time.Millisecond
)

// An uplink measures how fast bytes come from outside, while they do.
type uplink struct {
	measured bool
	rate     int64     // bytes per second
	since    time.Time // of the present measurement
	last     time.Time // when bytes came last
	bytes    int64     // since then
}

func (u *uplink) add(n int64, now time.Time) {
	if now.Sub(u.last) >= lull {
		u.since, u.bytes = now, 0
		n = 0 // they came before
	}
	u.last = now
	u.bytes += n
	passed := now.Sub(u.since)
	if passed < sample {
		return
	}
	rate := int64(float64(u.bytes) / passed.Seconds())
	if u.measured {
		rate = max(rate, (u.rate+rate)/2)
	}
	u.rate, u.measured = rate, true
	u.since, u.bytes = now, 0
}

func (u *uplink) budget() int64 {
	if !u.measured {
		return firstBudget
	}
	return min(max(u.rate, minBudget), maxBudget)
}
