// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// herdOf returns a home at which members 0 to n-1 asked in this order.
func herdOf(t testing.TB, n int) *testHome {
	h := newTestHome(t, n+1)
	for i := range n {
		h.ask(i)
	}
	return h
}

func TestTree(t *testing.T) {
	h := newTestHome(t, 40)
	for range 2 { // an asker that asks again keeps its number
		for i := range 40 {
			f := h.ask(i)
			if i == 0 {
				if f.State != Lease || f.Number != 0 || f.Until != leaseTerm {
					t.Errorf("the first asker: %+v", f)
				}
				continue
			}
			place := (i - 1) / 2
			want := from(place, max(place-1, 0))
			if place == 0 {
				want = want[:1]
			}
			if f.State != Coming || f.Number != i || !slices.Equal(f.From, want) {
				t.Errorf("asker %d: %+v, want %v", i, f, want)
			}
		}
	}
	if stats := h.Stats(); stats.Coming != 1 || stats.Askers != 40 {
		t.Errorf("%+v", stats)
	}
	checkHome(t, h.Home)
}

func TestPlaces(t *testing.T) {
	for name, tt := range map[string]struct {
		then   func(h *testHome)
		asker  int
		silent []int
		want   []Member
	}{
		"its place":                       {nil, 9, nil, from(4, 3)},
		"one that left":                   {func(h *testHome) { h.Forget(testMember(4).ID) }, 9, nil, from(3, 2)},
		"one that died":                   {func(h *testHome) { h.dead[testMember(4).ID] = true }, 9, nil, from(3, 2)},
		"one that gave up":                {func(h *testHome) { h.giveUp(4, 0) }, 9, nil, from(3, 2)},
		"a silent one":                    {nil, 9, []int{4}, from(3, 2)},
		"silent ones":                     {nil, 9, []int{4, 2}, from(3, 1)},
		"many silent ones":                {nil, 9, []int{4, 3, 2, 1}, from(0)},
		"too many silent ones":            {nil, 9, []int{4, 3, 2, 1, 5, 6, 7, 8}, nil},
		"the holder alone, silent":        {nil, 1, []int{0}, nil},
		"with the lease moved":            {func(h *testHome) { h.moveLease(0, 8) }, 9, nil, from(4, 3)},
		"with the lease moved, below all": {func(h *testHome) { h.moveLease(0, 8); h.giveUp(0, 0) }, 1, nil, from(8)},
		"who lost the lease":              {func(h *testHome) { h.moveLease(3, 8) }, 3, nil, from(8)},
		"who lost the lease, silent":      {func(h *testHome) { h.moveLease(3, 8) }, 3, []int{8}, from(1, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			h := herdOf(t, 10)
			if tt.then != nil {
				tt.then(h)
			}
			f := h.ask(tt.asker, noLease, silent(tt.silent...))
			if f.State != Coming || f.Number != tt.asker || !slices.Equal(f.From, tt.want) {
				t.Errorf("%+v, want %v", f, tt.want)
			}
			checkHome(t, h.Home)
		})
	}
}

func (h *testHome) giveUp(i int, offset int64) {
	h.Progress(testMember(i), []LeaseProgress{{Hash: testDigest(0), Offset: offset, GiveUp: true}})
}

// moveLease has one holder after the other lose the lease without leaving.
func (h *testHome) moveLease(to ...int) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	now, g := time.Now(), h.herds[testDigest(0)]
	for _, i := range to {
		for j := range g.askers {
			if g.askers[j].lease != nil {
				g.endLease(now, &g.askers[j])
			}
		}
		h.grantLocked(now, g, i, 0)
	}
}

// However leases move, nobody who does not complain is sent in a circle.
func TestPlacesGoInNoCircle(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		n := 2 + rng.IntN(30)
		h := herdOf(t, n)
		parent := make([]int, n) // -1: none
		for i := range parent {
			parent[i] = -1
		}
		for range 200 {
			i := rng.IntN(n)
			switch rng.IntN(10) {
			case 0:
				h.moveLease(i)
				parent[i] = -1
			case 1:
				h.dead[testMember(i).ID] = rng.IntN(2) == 0
			default:
				parent[i] = -1
				if f := h.ask(i, noLease); f.State == Coming && len(f.From) > 0 {
					parent[i] = int(f.From[rng.IntN(len(f.From))].Addr.Addr().As4()[3])
				}
			}
			for at, steps := i, 0; at >= 0; at, steps = parent[at], steps+1 {
				if steps > n {
					t.Fatalf("seed %d: %d reads from itself: %v", seed, i, parent)
				}
			}
		}
	}
}

func TestHeir(t *testing.T) {
	for name, tt := range map[string]struct {
		asks  map[int][]func(*Want) // what else askers of 1 to 4 say
		gone  int
		heir  int
		wants int // whom heirs give way to
	}{
		"lowest number":   {nil, 0, 1, 2},
		"most bytes":      {map[int][]func(*Want){3: {have(500)}}, 0, 3, 1},
		"wants no lease":  {map[int][]func(*Want){1: {noLease}}, 0, 2, 3},
		"one that left":   {map[int][]func(*Want){3: {have(500)}}, 3, 1, 2},
		"same bytes":      {map[int][]func(*Want){2: {have(9)}, 4: {have(9)}}, 0, 2, 4},
		"nobody is ready": {map[int][]func(*Want){1: {noLease}, 2: {noLease}, 3: {noLease}, 4: {noLease}}, 0, 5, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHome(t, 6)
				h.ask(0)
				for i := 1; i <= 4; i++ {
					h.ask(i, tt.asks[i]...)
				}
				if tt.gone > 0 {
					h.Forget(testMember(tt.gone).ID)
				}
				h.giveUp(0, 700)
				if tt.heir != 5 {
					if f := h.ask(tt.wants, tt.asks[tt.wants]...); f.State != Coming {
						t.Errorf("%d came before the heir: %+v", tt.wants, f)
					}
				}
				f := h.ask(tt.heir, tt.asks[tt.heir]...)
				if f.State != Lease || f.Offset != 700 {
					t.Errorf("the heir: %+v, want a lease after 700 bytes", f)
				}
				checkHome(t, h.Home)
			})
		})
	}
}

// If the heir does not come, another is served.
func TestHeirStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := herdOf(t, 4)
		h.giveUp(0, 0)
		if f := h.ask(3); f.State != Coming {
			t.Errorf("%+v, want to wait for the heir", f)
		}
		time.Sleep(heirPatience)
		if f := h.ask(3); f.State != Lease {
			t.Errorf("%+v, want the lease", f)
		}
		if f := h.ask(1); f.State != Coming || len(f.From) == 0 {
			t.Errorf("the heir, late: %+v", f)
		}
	})
}

// secondHome returns a home that is the second of blob 0, and who is the first.
func secondHome(t *testing.T) (*testHome, Member) {
	for i := range 1000 {
		first, ring := testMember(i), NewRing(testSelf, testMembers(i + 1)[i:])
		if homes, _ := ring.Homes(testDigest(0), nil); homes[0] == first {
			h := newTestHome(t, 10)
			h.cfg.Ring = func() *Ring { return ring }
			h.Joined(first)
			return h, first
		}
	}
	t.Fatal("no first home found")
	return nil, Member{}
}

func TestSecondHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, first := secondHome(t)
		if f := h.ask(2); f.State != None {
			t.Errorf("%+v, the first home was not silent", f)
		}
		grants := []Grant{
			{Hash: testDigest(0), Asker: testMember(2), Number: 0, Lease: true},
			{Hash: testDigest(0), Asker: testMember(4), Number: 2},
		}
		h.Copy(testMember(7), grants)
		if f := h.ask(3, noLease); f.State != None {
			t.Errorf("%+v: listened to one that is not the first home", f)
		}
		h.Copy(first, grants)
		h.Copy(first, grants)
		if f := h.ask(4); f.State != Coming || f.Number != 2 || !slices.Equal(f.From, from(2)) {
			t.Errorf("a copied asker: %+v", f)
		}
		if f := h.ask(3); f.State != Coming || f.Number != -1 {
			t.Errorf("%+v: gave a number beside the first home", f)
		}
		if f := h.ask(3, firstSilent); f.State != Coming || f.Number != 3 || !slices.Equal(f.From, from(2)) {
			t.Errorf("with the first silent: %+v", f)
		}
		time.Sleep(leaseTerm)
		if f := h.ask(4); f.State != Coming {
			t.Errorf("%+v: granted beside the first home", f)
		}
		time.Sleep(heirPatience)
		if f := h.ask(4, firstSilent); f.State != Lease || f.Number != 2 {
			t.Errorf("with the first silent and the lease over: %+v", f)
		}
		checkHome(t, h.Home)
	})
}

// A second home that missed a grant takes no lease away.
func TestSecondHomeMissedGrant(t *testing.T) {
	h, first := secondHome(t)
	h.Copy(first, []Grant{{Hash: testDigest(0), Asker: testMember(2), Lease: true}})
	if lost := h.report(3, 1000); lost != nil {
		t.Error("the second home took a lease away")
	}
	checkHome(t, h.Home)
}

// A first home that does not answer probes is none.
func TestSecondHomeActs(t *testing.T) {
	h, first := secondHome(t)
	h.dead[first.ID] = true
	if f := h.ask(2); f.State != Lease {
		t.Errorf("%+v, want a lease", f)
	}
}

func TestCopyIsBounded(t *testing.T) {
	h, first := secondHome(t)
	for _, number := range []int{-1, maxAskers, 1 << 40} {
		h.Copy(first, []Grant{{Hash: testDigest(0), Asker: testMember(2), Number: number, Lease: true}})
	}
	if stats := h.Stats(); stats != (HomeStats{}) {
		t.Errorf("%+v", stats)
	}
	// One number is for one asker: the first word counts.
	h.Copy(first, []Grant{{Hash: testDigest(0), Asker: testMember(2), Number: 1}, {Hash: testDigest(0), Asker: testMember(3), Number: 1}})
	if f := h.ask(3); f.Number != -1 {
		t.Errorf("%+v has the number of another", f)
	}
	checkHome(t, h.Home)
}

func TestGrants(t *testing.T) {
	found := []Found{
		{Hash: testDigest(0), State: Held, Number: -1},
		{Hash: testDigest(1), State: Coming, Number: 4},
		{Hash: testDigest(2), State: Coming, Number: -1},
		{Hash: testDigest(3), State: Lease, Number: 0, Offset: 7},
		{Hash: testDigest(4), State: Lease, Number: -1},
		{Hash: testDigest(5), State: None, Number: -1},
	}
	want := []Grant{
		{Hash: testDigest(1), Asker: testMember(1), Number: 4},
		{Hash: testDigest(3), Asker: testMember(1), Number: 0, Lease: true, Offset: 7},
	}
	if got := Grants(testMember(1), found); !slices.Equal(got, want) {
		t.Errorf("grants %+v, want %+v", got, want)
	}
}

func TestHerdIsBounded(t *testing.T) {
	h := newTestHome(t, maxAskers+20)
	for i := range maxAskers {
		if f := h.ask(i); f.Number != i {
			t.Fatalf("asker %d: %+v", i, f)
		}
	}
	f := h.ask(maxAskers)
	if f.State != Coming || f.Number != -1 || len(f.From) == 0 {
		t.Errorf("one too many: %+v", f)
	}
	if f := h.ask(maxAskers+1, silent(1, 2, 3, 4, 5, 6, 7, 8)); f.State != Lease || f.Number != -1 {
		t.Errorf("one too many without a place: %+v", f)
	}
	checkHome(t, h.Home)
}

func TestLeasesAreBounded(t *testing.T) {
	h := newTestHome(t, 60)
	for i := range maxLeases + 10 {
		f := h.ask(1, blob(i))
		if want := i; f.State != Lease || (f.Number == 0) != (want < maxLeases) {
			t.Fatalf("lease %d: %+v", i, f)
		}
	}
	for i := range maxHerds + 10 {
		h.ask(2+i%50, blob(i))
	}
	if stats := h.Stats(); stats.Coming != maxHerds || stats.Askers > maxPlaces {
		t.Errorf("%+v", stats)
	}
	checkHome(t, h.Home)
}
