// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"testing"
	"testing/synctest"
	"time"

	"apt-dht/discovery"
)

// A home that puts askers off for longer than an honest one may is passed over
// for a while; what may happen with an honest one costs it nothing.
func TestStallers(t *testing.T) {
	soon := discovery.Found{Hash: digestOf(1), State: discovery.Coming, Number: 1}
	from := soon
	from.From = []discovery.Member{{ID: digestID(1)}}
	other := soon
	other.Hash = digestOf(2)
	each100ms := func(s *stallers, total time.Duration, answer func(i int) discovery.Found) bool {
		for i := range int(total / (100 * time.Millisecond)) {
			if !s.heard("home", answer(i), time.Now()) {
				return false
			}
			time.Sleep(100 * time.Millisecond)
		}
		return true
	}
	for name, test := range map[string]struct {
		how    func(s *stallers) bool
		honest bool
	}{
		"for ever":      {func(s *stallers) bool { return each100ms(s, 2*soonPatience, func(int) discovery.Found { return soon }) }, false},
		"for a while":   {func(s *stallers) bool { return each100ms(s, soonPatience, func(int) discovery.Found { return soon }) }, true},
		"names a place": {func(s *stallers) bool { return each100ms(s, 2*soonPatience, func(int) discovery.Found { return from }) }, true},
		"and then a place": {func(s *stallers) bool {
			return each100ms(s, 3*soonPatience, func(i int) discovery.Found {
				return map[bool]discovery.Found{true: from, false: soon}[i%50 == 49]
			})
		}, true},
		"now and then": {func(s *stallers) bool {
			first := s.heard("home", soon, time.Now())
			time.Sleep(time.Hour)
			return first && s.heard("home", soon, time.Now())
		}, true},
		"of another blob": {func(s *stallers) bool {
			return each100ms(s, soonPatience, func(int) discovery.Found { return soon }) &&
				each100ms(s, soonPatience, func(int) discovery.Found { return other })
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s stallers
				if got := test.how(&s); got != test.honest || s.has("home") == test.honest || s.has("another") {
					t.Errorf("honest: %t, passed over: %t", got, s.has("home"))
				}
				time.Sleep(passedOver)
				if s.has("home") {
					t.Error("it is passed over for ever")
				}
			})
		})
	}
}

func TestStallersAreBounded(t *testing.T) {
	var s stallers
	now := time.Now()
	for i := range 2 * maxSoon {
		s.heard("home", discovery.Found{Hash: digestOf(i), State: discovery.Coming}, now)
	}
	for i := range 2 * maxStallers {
		s.passLocked(digestID(i), now)
	}
	if len(s.soon) > maxSoon || len(s.until) > maxStallers {
		t.Errorf("%d blobs and %d homes are remembered", len(s.soon), len(s.until))
	}
}

// Others act in the place of a home that is passed over.
func TestStallerIsNotAsked(t *testing.T) {
	nodes := startNodes(t, 3)
	d := blobOf(nodes[0], 0, nodes[1], nodes[2])
	nodes[0].stallers.passLocked(nodes[1].ID, time.Now())
	if homes, forced := nodes[0].homesToAsk(d, ""); homes[0].ID != nodes[2].ID || !forced {
		t.Errorf("the homes are %v, forced: %t", homes, forced)
	}
	expect(t, nodes[0].findNow(d, true), "leased")
	eventually(t, "it has heard of the lease", func() bool { return nodes[1].home.Stats().Coming == 1 })
	expect(t, nodes[2].findNow(d, true), "coming 0")
}
