// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestHints: one who speaks is probed and becomes a member; a complaint has a
// member probed at once, but not more than once a second, and costs it nothing if
// it answers.
func TestHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		probes := 0
		them := Member{ID: "00000000000000aa", Addr: netip.MustParseAddrPort("10.0.0.2:9977")}
		lan, err := New(Config{
			ID: "0000000000000001", Port: 9977,
			Probe: func(context.Context, netip.AddrPort) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				probes++
				return them.ID, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			lan.Run(ctx)
		}()
		count := func() int {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return probes
		}
		lan.Heard(Member{ID: "no id", Addr: them.Addr})
		if n := count(); n != 0 {
			t.Errorf("a node of no id was probed %d times", n)
		}
		lan.Heard(them)
		if n := count(); n != 1 || len(lan.Members()) != 1 || lan.Members()[0] != them {
			t.Errorf("after %d probes the members are %v", n, lan.Members())
		}
		for range 10 {
			lan.ProbeNow(them.ID)
			lan.ProbeNow("00000000000000bb")
		}
		time.Sleep(2 * time.Second)
		if n := count(); n != 2 || !lan.Alive(them.ID) {
			t.Errorf("complaints had it probed %d times; alive: %t", n-1, lan.Alive(them.ID))
		}
		cancel()
		<-ended
	})
}
