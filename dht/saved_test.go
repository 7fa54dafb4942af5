// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNodesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		path := filepath.Join(t.TempDir(), "nodes")
		var nodes []*running
		for i := range 20 {
			cfg := Config{IPv4: world.listen(publicAddr(i)), Reachable: at(7000)}
			if i > 0 {
				cfg.Bootstrap = []string{publicAddr(0).String()}
			}
			nodes = append(nodes, start(t, cfg))
		}
		last := publicAddr(100)
		cfg := Config{
			IPv4: world.listen(last), Reachable: at(7000), NodesFile: path, Bootstrap: []string{publicAddr(0).String()},
		}
		n := start(t, cfg)
		time.Sleep(time.Minute)
		nodes[3].Offer(keyOf(1), time.Now())
		time.Sleep(time.Minute)
		id := n.families[0].ownID()
		n.stop()
		cfg.IPv4, cfg.Bootstrap = world.listen(last), []string{}
		n = start(t, cfg)
		if peer, took := firstOf(n.Node, keyOf(1)); !peer.IsValid() || took > time.Second {
			t.Errorf("the first lookup found %v in %v", peer, took)
		}
		if n.families[0].ownID() != id {
			t.Error("the node has another id after the restart")
		}
		time.Sleep(time.Minute)
		if got := n.Stats().GoodNodes; got < bucketSize {
			t.Errorf("%d good nodes", got)
		}
		files, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(files) != 1 {
			t.Errorf("in the directory are %v: %v", files, err)
		}
	})
}

// In a DHT of two nodes, one alone holds what the other has announced: it does so
// over a restart, for as long as it would have.
func TestPeersSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newInternet()
		path := filepath.Join(t.TempDir(), "nodes")
		run := func() *running {
			return start(t, Config{
				IPv4: world.listen(publicAddr(0)), IPv6: world.listen(publicAddr6(0)), Private: true, Reachable: at(7000), NodesFile: path,
			})
		}
		door := run()
		holder := start(t, Config{IPv4: world.listen(publicAddr(1)), Private: true, Reachable: at(7001), Bootstrap: []string{publicAddr(0).String()}})
		asker := start(t, Config{IPv4: world.listen(publicAddr(2)), Private: true, Bootstrap: []string{publicAddr(0).String()}})
		for i := range 10 {
			holder.Offer(keyOf(i), time.Now())
		}
		door.families[1].peers.add(keyOf(1), publicAddr6(9), 8000)
		time.Sleep(time.Minute)
		holder.stop() // and does not announce again
		door.stop()
		door = run()
		if door.families[0].peers.len() != 10 || door.families[1].peers.len() != 1 {
			t.Fatalf("after a restart %d and %d peers are stored", door.families[0].peers.len(), door.families[1].peers.len())
		}
		for i := range 10 {
			if got := collect(t.Context(), asker.Node, keyOf(i)); len(got) == 0 {
				t.Errorf("key %d is not found", i)
			}
		}
		time.Sleep(20 * time.Minute)
		door.stop()
		time.Sleep(20 * time.Minute)
		if door = run(); door.Stats().Peers != 0 {
			t.Errorf("%d old peers have come back", door.Stats().Peers)
		}
	})
}

func TestDamagedNodesFile(t *testing.T) {
	id, own := strings.Repeat("ab", 20), strings.Repeat("cd", 20)
	for _, c := range []struct {
		name, text string
		nodes      int
	}{
		{"empty", "", 0},
		{"something else", "hello\n", 0},
		{"cut off", savedHeader + "\nudp4 " + own + "\n" + id + " 5.1.2.3:6881\n" + id + " 5.1.2", 1},
		{"an address that is not allowed", savedHeader + "\n" + id + " 127.0.0.1:6881\n", 0},
		{"a short id", savedHeader + "\nabcd 5.1.2.3:6881\n", 0},
		{"ids of zeros", savedHeader + "\nudp4 " + strings.Repeat("0", 40) + "\n", 0},
		{"a long line", savedHeader + "\n" + strings.Repeat("a", 1<<20) + "\n", 0},
		{"a time beyond all clocks", savedHeader + "\nudp4 " + own + " 5.1.2.3:7000 99999999999\n", 0},
		{"a peer without a key", savedHeader + "\npeer 5.1.2.3:6881 5.1.2.3:6881 1\n", 0},
		{"a peer of the future", savedHeader + "\npeer " + id + " 5.1.2.3:6881 5.1.2.0:0 9999999999\n", 0},
		{"a peer that is not allowed", savedHeader + "\npeer " + id + " 127.0.0.1:6881 5.1.2.0:0 " + fmt.Sprint(time.Now().Unix()) + "\n", 0},
		{"our own id as a node", savedHeader + "\nudp4 " + own + "\n" + own + " 5.1.2.3:6881\n", 0},
	} {
		path := filepath.Join(t.TempDir(), "nodes")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := New(Config{IPv4: &recorder{}, NodesFile: path, Log: quiet()})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := n.Stats(); got.Nodes != c.nodes || got.Peers != 0 {
			t.Errorf("%s: %d nodes, %d peers", c.name, got.Nodes, got.Peers)
		}
		if n.families[0].id == (Key{}) {
			t.Errorf("%s: the node has no id", c.name)
		}
		if err := n.save(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if text, _ := os.ReadFile(path); string(text) != c.text {
			t.Errorf("%s: a node that knows nobody has written %q", c.name, text)
		}
	}
	n, err := New(Config{IPv4: &recorder{}, NodesFile: filepath.Join(t.TempDir(), "none", "nodes"), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	n.families[0].table.add(contact{keyOf(1), publicAddr(1)}, time.Now())
	if err := n.save(); err == nil {
		t.Error("no error for a directory that is not there")
	}
}

func FuzzSaved(f *testing.F) {
	id := strings.Repeat("0a", 20)
	f.Add([]byte(savedHeader + "\nudp4 " + id + "\nudp6 " + id + "\n" + id + " 5.1.2.3:6881\n" + id + " [2a00::1]:6881\n"))
	f.Add([]byte(savedHeader + "\n" + id + " [fe80::1%eth0]:1\n"))
	f.Add([]byte(savedHeader + "\nudp4 " + id + " 5.1.2.3:7000 1700000000\npeer " + id + " 5.1.2.3:6881 5.1.2.0:0 1700000000\n"))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		kept, err := readSaved(bytes.NewReader(b))
		if len(kept.nodes) > maxSaved || len(kept.selves) > 2 || len(kept.peers) > 2*maxPeers {
			t.Fatalf("%d nodes, %d families, %d peers", len(kept.nodes), len(kept.selves), len(kept.peers))
		}
		if err != nil {
			return
		}
		var again bytes.Buffer
		fmt.Fprintln(&again, savedHeader)
		for _, c := range kept.nodes {
			fmt.Fprintf(&again, "%x %s\n", c.id, c.addr)
		}
		if same, err := readSaved(&again); err != nil || fmt.Sprint(same.nodes) != fmt.Sprint(kept.nodes) {
			t.Errorf("%v became %v: %v", kept.nodes, same.nodes, err)
		}
	})
}
