// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The limit holds for all together, and sites share it alike, however many
// uploads each has.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 500_000
		th := newThrottle(rate)
		sites := []netip.Addr{netip.MustParseAddr("5.0.0.1"), netip.MustParseAddr("5.0.0.2"), netip.MustParseAddr("5.0.0.3")}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got := make([]int64, len(sites))
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i, site := range sites {
			for range []int{1, 4, 4}[i] {
				wg.Go(func() {
					for th.take(ctx, site, readerStep) == nil {
						mu.Lock()
						got[i] += readerStep
						mu.Unlock()
					}
				})
			}
		}
		wg.Wait()
		total := int64(0)
		for i, n := range got {
			total += n
			if share := float64(n) / (60 * rate / 3); share < 0.97 || share > 1.03 {
				t.Errorf("site %d got %.2f of its share", i, share)
			}
		}
		if all := float64(total) / (60 * rate); all > 1.01 || all < 0.98 {
			t.Errorf("all together got %.3f of the limit", all)
		}
		if len(th.turns) != 0 || len(th.waiting) != 0 {
			t.Errorf("%v still wait", th.turns)
		}
	})
}

// Alone, one site gets the whole limit, and after a pause a little at once.
func TestThrottleAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newThrottle(1_000_000)
		site := netip.MustParseAddr("5.0.0.1")
		time.Sleep(time.Hour)
		began := time.Now()
		for range 100 {
			if err := th.take(t.Context(), site, 50_000); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 4800*time.Millisecond || took > 5*time.Second {
			t.Errorf("5 MB at 1 MB/s took %s", took)
		}
	})
}

func BenchmarkThrottle(b *testing.B) {
	th := newThrottle(1 << 50)
	site := netip.MustParseAddr("5.0.0.1")
	for b.Loop() {
		if err := th.take(b.Context(), site, 1); err != nil {
			b.Fatal(err)
		}
	}
}
