// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// lanScenarios are tests of several machines on a LAN. Each has a LAN of its
// own, so they may run at the same time.
var lanScenarios = map[string]func(t *testing.T, w *world){}

// lanHealthy are those whose every node must be quick to answer the others. They
// run one at a time.
var lanHealthy = map[string]func(t *testing.T, w *world){}

// TestLocalNetwork runs every scenario. `go test -run TestLocalNetwork/NAME` runs one.
func TestLocalNetwork(t *testing.T) {
	needRoot(t)
	sweepLANs(t)
	w := newWorld(t)
	for name, scenario := range lanHealthy {
		t.Run(name, func(t *testing.T) { scenario(t, w) })
	}
	for name, scenario := range lanScenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scenario(t, w)
		})
	}
}

func init() {
	lanHealthy["Sharing"] = lanSharing
	lanHealthy["Herd"] = lanHerd
	lanScenarios["TurnedOff"] = lanTurnedOff
}

// lanSharing: three machines started with nothing special find each other and
// share what each downloads.
func lanSharing(t *testing.T, w *world) {
	s := startLANSite(t, w, w.standard, 3)
	first, second, third := s.machines[0], s.machines[1], s.machines[2]
	first.update()
	first.download("e2e-everything")
	s.mirror.wantOnce()
	s.mirror.forget()

	second.update()
	second.download("e2e-everything")
	second.wantPackages(w.everything())
	s.mirror.wantOnlyRoots()
	var size int64
	for _, p := range w.everything() {
		size += p.length
	}
	if got := second.status().BytesFrom.LAN; got < size {
		t.Errorf("%d bytes came from the LAN, want %d and the indexes", got, size)
	}

	third.update()
	eventually(t, "the third machine's node knows all packages by hash", func() bool { // apt itself takes longer
		return third.status().Index.Files >= len(w.standard.packages)
	})
	wantPipelined(t, w, s, third, "e2e-many-00", "e2e-many-01", "e2e-many-02")
	wantSource(t, w, s, third, "hello", "lan")
	wantSource(t, w, s, third, "hello", "store")
	third.download("e2e-big")
	first.download("e2e-big")
	first.wantPackages(w.allBut("e2e-new"))
	if got := s.mirror.sent(bigURI); got != w.packages["e2e-big"].length {
		t.Errorf("%d bytes of the big package crossed the uplink", got)
	}
}

// wantSource fetches a package through a machine's node, which must have it
// from that source.
func wantSource(t *testing.T, w *world, s *lanSite, m *lanMachine, name, source string) {
	t.Helper()
	resp, body := m.get(s.packageURL(name))
	if resp.StatusCode != http.StatusOK || sha256.Sum256([]byte(body)) != w.packages[name].digest {
		t.Errorf("%s: %s, %d bytes: not the package", name, resp.Status, len(body))
	}
	if got := resp.Header.Get("X-Apt-Dht-Source"); got != source {
		t.Errorf("%s comes from %q, want %q", name, got, source)
	}
}

// wantPipelined asks a machine's node for packages as apt does, one request
// behind the other. Each must come from the LAN.
func wantPipelined(t *testing.T, w *world, s *lanSite, m *lanMachine, names ...string) {
	t.Helper()
	conn, err := m.host.dial(t.Context(), "tcp", "127.0.0.1:"+lanPort)
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(patience)))
	for _, name := range names {
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Debian APT-HTTP/1.3 (2.6.1)\r\n\r\n", s.packageURL(name), s.mirror.addr)
	}
	answers := bufio.NewReader(conn)
	for _, name := range names {
		resp, err := http.ReadResponse(answers, nil)
		check(t, err)
		body, err := io.ReadAll(resp.Body)
		if err != nil || sha256.Sum256(body) != w.packages[name].digest {
			t.Errorf("%s: %s, %d bytes, %v: not the package", name, resp.Status, len(body), err)
		}
		if got := resp.Header.Get("X-Apt-Dht-Source"); got != "lan" {
			t.Errorf("%s, asked for ahead, comes from %q", name, got)
		}
	}
}

// lanHerd: cold machines update and download the same at the same moment.
func lanHerd(t *testing.T, w *world) {
	s := newLANSite(t, w, w.standard)
	s.origin.limit("eth0", 50) // the uplink, not the CPU, is what limits
	for range 5 {
		s.machine().serve()
	}
	acquainted(t, s.machines...)
	together(s.machines, "update")
	together(s.machines, "install", "--download-only", "e2e-everything", "e2e-big")
	for _, m := range s.machines {
		m.wantPackages(w.allBut("e2e-new"))
	}
	var size int64
	for _, p := range w.allBut("e2e-new") {
		size += p.length
		if len(s.mirror.asked(p.escaped())) == 0 {
			t.Errorf("the mirror was not asked for %s", p.file)
		}
	}
	if got := s.mirror.requestsPerFile(); got > 1.05 {
		t.Errorf("the mirror was asked %.2f times for each file", got)
	}
	if got := s.mirror.sent(".deb"); got > size*105/100 {
		t.Errorf("%d bytes of packages of %d bytes crossed the uplink", got, size)
	}
	t.Logf("%.3f requests for each file, %.3f bytes for each byte", s.mirror.requestsPerFile(), float64(s.mirror.sent(".deb"))/float64(size))
	for _, m := range s.machines {
		began := time.Now()
		m.stop() // though the others keep connections to it
		wantWithin(t, "a node of the herd has stopped", began, promptly)
	}
}

// lanTurnedOff: who turned mDNS off is alone, and others go on without.
func lanTurnedOff(t *testing.T, w *world) {
	s := newLANSite(t, w, w.standard)
	loner, first, second := s.machine(), s.machine(), s.machine()
	loner.serve("--no-mdns")
	first.serve()
	second.serve()
	acquainted(t, first, second)
	for _, m := range []*lanMachine{first, second} {
		if m.knows(loner.status().ID) {
			t.Errorf("%s knows a node without mDNS", m.ip)
		}
	}
	if peers := loner.status().LAN.Peers; len(peers) > 0 {
		t.Errorf("a node without mDNS knows others: %v", peers)
	}
	for _, m := range []*lanMachine{first, loner} {
		m.update()
		m.download("hello")
		m.wantPackages(w.only("hello"))
	}
	if got := len(s.mirror.asked("hello_")); got != 2 {
		t.Errorf("the mirror was asked %d times by two nodes that do not know each other", got)
	}
}
