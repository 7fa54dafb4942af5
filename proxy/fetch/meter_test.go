// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"testing"
	"testing/synctest"
	"time"
)

// What strangers send is measured while they do.
func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		if _, measured := m.rate(); measured {
			t.Error("measured before anything came")
		}
		for range 10 { // in bursts, with answers and pauses that do not count
			m.asks()
			m.asks()
			time.Sleep(400 * time.Millisecond)
			m.opens()
			m.opens()
			for range 5 {
				time.Sleep(40 * time.Millisecond)
				m.add(40_000)
			}
			m.closes()
			m.closes()
			m.ends()
			m.ends()
			time.Sleep(time.Minute)
		}
		if rate, measured := m.rate(); !measured || rate < 900_000 || rate > 1_100_000 {
			t.Errorf("%d bytes per second, %v", rate, measured)
		}
		m.asks()
		m.opens() // and then hardly more comes
		for range 3 {
			if rate, _ := m.rate(); rate < 900_000 {
				t.Errorf("one slow sample: %d", rate)
			}
			time.Sleep(200 * time.Millisecond)
			m.add(1)
		}
		time.Sleep(grace)
		if rate, measured := m.rate(); !measured || rate > 0 {
			t.Errorf("nothing comes: %d, %v", rate, measured)
		}
		m.add(1)
		time.Sleep(sample - time.Millisecond)
		m.add(1)
		time.Sleep(sample - time.Millisecond)
		m.add(1)
		if rate, measured := m.rate(); !measured || rate > 1000 {
			t.Errorf("slow samples: %d, %v", rate, measured)
		}
	})
}

// What comes from strangers counts as coming over the uplink, and holds nobody up.
func TestGateAndStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateTest(false)
		e := g.enterAll(firstBudget, 1000, 1000)
		e[0].goAbroad()
		g.send(e[1], "1")
		g.check(t, "1")
		turn := e[2].awaitTurn()
		if closed(turn) {
			t.Error("what strangers bring does not count")
		}
		e[0].tookAbroad(firstBudget)
		if !closed(turn) || g.gate.mirror.bytes > 0 || !g.gate.mirror.last.IsZero() {
			t.Errorf("turn %v, counted for mirrors %+v", closed(turn), g.gate.mirror)
		}
		g.send(e[0], "0") // and then the mirror is asked all the same
		g.check(t, "1", "0")
	})
}
