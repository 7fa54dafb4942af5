// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func init() {
	wanScenarios["NotShared"] = wanNotShared
	wanScenarios["CompanyShares"] = wanCompanyShares
}

// closedTo is a repository that has no part in sharing, though its files are as
// large as others.
type closedTo struct {
	*mirror
	why   string
	files []builtPackage
}

// wantPassword lets in who names the user and the password.
func wantPassword(a *answer, r *http.Request) bool {
	if user, password, ok := r.BasicAuth(); ok && user == "somebody" && password == "secret" {
		return false
	}
	a.Header().Set("WWW-Authenticate", `Basic realm="closed"`)
	return failWith(http.StatusUnauthorized)(a, r)
}

// marking sets a Cache-Control field.
func marking(value string) fault {
	return func(a *answer, _ *http.Request) bool {
		a.Header().Set("Cache-Control", value)
		return false
	}
}

// wanNotShared: what is not everybody's is neither looked for, announced, nor
// given, while what is beside it on the same machine is.
func wanNotShared(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	names := namesOf(w.set("b"))
	const first = 3 // of those that are large enough to be looked up
	port := 8001
	closed := func(why, addr string, f fault) *closedTo {
		files := w.only(names[first+port-8001])
		m := in.newMirror(addr, fmt.Sprint(port), w.publish(t, files, suite{}))
		m.misbehave(f)
		port++
		return &closedTo{m, why, files}
	}
	repositories := []*closedTo{
		closed("behind a password", in.originAddr(), wantPassword),
		closed("at a private address", in.plan.privateOrigin, nil),
		closed("excluded", in.originAddr(), nil),
		closed("private", in.originAddr(), marking("private")),
		closed("not to be stored", in.originAddr(), marking("no-store")),
	}
	password, excluded := repositories[0], repositories[2]
	control := w.only("net-a-05", "net-a-08")
	in.mirror.publish(w.publish(t, control, suite{}))

	var sources []string
	for _, r := range repositories {
		sources = append(sources, w.source(r.url())[0])
	}
	m := in.site().machine(append(sources, w.source(in.mirror.url())...)...)
	writeFile(t, filepath.Join(m.dir, "etc/auth.conf"), []byte("machine http://"+password.addr+" login somebody password secret\n"))
	m.serve(in.wanFlags("--dht-exclude", excluded.addr+"/debian")...)
	m.inDHT()
	m.update()
	for _, r := range repositories {
		m.download(namesOf(r.files)...)
	}
	m.download(namesOf(control)...)
	in.swarm.wantHolder(m.wanAddr(), control)
	settled(t, in.swarm, 4*time.Second)

	stranger, _ := in.site().host("1")
	for _, p := range control {
		wantGivenTo(t, m, stranger, p, true)
		if !in.swarm.lookedFor(p) {
			t.Errorf("%s, which is everybody's, was not looked for", p.name)
		}
	}
	for _, r := range repositories {
		for _, p := range r.files {
			if in.swarm.lookedFor(p) {
				t.Errorf("the DHT was asked for a file of a repository that is %s", r.why)
			}
			if len(in.swarm.holders(keyOf(p.digest))) > 0 {
				t.Errorf("a file of a repository that is %s is announced", r.why)
			}
			wantGivenTo(t, m, stranger, p, false)
		}
		for name, body := range r.archive.listed {
			if strings.Contains(name, "Packages") && in.swarm.lookedForKey(hexHash("SHA256", body)) {
				t.Errorf("the DHT was asked for %s of a repository that is %s", name, r.why)
			}
		}
	}
}

// settled waits until the DHT has been asked for nothing new for a while.
func settled(t *testing.T, s *swarm, quiet time.Duration) {
	t.Helper()
	seen, since := 0, time.Now()
	within(t, announcePatience, "the node has announced what it has", func() bool {
		if n := len(s.queries("get_peers")); n != seen {
			seen, since = n, time.Now()
		}
		return time.Since(since) > quiet
	})
}

// lookedFor tells whether somebody asked the DHT for a package.
func (s *swarm) lookedFor(p builtPackage) bool {
	return s.lookedForKey(hex.EncodeToString(p.digest[:]))
}

func (s *swarm) lookedForKey(hash string) bool {
	for _, method := range []string{"get_peers", "announce_peer", "find_node"} {
		for _, q := range s.queries(method) {
			if strings.HasPrefix(hash, hex.EncodeToString(q.key[:])) {
				return true
			}
		}
	}
	return false
}

// wantGivenTo asks a node for a package as a stranger on the internet does.
func wantGivenTo(t *testing.T, m *lanMachine, stranger *lanHost, p builtPackage, given bool) {
	t.Helper()
	hash := hex.EncodeToString(p.digest[:])
	resp, body, err := stranger.request("GET", "http://"+m.wanAddr()+wanBlobs+hash, nil, "")
	check(t, err)
	want := map[bool]int{true: http.StatusOK, false: http.StatusNotFound}[given]
	if resp.StatusCode != want || given && hexHash("SHA256", []byte(body)) != hash {
		t.Errorf("%s: a stranger gets %s, %d bytes, want %d", p.name, resp.Status, len(body), want)
	}
	if got := hasBlob(t, m, stranger, hash); got != given {
		t.Errorf("%s: a stranger is told %v", p.name, got)
	}
}

// hasBlob asks a node whether it has a blob.
func hasBlob(t *testing.T, m *lanMachine, stranger *lanHost, hash string) bool {
	t.Helper()
	resp, body, err := stranger.request("POST", "http://"+m.wanAddr()+wanHave, http.Header{"Content-Type": {"application/json"}}, `{"v":1,"want":["`+hash+`"]}`)
	if check(t, err); resp.StatusCode != http.StatusOK {
		t.Fatalf("have: %s %s", resp.Status, body)
	}
	var answer struct {
		Have []string `json:"have"`
	}
	check(t, json.Unmarshal([]byte(body), &answer))
	return len(answer.Have) == 1 && answer.Have[0] == hash
}

// wanCompanyShares: in a DHT of one's own, what is at private addresses is shared.
func wanCompanyShares(t *testing.T, w *world) {
	in := newInternet(t, w, companyPlan)
	some := w.only("net-b-05", "net-b-00")
	m := in.seed(some)
	stranger, _ := in.site().host("1")
	for _, p := range some {
		wantGivenTo(t, m, stranger, p, true)
	}
}
