// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"runtime"
	"testing"
	"time"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
)

func expect(t *testing.T, a fetch.Answer, want string) {
	t.Helper()
	if got := describe(a); got != want {
		t.Errorf("the answer is %q, want %q", got, want)
	}
}

func TestFindAlone(t *testing.T) {
	node := newIdleNode(t, 0)
	before := runtime.NumGoroutine()
	wait := node.Find(context.Background(), fetch.Question{Digest: digestOf(1), Size: 10, Lease: true})
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("a lookup without others started %d goroutines", after-before)
	}
	a := wait()
	expect(t, a, "leased")
	expect(t, node.findNow(digestOf(2), false), "nowhere")
	a.Lease.Done()
	a.Lease.GiveUp(0)
	if node.leases.has(digestOf(1)) {
		t.Error("a lease that was done is still reported")
	}
	if !node.Alone() {
		t.Error("it is not alone")
	}
}

// The first asker gets the lease, the next ones places in the tree, and all the
// holder once it has the blob, whoever asks and whoever the homes are.
func TestFind(t *testing.T) {
	nodes := startNodes(t, 4)
	for name, d := range map[string]Digest{
		"asker is first home":  blobOf(nodes[0], 0, nodes[1], nodes[2]),
		"asker is second home": blobOf(nodes[0], 0, nodes[2], nodes[1]),
		"asker is no home":     blobOf(nodes[0], 0, nodes[0], nodes[3]),
		"others are the homes": blobOf(nodes[0], 0, nodes[3], nodes[0]),
	} {
		t.Run(name, func(t *testing.T) {
			expect(t, nodes[2].findNow(d, false), "nowhere")
			a := nodes[1].findNow(d, true)
			expect(t, a, "leased")
			if a.Number != 0 {
				t.Errorf("the first asker's number is %d", a.Number)
			}
			expect(t, nodes[2].findNow(d, true), "coming 1")
			expect(t, nodes[3].findNow(d, true), "coming 1")
			nodes[1].store.put(d, []byte("whole"))
			a.Lease.Done()
			eventually(t, "both homes know the holder", func() bool {
				return describe(nodes[2].findNow(d, true)) == "held 1" && describe(nodes[0].findNow(d, false)) == "held 1"
			})
			if a := nodes[2].findNow(d, true); a.From[0].Addr != nodes[1].Addr {
				t.Errorf("node 1 is said to be at %s, it is at %s", a.From[0].Addr, nodes[1].Addr)
			}
		})
	}
}

// Only a lease that is given up can be had again, where its holder stopped.
func TestGiveUp(t *testing.T) {
	nodes := startNodes(t, 3)
	d := blobOf(nodes[0], 0, nodes[0], nodes[1])
	a := nodes[1].findNow(d, true)
	expect(t, a, "leased")
	expect(t, nodes[2].findNow(d, true), "coming 1")
	a.Lease.GiveUp(500)
	eventually(t, "the lease is free", func() bool { return describe(nodes[2].findNow(d, true)) == "leased" })
}

// A dead home costs the first question that meets it patience at most, and those
// after it nothing; who has the lease is not forgotten, for it was copied.
func TestDeadFirstHome(t *testing.T) {
	for _, how := range []string{"killed", "paused"} {
		t.Run(how, func(t *testing.T) {
			nodes := startNodes(t, 4)
			running := blobOf(nodes[0], 0, nodes[0], nodes[1])
			fresh := blobOf(nodes[0], 1000, nodes[0], nodes[1])
			expect(t, nodes[2].findNow(running, true), "leased")
			eventually(t, "the grant is copied", func() bool { return nodes[1].home.Stats().Coming == 1 })
			if how == "killed" {
				nodes[0].stop()
			} else {
				nodes[0].pause()
			}
			began := time.Now()
			expect(t, nodes[3].findNow(running, true), "coming 2")
			if took := time.Since(began); took > patience+patience/2 {
				t.Errorf("the first question that met the dead home took %s", took)
			}
			began = time.Now()
			expect(t, nodes[3].findNow(fresh, true), "leased")
			if took := time.Since(began); took > patience/2 {
				t.Errorf("the second question took %s", took)
			}
			if n := nodes[3].members.failures(nodes[0].ID); n == 0 {
				t.Error("the dead home was not told of")
			}
			expect(t, nodes[2].findNow(fresh, true), "coming 3")
		})
	}
}

// Where all homes are dead there is a lease within half a second.
func TestNobodyAnswers(t *testing.T) {
	nodes := startNodes(t, 4)
	d := blobOf(nodes[0], 0, nodes[1], nodes[2])
	for _, dead := range nodes[1:] {
		dead.pause()
	}
	began := time.Now()
	a := nodes[0].findNow(d, true)
	if took := time.Since(began); took > 2*patience+patience/2 {
		t.Errorf("it took %s", took)
	}
	expect(t, a, "leased")
	nodes[0].members.revive(nodes[1].ID)
	nodes[0].members.revive(nodes[2].ID)
	for _, back := range nodes[1:] {
		back.resume()
	}
	eventually(t, "the homes have heard of the lease", func() bool { return describe(nodes[3].findNow(d, false)) == "coming 0" })
}

func TestFindEndsWithItsContext(t *testing.T) {
	nodes := startNodes(t, 3)
	d := blobOf(nodes[0], 0, nodes[1], nodes[2])
	nodes[1].pause()
	ctx, cancel := context.WithCancel(context.Background())
	wait := nodes[0].Find(ctx, fetch.Question{Digest: d, Size: -1, Lease: true})
	cancel()
	expect(t, wait(), "nowhere")
	nodes[1].resume()
	// The lease that comes too late goes back.
	eventually(t, "another gets the lease", func() bool { return describe(nodes[2].findNow(d, true)) == "leased" })
}

// Questions asked while one is under way travel together, and in order.
func TestQuestionsTravelTogether(t *testing.T) {
	nodes := startNodes(t, 3)
	const blobs = maxBatch + 100
	first := nodes[0].Find(context.Background(), fetch.Question{Digest: blobOf(nodes[0], 0, nodes[1], nodes[2]), Lease: true})
	var waits []func() fetch.Answer
	for i := range blobs {
		waits = append(waits, nodes[0].Find(context.Background(), fetch.Question{Digest: digestOf(i + 5000), Size: 1, Lease: true}))
	}
	first()
	for i, wait := range waits {
		if a := wait(); a.State != fetch.Leased {
			t.Fatalf("blob %d is %s", i, describe(a))
		}
	}
	if asked := nodes[1].asked.Load(); asked > 20 {
		t.Errorf("%d questions took %d requests", blobs, asked)
	}
}

// A home whose ring is another does not leave an asker without a lease.
func TestHomesDisagree(t *testing.T) {
	nodes := startNodes(t, 3)
	d := blobOf(nodes[0], 0, nodes[1], nodes[2])
	// Node 1 knows a fourth that would be the first home.
	var other discovery.Member
	for i := 0; ; i++ {
		other = discovery.Member{ID: digestID(i), Addr: nodes[2].Addr}
		ring := discovery.NewRing(nodes[1].Member, []discovery.Member{nodes[0].Member, nodes[2].Member, other})
		if homes, _ := ring.Homes(d, nil); homes[0] == other {
			break
		}
	}
	nodes[1].members.set([]discovery.Member{nodes[0].Member, nodes[2].Member, other})
	eventually(t, "node 1 knows it", func() bool { return len(nodes[1].view.Load().members) == 3 })
	expect(t, nodes[0].findNow(d, true), "leased")
	expect(t, nodes[2].findNow(d, true), "coming 0")
}

// A holder that only the second home knows is found.
func TestSecondHomeKnowsMore(t *testing.T) {
	nodes := startNodes(t, 4)
	d := blobOf(nodes[0], 0, nodes[1], nodes[2])
	nodes[2].home.Announce(nodes[3].Member, []Digest{d}, nil)
	for _, lease := range []bool{true, false} {
		eventually(t, "the second home is heard", func() bool {
			a := nodes[0].findNow(d, lease)
			if a.Lease != nil { // it was late
				a.Lease.GiveUp(0)
			}
			return describe(a) == "held 3"
		})
	}
	// The first home's lease went back, so it can be had when the holder fails.
	nodes[2].home.Announce(nodes[3].Member, nil, []Digest{d})
	eventually(t, "the lease is free", func() bool { return describe(nodes[3].findNow(d, true)) == "leased" })
}

// An asker is not sent again to a place that it calls silent, under whatever
// address the home knows it, and that place is probed.
func TestSilentPlaces(t *testing.T) {
	nodes := startNodes(t, 4)
	d := blobOf(nodes[0], 0, nodes[1], nodes[2])
	nodes[3].store.put(d, nil)
	nodes[3].Have(d)
	eventually(t, "the holder is known", func() bool { return describe(nodes[0].findNow(d, true)) == "held 3" })
	silent := fetch.Peer{ID: nodes[3].ID, Addr: nodes[0].Addr}
	a := nodes[0].findNow(d, true, silent)
	if a.State == fetch.Held {
		t.Errorf("the answer to a complaint is %s", describe(a))
	}
	if len(nodes[1].members.probes()) == 0 {
		t.Error("the silent holder was not probed")
	}
	if nodes[1].members.failures(nodes[3].ID) > 0 {
		t.Error("the word of an asker made a home give a member up")
	}
}
