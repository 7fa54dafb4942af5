// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"net/http"
	"strings"
	"testing"
)

func init() {
	lanScenarios["TwoSubnets"] = lanTwoSubnets
	lanScenarios["WhoMayAsk"] = lanWhoMayAsk
}

// branch is a second subnet, joined to the site by its gateway, which does not
// forward multicast.
type branch struct {
	s       *lanSite
	segment *lanSegment
}

const (
	branchNet     = "10.88.0."
	branchGateway = branchNet + "254"
)

func (s *lanSite) branch() *branch {
	s.t.Helper()
	b := &branch{s, newLANSegment(s.t)}
	s.gateway.plug(b.segment, "lan2", branchGateway+"/24")
	return b
}

func (b *branch) machine(number string) *lanMachine {
	b.s.t.Helper()
	return newLANMachine(b.s.t, b.segment, branchNet+number, branchGateway, b.s.sources())
}

// lanTwoSubnets: nodes that name each other share across a router; who names
// nobody knows its own subnet alone.
func lanTwoSubnets(t *testing.T, w *world) {
	s := newLANSite(t, w, w.standard)
	b := s.branch()
	here, there := s.machine(), b.machine("1")
	neighbour, far := s.machine(), b.machine("2")
	here.serve("--lan-peer", there.ip)
	there.serve("--lan-peer", here.ip+":"+lanPort)
	neighbour.serve()
	far.serve()
	acquainted(t, here, there)
	acquainted(t, here, neighbour)
	acquainted(t, there, far)
	for _, pair := range [][2]*lanMachine{{neighbour, there}, {neighbour, far}, {here, far}} {
		if pair[0].knows(pair[1].status().ID) || pair[1].knows(pair[0].status().ID) {
			t.Errorf("%s and %s know each other", pair[0].ip, pair[1].ip)
		}
	}

	here.update()
	here.download("e2e-everything")
	s.mirror.forget()
	there.update()
	there.download("e2e-everything")
	there.wantPackages(w.everything())
	s.mirror.wantOnlyRoots()
}

// lanWhoMayAsk: apt's side of a node is for its own machine, the LAN's for
// neighbours, and nothing for those beyond a router or behind a browser.
func lanWhoMayAsk(t *testing.T, w *world) {
	s := newLANSite(t, w, w.standard)
	node, neighbour := s.machine(), s.machine()
	stranger := s.branch().machine("1")
	node.serve()
	node.update()

	neighbour.configure(`Acquire::http::Proxy "` + node.url("") + `";`)
	if out, err := neighbour.begin("update").wait(); err == nil || !strings.Contains(out, "403  Forbidden") || !strings.Contains(out, "--allow") {
		t.Errorf("a neighbour's apt: %v\n%s", err, out)
	}
	wantRefused := func(who string, m *lanMachine, method, path string, header http.Header, body string) {
		t.Helper()
		resp, text, err := m.request(method, node.url(path), header, body)
		if check(t, err); resp.StatusCode < 400 || resp.StatusCode >= 500 || text == "" {
			t.Errorf("%s: %s %s: %s %q", who, method, path, resp.Status, text)
		}
	}
	wantServed := func(m *lanMachine, method, path string, header http.Header, body string) {
		t.Helper()
		if resp, text, err := m.request(method, node.url(path), header, body); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s asks %s %s: %v %v %s", m.ip, method, path, resp, err, text)
		}
	}
	lookup := `{"v":1,"id":"00112233445566aa","port":9977,"want":[]}`
	typed := http.Header{"Content-Type": {"application/json"}}
	wantServed(neighbour, "GET", lanPing, nil, "")
	wantServed(neighbour, "POST", lanLookup, typed, lookup)
	wantRefused("a neighbour asks for the status", neighbour, "GET", "/~/v1/status", nil, "")
	wantRefused("from beyond the router", stranger, "GET", lanPing, nil, "")
	wantRefused("from beyond the router", stranger, "POST", lanLookup, typed, lookup)
	for what, header := range map[string]http.Header{
		"a form":                {"Content-Type": {"application/x-www-form-urlencoded"}},
		"text":                  {"Content-Type": {"text/plain;charset=UTF-8"}},
		"no type":               {},
		"another site's script": {"Content-Type": {"application/json"}, "Origin": {"http://evil.example"}},
	} {
		wantRefused(what, neighbour, "POST", lanLookup, header, lookup)
	}
}
