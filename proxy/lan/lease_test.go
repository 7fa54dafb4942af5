// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"testing"
	"time"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
)

// A lease that moves is reported to both homes at least once a second.
func TestLeaseReports(t *testing.T) {
	nodes := startNodes(t, 3)
	d := blobOf(nodes[0], 0, nodes[1], nodes[2])
	a := nodes[0].findNow(d, true)
	expect(t, a, "leased")
	before := [2]int64{nodes[1].asked.Load(), nodes[2].asked.Load()}
	began := time.Now()
	for i := int64(1); nodes[1].asked.Load() < before[0]+2 || nodes[2].asked.Load() < before[1]+2; i++ {
		a.Lease.Progress(i)
		if time.Since(began) > 2*reportEvery+reportEvery/2 {
			t.Fatal("two reports took more than two and a half seconds")
		}
		time.Sleep(10 * time.Millisecond)
	}
	a.Lease.Done()
	if nodes[0].leases.has(d) {
		t.Error("it is reported for ever")
	}
}

// The lease is lost when the home that granted it says so, not when another does.
func TestLostLease(t *testing.T) {
	nodes := startNodes(t, 3)
	for i, alive := range []bool{true, false} {
		d := blobOf(nodes[0], 1000*i, nodes[1], nodes[2])
		lease := nodes[0].findNow(d, true).Lease
		if !alive {
			nodes[0].members.Failed(nodes[1].ID)
		}
		nodes[0].lose(nodes[2].Member, []Digest{d})
		if got := isClosed(lease.Lost()); got == alive {
			t.Errorf("the home that granted it is alive: %t; lost by the word of the other: %t", alive, got)
		}
		nodes[0].lose(nodes[1].Member, []Digest{d, digestOf(9)})
		nodes[0].lose(nodes[1].Member, []Digest{d})
		if !isClosed(lease.Lost()) {
			t.Error("it is not lost by the word of the home that granted it")
		}
		lease.GiveUp(0)
		nodes[0].members.revive(nodes[1].ID)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A home that moved a lease says so to the next report.
func TestMovedLeaseIsTold(t *testing.T) {
	nodes := startNodes(t, 3)
	d := blobOf(nodes[0], 0, nodes[1], nodes[2])
	lease := nodes[0].findNow(d, true).Lease
	nodes[1].home.Forget(nodes[0].ID) // as if it had been away
	nodes[1].home.Joined(nodes[0].Member)
	expect(t, nodes[2].findNow(d, true), "leased")
	select {
	case <-lease.Lost():
	case <-time.After(3 * reportEvery):
		t.Error("the first holder does not hear that it lost the lease")
	}
}

// A lease that was granted but not wanted is not kept from others.
func TestLeaseGivenBack(t *testing.T) {
	nodes := startNodes(t, 2)
	d := blobOf(nodes[0], 0, nodes[1], nodes[0])
	q := newQuestion(&fetch.Question{Digest: d, Lease: true}, nil, nodes[1].Member, false)
	nodes[0].put(q)
	if r := <-q.reply; !r.leased() {
		t.Fatalf("the home answers %+v", r)
	}
	q.leave(nodes[0].Node)
	eventually(t, "another gets the lease", func() bool {
		found := nodes[1].lookup(nodes[1].self, []discovery.Want{{Hash: d, Lease: true}})
		return found[0].State == discovery.Lease
	})
}

// Twelve nodes that want one file at the same moment: one lease, and each is sent
// to a lower number.
func TestHerd(t *testing.T) {
	nodes := startNodes(t, 12)
	d := digestOf(77)
	waits := make([]func() fetch.Answer, len(nodes))
	for i, node := range nodes {
		waits[i] = node.Find(context.Background(), fetch.Question{Digest: d, Size: 10, Lease: true})
	}
	number := map[string]int{}
	answers := make([]fetch.Answer, len(nodes))
	leases := 0
	for i, wait := range waits {
		answers[i] = wait()
		number[nodes[i].ID] = answers[i].Number
		if answers[i].State == fetch.Leased {
			leases++
		}
	}
	if leases != 1 {
		t.Errorf("%d leases were granted", leases)
	}
	for i, a := range answers {
		for _, p := range a.From {
			if number[p.ID] >= a.Number && number[p.ID] != 0 {
				t.Errorf("number %d of node %d is sent to number %d", a.Number, i, number[p.ID])
			}
		}
	}
}
