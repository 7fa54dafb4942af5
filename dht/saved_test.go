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
		if got := n.Stats().Nodes; got != c.nodes {
			t.Errorf("%s: %d nodes", c.name, got)
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
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		kept, err := readSaved(bytes.NewReader(b))
		if len(kept.nodes) > maxSaved || len(kept.ids) > 2 {
			t.Fatalf("%d nodes, %d ids", len(kept.nodes), len(kept.ids))
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
