// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
)

func TestConfigIsChecked(t *testing.T) {
	good := Config{
		ID: digestID(0), Port: 9977, Members: newFakeMembers(),
		Has: func(Digest) bool { return false }, EachBlob: func(func(Digest, time.Time) bool) {},
	}
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"good":       {func(*Config) {}, ""},
		"no id":      {func(c *Config) { c.ID = "" }, "16 lower-case"},
		"no port":    {func(c *Config) { c.Port = 0 }, "port is 0"},
		"no members": {func(c *Config) { c.Members = nil }, "required"},
		"no store":   {func(c *Config) { c.EachBlob = nil }, "required"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			test.change(&cfg)
			_, err := New(cfg)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
		})
	}
}

// A node without blobs to share has none.
func TestNothingShared(t *testing.T) {
	nodes := startNodes(t, 2)
	nodes[1].blobs = noBlobs{}
	nodes[1].store.put(digestOf(1), nil)
	if _, _, err := nodes[0].get(nodes[1], digestOf(1), 0, -1); err == nil {
		t.Error("a blob was given")
	}
}

// Who leaves loses its lease, is not counted any more and not gone to.
func TestMemberLeaves(t *testing.T) {
	nodes := startNodes(t, 3)
	d := blobOf(nodes[0], 0, nodes[0], nodes[1])
	held := blobOf(nodes[0], 1000, nodes[0], nodes[1])
	expect(t, nodes[2].findNow(d, true), "leased")
	nodes[2].store.put(held, []byte("x"))
	nodes[2].haveNow(held)
	eventually(t, "it is known as a holder", func() bool { return describe(nodes[1].findNow(held, true)) == "held 2" })
	if _, _, err := nodes[0].get(nodes[2], held, 0, -1); err != nil {
		t.Fatal(err)
	}
	if since := nodes[0].Peers()[1].Since; since.IsZero() || time.Since(since) > time.Minute {
		t.Errorf("it joined at %s", since)
	}
	nodes[0].members.set([]discovery.Member{nodes[1].Member})
	nodes[1].members.set([]discovery.Member{nodes[0].Member})
	eventually(t, "its lease is free", func() bool { return describe(nodes[1].findNow(d, true)) == "leased" })
	eventually(t, "what it holds does not count", func() bool { return describe(nodes[1].findNow(held, false)) != "held 2" })
	if peers := nodes[0].Peers(); len(peers) != 1 || peers[0].ID != nodes[1].ID || len(nodes[0].met.addrsOf(nodes[2].ID)) > 0 {
		t.Errorf("the members are %+v", peers)
	}
	if nodes[0].BytesFrom() != 1 {
		t.Errorf("%d bytes in all", nodes[0].BytesFrom())
	}
	if a := nodes[1].findNow(d, true); a.Lease != nil {
		a.Lease.Done()
	}
}

// A failure as a source has a member probed, if it was at the address where it is
// one; a member that answers no question is skipped.
func TestFailed(t *testing.T) {
	nodes := startNodes(t, 3)
	nodes[0].Failed(fetch.Peer{ID: nodes[1].ID, Addr: nodes[2].Addr})
	nodes[0].Failed(fetch.Peer{ID: digestID(7), Addr: nodes[1].Addr})
	if probed := nodes[0].members.probes(); len(probed) > 0 {
		t.Errorf("a failure elsewhere has %v probed", probed)
	}
	nodes[0].Failed(fetch.Peer(nodes[1].Member))
	if probed := nodes[0].members.probes(); !slices.Equal(probed, []string{nodes[1].ID}) || nodes[0].dead(nodes[1].ID) {
		t.Errorf("%v are probed, dead: %v", probed, nodes[0].dead(nodes[1].ID))
	}
	nodes[0].members.Failed(nodes[1].ID)
	nodes[2].members.Failed(nodes[1].ID) // else it sends copies
	asked := nodes[1].asked.Load()
	for i := range 20 {
		nodes[0].findNow(digestOf(i), true)
	}
	if n := nodes[1].asked.Load(); n != asked {
		t.Errorf("the dead member was asked %d times", n-asked)
	}
}

// A place that the answer names and that this node does not go to is called
// silent, so that the home names another.
func TestPlacesNotGoneTo(t *testing.T) {
	nodes := startNodes(t, 4)
	d := blobOf(nodes[0], 0, nodes[1], nodes[2])
	nodes[1].home.Announce(nodes[3].Member, []Digest{d}, nil)
	nodes[0].Liar(fetch.Peer(nodes[3].Member), d, "it lied")
	a := nodes[0].findNow(d, true)
	expect(t, a, "leased")
	if a.Number != 0 {
		t.Errorf("the lease is not one that the home knows: %+v", a)
	}
}
