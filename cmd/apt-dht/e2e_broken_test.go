// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func init() {
	scenarios["ClientKilledAndRunAgain"] = clientKilledAndRunAgain
	scenarios["NodeRestartedInTheMiddle"] = func(t *testing.T, w *world) { nodeEndsInTheMiddle(t, w, (*node).stop) }
	scenarios["NodeKilledInTheMiddle"] = func(t *testing.T, w *world) { nodeEndsInTheMiddle(t, w, (*node).kill) }
	scenarios["TenClientsAtOnce"] = tenClientsAtOnce
	scenarios["HashesLearntInTheMiddle"] = hashesLearntInTheMiddle
}

const bigURI = "e2e-big_1.0_all.deb"

// halfway starts the download of the big package and returns when the mirror
// holds its second half back at the gate.
func halfway(t *testing.T, w *world, n *node, m *mirror, c *client) (*running, *gate) {
	t.Helper()
	eventually(t, "the node knows the files of the index", func() bool { // apt itself may be sooner
		return n.status().Index.Files >= len(w.standard.packages)
	})
	g := newGate(bigSize / 2)
	m.misbehave(onlyFor(bigURI, g.fault))
	r := c.start("apt-get", "-qy", "install", "--download-only", "e2e-big")
	<-g.reached
	eventually(t, "the first half reaches apt", func() bool {
		info, err := os.Stat(c.partial(w.packages["e2e-big"]))
		return err == nil && info.Size() > bigSize/3
	})
	return r, g
}

// wantCrossed fails the test if the big package crossed the uplink more than
// once, but for what was under way where it broke.
func wantCrossed(t *testing.T, w *world, m *mirror, slack int64) {
	t.Helper()
	size := w.packages["e2e-big"].length
	if got := m.sent(bigURI); got < size || got > size+slack {
		t.Errorf("the mirror sent %d bytes of a file of %d", got, size)
	}
}

// inFlight is what may have been under way between mirror and node.
const inFlight = 256 << 10

// clientKilledAndRunAgain: apt is killed in the middle of a file. Run again it
// goes on where it stopped, and so does the node.
func clientKilledAndRunAgain(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	c := newClient(t, w.source(m.url()), n.proxied())
	c.update()
	r, g := halfway(t, w, n, m, c)
	r.kill()
	eventually(t, "the node gives up what nobody reads", func() bool { return len(n.status().Transfers) == 0 })
	g.open()
	c.download("e2e-big")
	c.wantPackages(w.only("e2e-big"))
	wantCrossed(t, w, m, inFlight)

	m.forget()
	warm := newClient(t, w.source(m.url()), n.proxied())
	warm.update()
	warm.download("e2e-big")
	warm.wantPackages(w.only("e2e-big"))
	m.wantOnlyRoots()
}

// nodeEndsInTheMiddle: the node ends while apt downloads, and comes back. apt
// tries again by itself.
func nodeEndsInTheMiddle(t *testing.T, w *world, end func(*node)) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	c := newClient(t, w.source(m.url()), n.proxied(), `Acquire::Retries "3";`)
	c.update()
	r, g := halfway(t, w, n, m, c)
	end(n)
	n.start()
	g.open()
	out, err := r.wait()
	if err != nil {
		t.Fatalf("apt did not recover: %v\n%s", err, out)
	}
	c.wantPackages(w.only("e2e-big"))
	wantCrossed(t, w, m, bigSize)

	m.down()
	warm := newClient(t, w.source(m.url()), n.proxied())
	warm.update()
	warm.download("e2e-big")
	warm.wantPackages(w.only("e2e-big"))
}

// tenClientsAtOnce: a cold node, and ten machines that come at the same moment.
func tenClientsAtOnce(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	m.misbehave(slow(20 << 20)) // so that they meet in the middle of files
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	var machines []*client
	for range 10 {
		machines = append(machines, newClient(t, w.source(m.url()), n.proxied()))
	}
	together := func(args ...string) {
		t.Helper()
		var all []*running
		for _, c := range machines {
			all = append(all, c.start("apt-get", append([]string{"-qy"}, args...)...))
		}
		for _, r := range all {
			out, err := r.wait()
			r.c.wantFine(args, out, err)
		}
	}
	together("update")
	together("install", "--download-only", "e2e-everything", "e2e-big")
	for _, c := range machines {
		c.wantPackages(w.allBut("e2e-new"))
	}
	m.wantOnce()
	var files int64
	for _, p := range w.allBut("e2e-new") {
		files += p.length
	}
	if got := m.sent(".deb"); got != files {
		t.Errorf("%d bytes of packages crossed the uplink, want %d", got, files)
	}
}

// hashesLearntInTheMiddle: two packages are asked for, and while the first is
// on its way the node learns their hashes, here from its own machine's lists.
// The second, fetched ahead, does not cross again for it.
func hashesLearntInTheMiddle(t *testing.T, w *world) {
	m := newMirror(t, w.standard)
	n := startNode(t, nodeConfig{sources: w.source(m.url())})
	c := newClient(t, w.source(m.url()))
	c.update() // not through the node
	m.forget()
	g := newGate(1) // its head and first part come, and are passed on
	m.misbehave(onlyFor("hello", g.fault))
	big, hello := w.packages["e2e-big"], w.packages["hello"]
	conn, err := net.Dial("tcp", n.addr)
	check(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	for _, p := range []builtPackage{big, hello} {
		fmt.Fprintf(conn, "GET %s/%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Debian APT-HTTP/1.3 (2.6.1)\r\n\r\n", m.url(), p.file, m.addr)
		eventually(t, "the mirror is asked for one after the other", func() bool { return len(m.asked(p.escaped())) > 0 })
	}
	<-g.reached // the first is not read: more than sockets hold waits in the node
	c.copyLists(n.lists)
	eventually(t, "the node knows the files of the index", func() bool {
		return n.status().Index.Files >= len(w.standard.packages)
	})
	answers := bufio.NewReader(conn)
	wantAnswer(t, answers, big, func() {})
	wantAnswer(t, answers, hello, g.open)
	m.wantOnce()
}

// wantAnswer reads an answer, which must be the package; between is called
// between its head and its body.
func wantAnswer(t *testing.T, r *bufio.Reader, want builtPackage, between func()) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	between()
	check(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || sha256.Sum256(body) != want.digest {
		t.Errorf("%s: %s, %d bytes, %v: not the package", want.file, resp.Status, len(body), err)
	}
}

// copyLists puts this machine's lists into another's directory, each at once.
func (c *client) copyLists(dir string) {
	c.t.Helper()
	written := filepath.Join(c.t.TempDir(), "list")
	for name, body := range c.lists() {
		writeFile(c.t, written, []byte(body))
		check(c.t, os.Rename(written, filepath.Join(dir, name)))
	}
}
