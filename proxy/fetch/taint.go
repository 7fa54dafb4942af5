// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import "time"

// taint remembers that wrong bytes of a blob went out, and from where.
type taint struct {
	until time.Time
	urls  map[string]bool // mirrors that sent them
}

// taints is the memory of wrong bytes, bounded by maxTaints.
type taints map[Digest]*taint

// maxTaints bounds the memory: a mirror that is wrong about everything must
// not fill it.
const maxTaints = 4096

func (m taints) add(d Digest, url string, now time.Time) {
	m.expire(now)
	t := m[d]
	if t == nil {
		t = &taint{urls: map[string]bool{}}
		m[d] = t
	}
	t.until = now.Add(taintFor)
	t.urls[url] = true
}

// expire drops what is over, and everything where that is not enough.
func (m taints) expire(now time.Time) {
	if len(m) < maxTaints {
		return
	}
	for d, t := range m {
		if now.After(t.until) {
			delete(m, d)
		}
	}
	if len(m) >= maxTaints {
		clear(m)
	}
}

func (m taints) whole(d Digest, now time.Time) bool {
	t := m[d]
	return t != nil && now.Before(t.until)
}

// wrong tells whether url has sent wrong bytes of the blob lately.
func (m taints) wrong(d Digest, url string, now time.Time) bool {
	return m.whole(d, now) && m[d].urls[url]
}
