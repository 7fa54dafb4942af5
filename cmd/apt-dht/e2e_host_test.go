// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	scenarios["IPv6"] = overIPv6
	scenarios["OtherMachine"] = otherMachine
	scenarios["TwoNodesOnOneDirectory"] = twoNodesOnOneDirectory
	scenarios["FullDisk"] = fullDisk
	scenarios["UsageInformation"] = usageInformation
	scenarios["ItsOwnUpstream"] = itsOwnUpstream
}

// overIPv6: mirror and node have IPv6 addresses alone.
func overIPv6(t *testing.T, w *world) {
	m := startMirror(t, w.standard, "[::1]:0", nil)
	n := startNode(t, nodeConfig{sources: w.source(m.url()), listen: "[::1]:0", flags: []string{"--allow-origin", "::1"}})
	wantColdAndWarm(t, w, m, w.source(m.url()), n.proxied())
	wantColdAndWarm(t, w, m, w.source(n.prefixed(m.url())), "")
}

// otherHost is a network namespace that is joined to this machine by a cable.
type otherHost struct {
	name   string
	ours   string // this machine's address on the cable
	theirs string // its own
	net    string // CIDR of both
}

// newOtherHost makes a namespace, which goes when the test ends. Its addresses
// are of the network for benchmarks, which nobody has (RFC 2544).
func newOtherHost(t *testing.T) *otherHost {
	t.Helper()
	needRoot(t)
	third, last := rand.IntN(256), 4*rand.IntN(64)
	address := func(i int) string { return fmt.Sprintf("198.18.%d.%d", third, last+i) }
	h := &otherHost{name: fmt.Sprintf("e2e%08x", rand.Uint32()), net: address(0) + "/30", ours: address(1), theirs: address(2)}
	cable := h.name + "a"
	ip := func(args ...string) { t.Helper(); runCommand(t, command("", "ip", args...)) }
	ip("netns", "add", h.name)
	t.Cleanup(func() { ip("netns", "del", h.name) }) // and the cable with it
	ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", h.name)
	ip("addr", "add", h.ours+"/30", "dev", cable)
	ip("link", "set", cable, "up")
	ip("-n", h.name, "addr", "add", h.theirs+"/30", "dev", "eth0")
	ip("-n", h.name, "link", "set", "eth0", "up")
	return h
}

// listen opens a socket on the other host.
func (h *otherHost) listen(t *testing.T, port int) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread, which is in the namespace, ends with this goroutine.
		runtime.LockOSThread()
		l, err := net.Listener(nil), enterNamespace("/run/netns/"+h.name)
		if err == nil {
			l, err = net.Listen("tcp", fmt.Sprintf("%s:%d", h.theirs, port))
		}
		done <- result{l, err}
	}()
	r := <-done
	check(t, r.err)
	return r.l
}

// enterNamespace moves the calling thread.
func enterNamespace(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}

// otherMachine: another machine's apt is told why it is not served, and is
// served once it is allowed; but this machine's own loopback is not for it.
func otherMachine(t *testing.T, w *world) {
	h := newOtherHost(t)
	m := startMirror(t, w.standard, h.ours+":0", nil)
	hidden := newMirror(t, w.standard)
	update := func(n *node, url string) (string, error) {
		c := newClient(t, w.source(url), `Acquire::http::Proxy "http://`+n.otherAddr()+`";`)
		return c.start("ip", "netns", "exec", h.name, "apt-get", "-qy", "update").wait()
	}
	conf := nodeConfig{sources: append(w.source(m.url()), w.source(hidden.url())...), flags: []string{"--listen", h.ours + ":0"}}
	if out, err := update(startNode(t, conf), m.url()); err == nil || !strings.Contains(out, "403  Forbidden") || !strings.Contains(out, "--allow") {
		t.Errorf("a client that is not allowed: %v\n%s", err, out)
	}
	conf.flags = append(conf.flags, "--allow", h.net)
	n := startNode(t, conf)
	if out, err := update(n, m.url()); err != nil {
		t.Errorf("a client that is allowed: %v\n%s", err, out)
	}
	if out, err := update(n, hidden.url()); err == nil || !strings.Contains(out, "403  Forbidden") {
		t.Errorf("another machine asks for this one's loopback: %v\n%s", err, out)
	}
	if len(hidden.asked("")) > 0 {
		t.Error("another machine reached a server on this one's loopback")
	}
}

// otherAddr is the second address on which the node listens.
func (n *node) otherAddr() string {
	n.t.Helper()
	var found [][]string
	eventually(n.t, "the node listens on both addresses", func() bool {
		found = listening.FindAllStringSubmatch(n.log.String(), -1)
		return len(found) == 2
	})
	return found[1][1]
}

// twoNodesOnOneDirectory: the second says what is wrong, and the first goes on.
func twoNodesOnOneDirectory(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	first := startNode(t, nodeConfig{sources: w.source(m.url())})
	second := newNode(t, nodeConfig{dataDir: first.data})
	second.run()
	second.await(stopWithin)
	if code := second.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("the second node ended with status %d", code)
	}
	for _, want := range []string{first.data, "another"} {
		if !strings.Contains(second.log.String(), want) {
			t.Errorf("the second node does not say %q: %s", want, second.log)
		}
	}
	newClient(t, w.source(m.url()), first.proxied()).update()
}

// fullDisk: another program fills the disk. apt goes on being served, and the
// node stores again when there is room.
func fullDisk(t *testing.T, w *world) {
	needRoot(t)
	disk := t.TempDir()
	check(t, syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=96m"))
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Errorf("unmount %s: %v", disk, err)
		}
	})
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url()), dataDir: filepath.Join(disk, "data"), flags: []string{"--quota", "64MiB"}})
	newClient(t, w.source(m.url()), n.proxied()).update()

	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	c := newClient(t, w.source(m.url()), n.proxied())
	for range 2 {
		c.update()
		c.download("e2e-everything", "e2e-big")
		c.wantPackages(w.allBut("e2e-new"))
		c.clean()
		n.mustRun()
		fill(t, filler) // what the node gave up meanwhile
	}
	if s := n.status(); s.Store.Bytes > bigSize {
		t.Errorf("%d bytes are stored on a full disk", s.Store.Bytes)
	}
	check(t, os.Remove(filler))
	eventually(t, "the node stores again", func() bool {
		c.clean()
		c.download("e2e-big")
		return n.status().Store.Bytes > bigSize
	})
}

// fill appends to a file until its disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	check(t, err)
	defer f.Close()
	for part := make([]byte, 1<<20); len(part) > 0; {
		if _, err = f.Write(part); err != nil {
			part = part[:len(part)/2]
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
}

// usageInformation: how auto-apt-proxy knows a proxy for apt (its version 14
// looks for these very words in the status line).
func usageInformation(t *testing.T, w *world) {
	n := startNode(t, nodeConfig{})
	conn, err := net.DialTimeout("tcp", n.addr, patience)
	check(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: Debian APT-HTTP/1.3 (2.6.1)\r\n\r\n", n.addr)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if line != "HTTP/1.1 406 Usage Information\r\n" {
		t.Errorf("got %q, %v", line, err)
	}
	// As it asks itself: apt's own method, for a file that is not there.
	c := newClient(t, nil)
	helper := exec.Command("/usr/lib/apt/apt-helper", "download-file", n.url()+"/", filepath.Join(c.dir, "nothing"))
	helper.Env = c.command("").Env
	if out, err := helper.CombinedOutput(); err == nil || !strings.Contains(strings.ToLower(string(out)), "406  usage information") {
		t.Errorf("apt-helper: %v\n%s", err, out)
	}
}

// itsOwnUpstream: a node that was made its own upstream proxy says so, and
// does not ask itself for ever.
func itsOwnUpstream(t *testing.T, w *world) {
	addr := freeAddr(t)
	n := startNode(t, nodeConfig{listen: addr, flags: []string{"--upstream-proxy", "http://" + addr}})
	newClient(t, w.source("http://mirror.example/debian"), n.proxied()).mustFail("Loop Detected", "update")
}
