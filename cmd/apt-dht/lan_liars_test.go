// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// holderLies are what a holder may do that claims to have everything. The
// value tells whether it is convicted by it: who is slow, or has not what it
// said, may be honest.
var holderLies = map[string]struct {
	lie       lie
	convicted bool
}{
	"WrongBytes":  {giveWrong, true},
	"WrongStates": {giveWrongState, true},
	"TooShort":    {func(w http.ResponseWriter, r *http.Request, right []byte) { giveSized(w, r, right[:len(right)/2]) }, false},
	"TooLong": {func(w http.ResponseWriter, r *http.Request, right []byte) {
		giveSized(w, r, append(right[:len(right):len(right)], 0))
	}, false},
	"Endless":  {giveEndless, true},
	"Trickle":  {giveTrickle, false},
	"Cut":      {giveCut, false},
	"Silent":   {func(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() }, false},
	"NotFound": {func(w http.ResponseWriter, r *http.Request, _ []byte) { http.NotFound(w, r) }, false},
	"Busy":     {func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusTooManyRequests) }, false},
	"Elsewhere": {func(w http.ResponseWriter, r *http.Request, _ []byte) {
		http.Redirect(w, r, "http://203.0.113.1/", http.StatusFound)
	}, false},
}

// giveSized gives right, as a node does, as if that were the blob.
func giveSized(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// giveWrong inverts each byte.
func giveWrong(w http.ResponseWriter, r *http.Request, right []byte) {
	wrong := bytes.Clone(right)
	for i := range wrong {
		wrong[i] ^= 0xff
	}
	w.Header().Set("X-Apt-Dht-State", strings.Repeat("ab", 32))
	giveSized(w, r, wrong)
}

// giveWrongState gives the right bytes with a false proof.
func giveWrongState(w http.ResponseWriter, r *http.Request, right []byte) {
	if r.Header.Get("Range") != "" {
		w.Header().Set("X-Apt-Dht-State", strings.Repeat("ab", 32))
	}
	giveSized(w, r, right)
}

// giveEndless never comes to an end.
func giveEndless(w http.ResponseWriter, _ *http.Request, _ []byte) {
	for part := make([]byte, 64<<10); ; {
		if _, err := w.Write(part); err != nil {
			return
		}
	}
}

// giveTrickle gives one byte per second of what would be right.
func giveTrickle(w http.ResponseWriter, r *http.Request, right []byte) {
	giveSized(&trickle{w, r}, r, right)
}

type trickle struct {
	http.ResponseWriter
	r *http.Request
}

// Write implements http.ResponseWriter.
func (t *trickle) Write(p []byte) (n int, err error) {
	for ; n < len(p); n++ {
		if _, err := t.ResponseWriter.Write(p[n : n+1]); err != nil {
			return n, err
		}
		http.NewResponseController(t.ResponseWriter).Flush()
		select {
		case <-time.After(time.Second):
		case <-t.r.Context().Done():
			return n, t.r.Context().Err()
		}
	}
	return n, nil
}

// giveCut breaks the connection after the first byte.
func giveCut(w http.ResponseWriter, _ *http.Request, right []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(right)))
	w.Write(right[:1])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func init() {
	for name, l := range holderLies {
		lanScenarios["Holder"+name] = func(t *testing.T, w *world) { lanLyingHolder(t, w, l.lie, l.convicted) }
	}
	lanScenarios["HolderDropsPackets"] = lanHolderDropsPackets
}

// lieCost bounds what a liar adds to one apt run, whatever it does and however
// many files are asked for: half of what apt waits for a byte. Without it the runs
// below take a second or two, and with it nine on an idle machine.
const lieCost = 15 * time.Second

// startWithLiar makes a site with one machine and a liar, so that each blob has
// both for homes.
func startWithLiar(t *testing.T, w *world, l func(*liar)) (*lanSite, *lanMachine, *liar) {
	t.Helper()
	s := newLANSite(t, w, w.standard)
	liar := s.newLiar("66")
	l(liar)
	liar.serve()
	m := s.machine()
	m.patient(true)
	m.serve("--lan-peer", liar.ip)
	eventually(t, "the liar is a member", func() bool { return m.knows(liar.id) })
	return s, m, liar
}

// wantUnharmed lets a machine update and install everything: it gets the right
// bytes, and no run takes longer than lies may cost.
func wantUnharmed(t *testing.T, w *world, m *lanMachine, cost time.Duration) {
	t.Helper()
	for _, args := range [][]string{{"update"}, {"install", "--download-only", "e2e-everything", "e2e-big"}} {
		began := time.Now()
		if out, err := m.begin(args...).wait(); err != nil {
			t.Fatalf("apt-get %v: %v\n%s", args, err, out)
		}
		wantWithin(t, "apt-get "+args[0]+" has ended", began, 2*time.Second+cost)
	}
	m.wantPackages(w.allBut("e2e-new"))
}

// lanLyingHolder: a machine tells that it has everything, both as the home of
// what it is asked for and to the home of the rest.
func lanLyingHolder(t *testing.T, w *world, lie lie, convicted bool) {
	_, m, liar := startWithLiar(t, w, func(l *liar) { l.blob = lie })
	liar.announce(m)
	wantUnharmed(t, w, m, lieCost)
	if liar.times(strings.TrimSuffix(lanBlobs, "/")) == 0 {
		t.Error("the liar was not asked for anything")
	}
	if named := liarNamed(m, liar); named != convicted {
		t.Errorf("the status names the liar: %v; convicted: %v", named, convicted)
	}
	if convicted && !strings.Contains(m.log.String(), liar.ip) {
		t.Error("the log does not name the liar")
	}
}

// liarNamed tells whether the status says why the liar is set aside.
func liarNamed(m *lanMachine, l *liar) bool {
	m.t.Helper()
	for _, p := range m.status().LAN.Peers {
		if p.ID == l.id {
			return p.Liar != ""
		}
	}
	return false
}

// lanHolderDropsPackets: a member is silent from one moment on, also to who
// connects.
func lanHolderDropsPackets(t *testing.T, w *world) {
	_, m, liar := startWithLiar(t, w, func(l *liar) { l.blob = giveWrong })
	liar.announce(m)
	ipBatch(t, liar.host.name, "route add blackhole "+m.ip+"/32")
	wantUnharmed(t, w, m, lieCost)
}
