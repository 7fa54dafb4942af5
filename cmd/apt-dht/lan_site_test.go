// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"fmt"
	"net"
	"net/http"
	"path"
	"sync"
	"testing"
)

// lanSite is an office: machines on a switch, a gateway, and behind it, the
// only thing that there is of the internet, a mirror.
type lanSite struct {
	t        *testing.T
	w        *world
	segment  *lanSegment
	gateway  *lanHost
	origin   *lanHost
	mirror   *mirror
	machines []*lanMachine
}

const (
	siteNet     = "10.77.0."
	siteGateway = siteNet + "254"
	originNet   = "10.99.0."
	originAddr  = originNet + "10"
	originPort  = "8000"
)

// newLANSite makes a site without machines.
func newLANSite(t *testing.T, w *world, a *archive) *lanSite {
	t.Helper()
	s := &lanSite{t: t, w: w, segment: newLANSegment(t), gateway: newLANHost(t), origin: newLANHost(t)}
	uplink := newLANSegment(t)
	s.gateway.plug(s.segment, "lan", siteGateway+"/24")
	s.gateway.plug(uplink, "wan", originNet+"1/24")
	s.gateway.sysctl("net/ipv4/ip_forward", "1")
	ipBatch(t, s.gateway.name, "route add blackhole default") // the rest of the internet is silent
	s.origin.plug(uplink, "eth0", originAddr+"/24")
	ipBatch(t, s.origin.name, "route add default via "+originNet+"1")
	s.mirror = &mirror{t: t, archive: a, addr: originAddr + ":" + originPort}
	t.Cleanup(s.mirror.cleanup)
	s.restoreMirror()
	return s
}

// startLANSite makes a site with n machines whose nodes know each other.
func startLANSite(t *testing.T, w *world, a *archive, n int) *lanSite {
	t.Helper()
	s := newLANSite(t, w, a)
	for range n {
		s.machine().serve()
	}
	acquainted(t, s.machines...)
	return s
}

// machine adds a machine, whose node does not run yet.
func (s *lanSite) machine() *lanMachine {
	s.t.Helper()
	m := newLANMachine(s.t, s.segment, fmt.Sprint(siteNet, len(s.machines)+1), siteGateway, s.sources())
	s.machines = append(s.machines, m)
	return m
}

func (s *lanSite) sources() []string { return s.w.source(s.mirror.url()) }

// packageURL is the URL of a package at the mirror.
func (s *lanSite) packageURL(name string) string {
	p := s.w.packages[name]
	return s.mirror.url() + "/" + path.Dir(p.file) + "/" + p.escaped()
}

// restoreMirror lets the mirror listen, also again.
func (s *lanSite) restoreMirror() {
	s.t.Helper()
	s.mirror.serve(s.origin.listen(originAddr + ":" + originPort))
}

// cutUplink has the gateway drop what is sent to the mirror without a word:
// nobody is told that there is no way.
func (s *lanSite) cutUplink() {
	s.t.Helper()
	ipBatch(s.t, s.gateway.name, "route add blackhole "+originAddr+"/32")
}

// together runs apt-get on machines at the same moment. None may fail or complain.
func together(machines []*lanMachine, args ...string) {
	var all []*running
	for _, m := range machines {
		m.t.Helper()
		all = append(all, m.begin(args...))
	}
	for _, r := range all {
		r.c.t.Helper()
		finish(r)
	}
}

// crossings counts the bytes of bodies that the mirror sends to each machine,
// and lets another fault, if there is one, do what it does.
type crossings struct {
	fault fault // nil: none

	mu sync.Mutex // guards following
	to map[string]int64
}

func (c *crossings) count(a *answer, r *http.Request) bool {
	if c.fault != nil && c.fault(a, r) {
		return true
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	inner := a.tap
	a.tap = func(at int64, part []byte) error {
		if inner != nil {
			if err := inner(at, part); err != nil {
				return err
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.to == nil {
			c.to = map[string]int64{}
		}
		c.to[host] += int64(len(part))
		return nil
	}
	return false
}

// sent is how many bytes went to those machines.
func (c *crossings) sent(machines ...*lanMachine) (total int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range machines {
		total += c.to[m.ip]
	}
	return total
}

// requestsPerFile is how often, on average, the mirror was asked for a file
// that has a hash.
func (m *mirror) requestsPerFile() float64 {
	requests, files := 0, map[string]bool{}
	for _, r := range m.asked("") {
		if !r.isRoot() {
			requests++
			files[r.uri] = true
		}
	}
	return float64(requests) / float64(max(len(files), 1))
}
