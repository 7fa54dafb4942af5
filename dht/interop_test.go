// SPDX-License-Identifier: GPL-2.0-or-later

package dht

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// isolatedVariable marks a process that has a network namespace to itself.
const isolatedVariable = "APT_DHT_TEST_ISOLATED"

// isolated runs test in a process of its own, in a network namespace that has
// nothing but a loopback interface, so that no client can say a word to the world.
// That takes root.
func isolated(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getenv(isolatedVariable) != "" {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("ip link: %v: %s", err, out)
		}
		test(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), isolatedVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("in a namespace of its own: %v\n%s", err, out)
	}
}

// finds reports whether a lookup, without what is remembered, yields want.
func finds(n *running, key Key, want netip.AddrPort) bool {
	n.families[0].results.forget()
	for peer := range n.Lookup(context.Background(), key) {
		if peer == want {
			return true
		}
	}
	return false
}

func client(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%v: install the packages of .ci/packages", err)
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, out.Bytes())
		}
	})
	return cmd
}

// freePort is a port that nobody uses now, for both TCP and UDP.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// knocks says when somebody connects and asks for key in plain: BitTorrent clients
// try encryption first.
func knocks(listener net.Listener, key Key) <-chan struct{} {
	knocked := make(chan struct{})
	go func() {
		handshake := make([]byte, 48)
		for !bytes.Contains(handshake, key[:]) {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = io.ReadFull(conn, handshake)
			_ = conn.Close()
		}
		close(knocked)
	}()
	return knocked
}

func TestAria2(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nodes := loopbackNetwork(t, 12)
		key := keyOf(1)
		listener, err := net.Listen("tcp4", "127.0.0.1:21003")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		knocked := knocks(listener, key)
		nodes[3].Offer(key, time.Now())
		eventually(t, "our announce", func() bool { return nodes[3].Stats().Announced == 1 })
		port := freePort(t)
		dir := t.TempDir()
		client(t, "aria2c", "--enable-dht=true", "--enable-dht6=false", "--no-conf",
			"--dht-listen-port="+strconv.Itoa(port), "--listen-port="+strconv.Itoa(port),
			"--dht-entry-point="+nodes[0].addr.String(), "--dht-file-path="+filepath.Join(dir, "dht.dat"),
			"--dir="+dir, "--bt-enable-lpd=false", "--enable-peer-exchange=false",
			"--bt-exclude-tracker=*", "--seed-time=0", "--file-allocation=none",
			fmt.Sprintf("magnet:?xt=urn:btih:%x", key))
		eventually(t, "our lookup finds aria2", func() bool {
			return finds(nodes[7], key, netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", port)))
		})
		select {
		case <-knocked:
		case <-time.After(patience):
			t.Error("aria2 did not connect to what we announced")
		}
	})
}

// libtorrentClient joins the DHT at argv[1] from port argv[2], announces that port
// for the key argv[3] and prints each peer of it that it finds.
const libtorrentClient = `
import sys, time, libtorrent as lt
node, port, key = sys.argv[1], int(sys.argv[2]), lt.sha1_hash(bytes.fromhex(sys.argv[3]))
ses = lt.session({
    "listen_interfaces": "127.0.0.1:%d" % port, "dht_bootstrap_nodes": node, "enable_dht": True,
    "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "dht_restrict_routing_ips": False, "dht_restrict_search_ips": False,
    "dht_ignore_dark_internet": False, "dht_prefer_verified_node_ids": False,
    "alert_mask": lt.alert.category_t.all_categories,
})
params = lt.parse_magnet_uri("magnet:?xt=urn:btih:" + sys.argv[3])
params.save_path = sys.argv[4]
params.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
torrent = ses.add_torrent(params)
while True:
    torrent.force_dht_announce()
    ses.dht_get_peers(key)
    ses.wait_for_alert(1000)
    for alert in ses.pop_alerts():
        print(alert.what(), alert.message(), file=sys.stderr, flush=True)
        if isinstance(alert, lt.dht_get_peers_reply_alert):
            for peer in alert.peers():
                print("%s:%d" % peer, flush=True)
    time.sleep(0.5)
`

func TestLibtorrent(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nodes := loopbackNetwork(t, 12)
		key := keyOf(2)
		nodes[3].Offer(key, time.Now())
		eventually(t, "our announce", func() bool { return nodes[3].Stats().Announced == 1 })
		port := freePort(t)
		dir := t.TempDir()
		client(t, "sh", "-c", `exec /usr/bin/python3 -c "$0" "$1" "$2" "$3" "$4" >"$4/peers"`, libtorrentClient,
			nodes[0].addr.String(), strconv.Itoa(port), fmt.Sprintf("%x", key), dir)
		eventually(t, "our lookup finds libtorrent", func() bool {
			return finds(nodes[7], key, netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", port)))
		})
		eventually(t, "libtorrent finds our announce", func() bool {
			peers, err := os.ReadFile(filepath.Join(dir, "peers"))
			return err == nil && bytes.Contains(peers, []byte("127.0.0.1:21003\n"))
		})
	})
}
