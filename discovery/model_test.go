// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"testing"
	"testing/synctest"
	"time"
)

// settle heals everything, waits, and looks at what is left.
func (s *sim) settle() {
	s.faults = simFaults{}
	clear(s.cut)
	for _, n := range s.nodes {
		if !n.up {
			n.start()
		}
		n.noUplink, n.liar = false, false
	}
	s.run(2 * time.Minute)
	for _, n := range s.nodes {
		for blob, tr := range n.transfers {
			s.t.Errorf("node %d still waits for %x: lease %v, from %v, has %d of %d", n.index, blob[:4], tr.leased, tr.from, tr.have, s.sizes[blob])
		}
	}
	s.run(2 * time.Minute)
	for _, n := range s.nodes {
		n.home.sweep()
		checkHome(s.t, n.home)
		if stats := n.home.Stats(); stats.Coming != 0 || stats.Askers != 0 {
			s.t.Errorf("node %d keeps %+v though all is quiet", n.index, stats)
		}
	}
}

// checkHome counts again what a home counts.
func checkHome(t *testing.T, h *Home) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	rows, places, leases := map[*peer]int{}, map[*peer]int{}, map[*peer]int{}
	total := 0
	for _, list := range h.holders.blobs {
		total += len(list)
		for _, e := range list {
			rows[h.roster.slots[e.slot]]++
		}
	}
	askers := 0
	for _, g := range h.herds {
		held := 0
		askers += len(g.askers)
		for _, a := range g.askers {
			if a.peer != nil {
				places[a.peer]++
			}
			if a.lease != nil {
				leases[a.peer]++
				held++
			}
		}
		if held != g.leases {
			t.Errorf("a herd counts %d leases, and has %d", g.leases, held)
		}
	}
	strangers := 0
	for _, p := range h.roster.peers {
		if !p.joined {
			strangers++
		}
		if p.rows != rows[p] || p.places != places[p] || p.leases != leases[p] {
			t.Errorf("a peer counts %d rows, %d places, %d leases, and has %d, %d, %d", p.rows, p.places, p.leases, rows[p], places[p], leases[p])
		}
	}
	if total != h.holders.rows || askers != h.places || strangers != h.roster.strangers {
		t.Errorf("home counts %d rows, %d askers, %d strangers, and has %d, %d, %d", h.holders.rows, h.places, h.roster.strangers, total, askers, strangers)
	}
}

func TestModelHealthy(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			s := newSim(t, seed, 2+int(seed%14))
			s.run(time.Second)
			for i := range 1 + s.rng.IntN(8) {
				blob := s.blob(i)
				for _, n := range s.nodes {
					s.after(s.rnd(3*time.Second), func() { n.want(blob) })
				}
			}
			s.run(30 * time.Second)
			for blob, starts := range s.starts {
				if starts != 1 {
					t.Errorf("seed %d: %x was fetched from outside %d times", seed, blob[:4], starts)
				}
			}
			if s.longest > 2500*time.Millisecond {
				t.Errorf("seed %d: an asker waited %v", seed, s.longest)
			}
			s.settle()
		})
	}
}

func TestModelFaults(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(*sim){
		"crashes":    (*sim).crashes,
		"partitions": (*sim).partitions,
		"messages":   (*sim).badMessages,
		"uplinks":    (*sim).badUplinks,
		"liars":      (*sim).liars,
		"all":        func(s *sim) { s.crashes(); s.partitions(); s.badMessages(); s.badUplinks() },
	}
	for name, spoil := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			starts, blobs, alone := 0, 0, 0
			var longest time.Duration
			for seed := range uint64(50) {
				synctest.Test(t, func(t *testing.T) {
					s := newSim(t, seed, 3+int(seed%10))
					s.run(time.Second)
					spoil(s)
					for i := range 1 + s.rng.IntN(6) {
						blob := s.blob(i)
						for _, n := range s.nodes {
							s.after(s.rnd(10*time.Second), func() { n.want(blob) })
						}
					}
					s.run(60 * time.Second)
					s.settle()
					alone += s.alone
					longest = max(longest, s.longest)
					for blob, n := range s.starts {
						starts += n
						blobs++
						if n > 3*len(s.nodes) {
							t.Errorf("seed %d: %x was fetched from outside %d times by %d nodes", seed, blob[:4], n, len(s.nodes))
						}
					}
				})
			}
			t.Logf("%s: %.2f fetches from outside a blob; the longest wait %v, %d waited too long", name, float64(starts)/float64(blobs), longest, alone)
			if alone > 0 && name != "uplinks" && name != "all" {
				t.Errorf("%d askers waited longer than %v", alone, simPatience)
			}
		})
	}
}

// crashes has nodes die and come back under another id.
func (s *sim) crashes() {
	for range 1 + s.rng.IntN(4) {
		n := s.nodes[s.rng.IntN(len(s.nodes))]
		refuses := s.rng.IntN(2) == 0
		s.after(s.rnd(15*time.Second), func() {
			if n.up {
				n.stop(refuses)
				n.after(s.rnd(20*time.Second), func() {
					if !n.up {
						n.start()
					}
				})
			}
		})
	}
}

// partitions cuts pairs of nodes from each other for a while.
func (s *sim) partitions() {
	for range 1 + s.rng.IntN(2*len(s.nodes)) {
		pair := [2]int{s.rng.IntN(len(s.nodes)), s.rng.IntN(len(s.nodes))}
		s.after(s.rnd(15*time.Second), func() { s.cut[pair] = true })
		s.after(s.rnd(40*time.Second), func() { delete(s.cut, pair) })
	}
}

func (s *sim) badMessages() {
	s.faults = simFaults{loss: 0.05, repeat: 0.05, delay: time.Second}
}

// badUplinks takes the uplink from some, but not from all.
func (s *sim) badUplinks() {
	for _, n := range s.nodes[1:] {
		n.noUplink = s.rng.IntN(3) == 0
		n.excused = n.noUplink
	}
}

// liars says that it has what it has not, and that it fetches what it does not.
func (s *sim) liars() {
	liar := s.nodes[0]
	liar.liar, liar.excused = true, true
	for i := range 200 {
		s.after(time.Duration(i)*100*time.Millisecond, func() {
			for _, blob := range s.blobs {
				for _, m := range liar.homesOf(blob) {
					if s.rng.IntN(4) == 0 {
						liar.tell(m, blob)
					}
				}
			}
		})
	}
}

// A holder that is killed costs its readers half a second at most.
func TestModelHolderKilled(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			s := newSim(t, seed, 2+int(seed%12))
			s.run(time.Second)
			blob := s.blob(0)
			s.sizes[blob] = 50_000_000
			for _, n := range s.nodes {
				s.after(s.rnd(time.Second), func() { n.want(blob) })
			}
			s.run(time.Second + s.rnd(6*time.Second))
			for _, n := range s.nodes {
				if n.transfers[blob] != nil && n.transfers[blob].leased {
					n.stop(true)
				}
			}
			s.run(20 * time.Second)
			if s.longest > 500*time.Millisecond {
				t.Errorf("seed %d: an asker waited %v", seed, s.longest)
			}
			if s.starts[blob] > 2 {
				t.Errorf("seed %d: fetched from outside %d times", seed, s.starts[blob])
			}
			s.settle()
		})
	}
}
