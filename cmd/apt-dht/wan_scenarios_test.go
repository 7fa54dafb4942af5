// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"sync"
	"testing"
	"time"
)

// wanScenarios are tests of sites on an internet. Each has an internet of its
// own, so they may run at the same time. They mostly wait: for announces, that
// come within a budget, for checks, for limits of speed.
var wanScenarios = map[string]func(t *testing.T, w *world){}

// wanPeerScenarios are those that compare times with a bound of half a second or
// more. Few run at the same time.
var wanPeerScenarios = map[string]func(t *testing.T, w *world){}

// wanTimed are those that compare times more exactly. They run one at a time,
// before all others.
var wanTimed = map[string]func(t *testing.T, w *world){}

// TestInternet runs every scenario. `go test -run TestInternet/NAME` runs one.
func TestInternet(t *testing.T) {
	needRoot(t)
	sweepLANs(t)
	w := newWANWorld(t)
	runScenarios(t, w, wanTimed, 1)
	var both sync.WaitGroup
	both.Go(func() { runScenarios(t, w, wanScenarios, 6) })
	both.Go(func() { runScenarios(t, w, wanPeerScenarios, 2) })
	both.Wait()
}

// runScenarios runs n at a time, which t.Parallel would limit to the number of
// CPUs, and returns when all have ended.
func runScenarios(t *testing.T, w *world, scenarios map[string]func(t *testing.T, w *world), n int) {
	names := make(chan string)
	var running sync.WaitGroup
	for range n {
		running.Go(func() {
			for name := range names {
				t.Run(name, func(t *testing.T) { scenarios[name](t, w) })
			}
		})
	}
	for name := range scenarios {
		names <- name
	}
	close(names)
	running.Wait()
}

func init() {
	wanScenarios["TwoSites"] = func(t *testing.T, w *world) { wanTwoSites(t, w, worldPlan) }
	wanScenarios["TwoSubsidiaries"] = func(t *testing.T, w *world) { wanTwoSites(t, w, companyPlan) }
}

// leastShare is what of the bytes must come from peers. On idle cores it is more
// than 0.99; on busy ones peers, which check and hash, fall behind the mirror.
const leastShare = 0.8

// wanTwoSites: sites with nothing in common but a DHT. The second takes from the
// first what it lacks; with the mirror gone, a third takes everything.
func wanTwoSites(t *testing.T, w *world, plan addressPlan) {
	in := newInternet(t, w, plan)
	in.entry, _ = in.bootstrap()
	in.swarm.meet(in.entry)
	in.origin.limit("eth0", 15) // slower than peers are here, also on busy CPUs
	all := w.allBut()
	first := in.seed(all)

	second := in.node()
	second.update()
	second.inDHT()
	wan, mirror := second.fetched(func() { second.download(namesOf(all)...) })
	second.wantPackages(all)
	if share := float64(wan) / float64(wan+mirror); share < leastShare || wan+mirror < sizeOf(all) {
		t.Errorf("%.3f of %d bytes came from peers, %d from the mirror", share, wan+mirror, mirror)
	} else {
		t.Logf("%.3f of the bytes came from peers", share)
	}
	if sent := first.wanStatus().BytesTo.WAN; sent < wan {
		t.Errorf("the first site tells of %d bytes given, the second of %d taken", sent, wan)
	}

	third := in.node()
	third.update()
	third.inDHT()
	in.cutOrigin()
	began := time.Now()
	wan, mirror = third.fetched(func() {
		third.download(namesOf(all[1:])...)
		t.Logf("without a mirror: %v", time.Since(began).Round(time.Millisecond))
		wantFrom(t, third, in.mirror, all[0], "wan")
	})
	wantWithin(t, "everything has come without a mirror", began, 25*time.Second)
	third.wantPackages(all[1:])
	if wan < sizeOf(all) || mirror > 0 {
		t.Errorf("with the mirror off %d bytes of %d came from peers, %d from the mirror", wan, sizeOf(all), mirror)
	}
}
