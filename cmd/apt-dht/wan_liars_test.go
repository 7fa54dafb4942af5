// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// wanLies are what a peer may do that the DHT names for everything. convicted
// tells whether it is known as a liar by it: who is slow, or has not what it
// said, may be honest.
var wanLies = map[string]struct {
	have      http.HandlerFunc
	blob      lie
	accept    func(net.Conn)
	convicted bool
}{
	"WrongBytes":  {blob: giveWrong, convicted: true},
	"WrongStates": {blob: giveWrongState, convicted: true},
	"TooShort": {blob: func(w http.ResponseWriter, r *http.Request, right []byte) {
		giveSized(w, r, right[:len(right)/2])
	}},
	"TooLong": {blob: func(w http.ResponseWriter, r *http.Request, right []byte) {
		giveSized(w, r, append(right[:len(right):len(right)], 0))
	}},
	"EndlessBody": {blob: giveEndless, convicted: true},
	"Trickle":     {blob: giveTrickle},
	"Cut":         {blob: giveCut},
	"Silent":      {blob: func(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() }},
	"Stalls":      {blob: giveHalf},
	"NotFound":    {blob: func(w http.ResponseWriter, r *http.Request, _ []byte) { http.NotFound(w, r) }},
	"Busy":        {blob: giveStatus(http.StatusTooManyRequests)},
	"Fails":       {blob: giveStatus(http.StatusInternalServerError)},
	"Elsewhere": {blob: func(w http.ResponseWriter, r *http.Request, _ []byte) {
		http.Redirect(w, r, "http://"+elsewhere+"/", http.StatusFound)
	}},
	"HaveSilent":  {have: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
	"HaveFails":   {have: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
	"HaveBusy":    {have: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }},
	"HaveEndless": {have: func(w http.ResponseWriter, r *http.Request) { giveEndless(w, r, nil) }},
	"HaveElsewhere": {have: func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+elsewhere+wanHave, http.StatusTemporaryRedirect)
	}},
	"Closes":         {accept: func(net.Conn) {}},
	"Mute":           {accept: func(c net.Conn) { io.Copy(io.Discard, c) }},
	"EndlessHeaders": {accept: sendHeaders},
}

// elsewhere is where a peer sends others to: an address that they must not ask.
const elsewhere = "31.13.24.10:8000"

func giveStatus(code int) lie {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(code) }
}

// giveHalf gives half of what is asked for, and then nothing for ever.
func giveHalf(w http.ResponseWriter, r *http.Request, right []byte) {
	giveSized(&halfWriter{ResponseWriter: w, r: r, left: len(right) / 2}, r, right)
}

type halfWriter struct {
	http.ResponseWriter
	r    *http.Request
	left int
}

// Write implements http.ResponseWriter.
func (h *halfWriter) Write(p []byte) (int, error) {
	if len(p) <= h.left {
		h.left -= len(p)
		return h.ResponseWriter.Write(p)
	}
	http.NewResponseController(h.ResponseWriter).Flush()
	<-h.r.Context().Done()
	return 0, h.r.Context().Err()
}

func sendHeaders(c net.Conn) {
	if _, err := fmt.Fprint(c, "HTTP/1.1 200 OK\r\n"); err != nil {
		return
	}
	for line := "X-More: " + strings.Repeat("x", 4000) + "\r\n"; ; {
		if _, err := fmt.Fprint(c, line); err != nil {
			return
		}
	}
}

func init() {
	for name, l := range wanLies {
		wanPeerScenarios["Peer"+name] = func(t *testing.T, w *world) {
			wanLyingPeer(t, w, func(p *wanPeer) { p.have, p.blob, p.accept = l.have, l.blob, l.accept }, l.convicted)
		}
	}
	for _, name := range []string{"WrongBytes", "WrongStates", "Trickle", "Cut", "Silent", "Stalls", "Busy", "Fails", "HaveSilent"} {
		wanPeerScenarios["PeerTurnsTo"+name] = func(t *testing.T, w *world) { wanTurncoat(t, w, wanLies[name].have, wanLies[name].blob) }
	}
	wanPeerScenarios["PeerTurnsToDropping"] = func(t *testing.T, w *world) { wanTurncoat(t, w, nil, nil) }
	wanPeerScenarios["PeerDropsPackets"] = wanPeerDropsPackets
}

// lyingCost bounds what a peer adds to the apt run in which it is met, and
// metCost what it adds afterwards, beside what busy CPUs do.
const (
	lyingCost = 2500 * time.Millisecond
	metCost   = time.Second
)

// liedTo is a machine that the DHT sends to a peer, and one beside it without DHT.
type liedTo struct {
	*lanMachine
	plain *lanMachine
}

// liedTo starts them, while the DHT names a peer for everything.
func (in *internet) liedTo(p *wanPeer) *liedTo {
	in.t.Helper()
	in.origin.limit("eth0", 160)
	site := in.site()
	m := &liedTo{plain: site.machine(), lanMachine: site.machine()}
	m.plain.serve("--no-mdns")
	m.serve(in.wanFlags("--no-mdns")...)
	in.swarm.tell(p.addr)
	m.plain.update()
	m.update()
	m.inDHT()
	return m
}

// wantUnharmed lets the machine install packages. It takes as long as without the
// DHT, but for what a lie may cost.
func (m *liedTo) wantUnharmed(set []builtPackage, cost time.Duration) {
	m.t.Helper()
	usual := timeOf(func() { m.plain.download(namesOf(set)...) })
	took := timeOf(func() { m.download(namesOf(set)...) })
	m.t.Logf("%v without the DHT, %v with the peer", usual, took)
	if took > usual*13/10+cost {
		m.t.Errorf("%d packages took %v with the peer, %v without the DHT", len(set), took, usual)
	}
}

func timeOf(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began).Round(time.Millisecond)
}

// wanLyingPeer: the DHT names a hostile peer for everything.
func wanLyingPeer(t *testing.T, w *world, lying func(*wanPeer), convicted bool) {
	in := newInternet(t, w, worldPlan)
	p := in.peer()
	lying(p)
	p.serve()
	m := in.liedTo(p)
	m.wantUnharmed(w.set("a"), lyingCost)
	m.wantUnharmed(w.set("b"), metCost)
	m.wantPackages(w.allBut())
	if p.times(wanHave) == 0 && p.times("connection") == 0 {
		t.Error("the peer was not asked for anything")
	}
	if p.blob != nil && p.times(wanBlobs) == 0 {
		t.Error("the peer was not asked for a blob")
	}
	if got := strings.Contains(m.warnings(), p.addr); got != convicted {
		t.Errorf("the log names the peer: %v; convicted: %v\n%s", got, convicted, m.warnings())
	}
	if asked := in.mirror.asked("/~/"); len(asked) > 0 {
		t.Errorf("a redirect was followed: %v", asked)
	}
}

// wanTurncoat: a peer brings everything as it should, so that the mirror stands
// back for it; and then lies, or is not there any more.
func wanTurncoat(t *testing.T, w *world, have http.HandlerFunc, blob lie) {
	in := newInternet(t, w, worldPlan)
	p := in.peer()
	p.have, p.blob = have, blob
	p.honest.Store(true)
	p.serve()
	m := in.liedTo(p)
	wan, _ := m.fetched(func() { m.wantUnharmed(w.set("a"), lyingCost) })
	if wan < sizeOf(w.set("a"))/8 { // on busy cores the mirror is the faster one
		t.Errorf("%d bytes of %d came from an honest peer", wan, sizeOf(w.set("a")))
	}
	p.honest.Store(false)
	if have == nil && blob == nil {
		p.host.cable("eth0", false)
	}
	first, second := halves(w.set("b"))
	m.wantUnharmed(first, lyingCost)
	m.wantUnharmed(second, metCost)
	m.wantPackages(w.allBut())
}

// halves are every other package, and the rest.
func halves(set []builtPackage) (even, odd []builtPackage) {
	for i, p := range set {
		if i%2 == 0 {
			even = append(even, p)
		} else {
			odd = append(odd, p)
		}
	}
	return even, odd
}

// wanPeerDropsPackets: nobody answers where the DHT says that a peer is.
func wanPeerDropsPackets(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	p := in.peer()
	p.host.nft(`table inet f {
	chain in {
		type filter hook input priority 0
		meta l4proto tcp counter drop comment "tcp"
	}
}`)
	m := in.liedTo(p)
	m.wantUnharmed(w.set("a"), lyingCost)
	m.wantUnharmed(w.set("b"), metCost)
	m.wantPackages(w.allBut())
	if p.host.counted()["tcp"] == 0 {
		t.Error("nobody tried to connect to the peer")
	}
}
