// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"sync"
	"sync/atomic"
	"time"

	"apt-dht/discovery"
)

const (
	// soonPatience is how long a home may say of a blob that it is coming and
	// name no place. One that is honest moves the lease sooner: its holder is
	// given up when it has made no progress for five seconds.
	soonPatience = 6 * time.Second

	// soonAgain is the pause between two such answers after which they do not
	// belong together: one who is put off asks again after 100 ms.
	soonAgain = 2 * time.Second

	// passedOver is how long a home that took longer is asked nothing.
	passedOver = 10 * time.Minute

	// maxSoon bounds the blobs, and maxStallers the homes, that are remembered.
	maxSoon     = 4096
	maxStallers = 1024
)

// stallers are homes that put askers off. They may not mean it, so nothing else
// is held against them.
type stallers struct {
	any atomic.Bool // there was one: most nodes never meet one

	mu    sync.Mutex // guards following
	soon  map[putOff]period
	until map[string]time.Time // by id
}

// putOff is a blob of which a home says that it is coming.
type putOff struct {
	home string
	blob Digest
}

// period is when it said so first and last.
type period struct{ first, last time.Time }

// heard takes note of a home's word to this node, which would fetch the blob.
// False: the home is passed over from now on.
func (s *stallers) heard(home string, f discovery.Found, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := putOff{home, f.Hash}
	if f.State != discovery.Coming || len(f.From) > 0 {
		delete(s.soon, key)
		return true
	}
	p, known := s.soon[key]
	if !known || now.Sub(p.last) > soonAgain {
		p.first = now
	}
	if now.Sub(p.first) >= soonPatience {
		s.passLocked(home, now)
		delete(s.soon, key)
		return false
	}
	if s.soon == nil || len(s.soon) >= maxSoon {
		s.soon = make(map[putOff]period)
	}
	p.last = now
	s.soon[key] = p
	return true
}

func (s *stallers) passLocked(home string, now time.Time) {
	if s.until == nil || len(s.until) >= maxStallers {
		s.until = make(map[string]time.Time)
	}
	s.until[home] = now.Add(passedOver)
	s.any.Store(true)
}

func (s *stallers) has(id string) bool {
	if !s.any.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.until[id])
}
