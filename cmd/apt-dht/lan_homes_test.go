// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func init() {
	for name, home := range homeLies {
		cost := lieCost
		if name == "ComingFromTheDepths" {
			// It has half of a file come in good time, then nothing: an honest home
			// whose mirror is slow looks the same. The rule for readers who get
			// nothing at all ends it, mostly once.
			cost = 28 * time.Second
		}
		lanScenarios["Home"+name] = func(t *testing.T, w *world) { lanLyingHome(t, w, home, cost) }
	}
	lanScenarios["HomeSendsToOthers"] = lanHomeSendsToOthers
	for name, relay := range relayLies {
		lanScenarios["Lease"+name] = func(t *testing.T, w *world) { lanHoardedLeases(t, w, relay) }
	}
}

// homeLies are what a home may do that is asked who has a blob.
var homeLies = map[string]func(l *liar) http.HandlerFunc{
	"ComingFromItself": func(l *liar) http.HandlerFunc {
		return saying(lanAnswer{State: "coming", Number: 1, From: l.places()})
	},
	"ComingFromNowhere": func(l *liar) http.HandlerFunc {
		return saying(lanAnswer{State: "coming", Number: 1, From: nowhere})
	},
	"HeldNowhere": func(l *liar) http.HandlerFunc {
		return saying(lanAnswer{State: "held", From: nowhere})
	},
	"AlwaysSoon": func(*liar) http.HandlerFunc { return saying(lanAnswer{State: "coming", Number: 7}) },
	"ComingFromTheDepths": func(l *liar) http.HandlerFunc {
		l.blob = relayLies["Stalls"]
		return saying(lanAnswer{State: "coming", Number: 1 << 20, From: l.places()})
	},
	"NoLease":     func(*liar) http.HandlerFunc { return saying(lanAnswer{State: "none"}) },
	"NoSuchState": func(*liar) http.HandlerFunc { return saying(lanAnswer{State: "perhaps"}) },
	"Mute": func(*liar) http.HandlerFunc {
		return func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // the server sees only then that the asker has gone
			<-r.Context().Done()
		}
	},
	"Babble":     func(*liar) http.HandlerFunc { return babble },
	"OtherBlobs": func(*liar) http.HandlerFunc { return otherBlobs },
}

// saying answers the same for every blob.
func saying(a lanAnswer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answerLookup(w, r, func(string, bool) lanAnswer { return a })
	}
}

// babble answers with JSON that does not end.
func babble(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, `{"v":1,"found":[`)
	for {
		if _, err := io.WriteString(w, `{"hash":"00","state":"held"},`); err != nil {
			return
		}
	}
}

// otherBlobs tells of blobs that were not asked for.
func otherBlobs(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"v":1,"found":[{"hash":%q,"state":"held","from":[{"id":"00000000deadbeef","addr":"203.0.113.1:9977"}]}]}`, strings.Repeat("00", 32))
}

// lanLyingHome: the home of half of all blobs says what is not so.
func lanLyingHome(t *testing.T, w *world, home func(l *liar) http.HandlerFunc, cost time.Duration) {
	_, m, liar := startWithLiar(t, w, func(l *liar) { l.home = home(l) })
	wantUnharmed(t, w, m, cost)
	if liar.times(lanLookup) == 0 {
		t.Error("the liar was not asked for anything")
	}
}

// lanHomeSendsToOthers: a home names servers that are no nodes, to have them
// visited: one at a port of the system's, one off the link.
func lanHomeSendsToOthers(t *testing.T, w *world) {
	var visited atomic.Int32
	s, m, liar := startWithLiar(t, w, func(l *liar) {
		l.home = saying(lanAnswer{State: "held", From: []lanPlace{
			{"00000000deadbeef", siteGateway + ":25"}, {"00000000deadbeee", originAddr + ":" + lanPort},
		}})
	})
	for _, l := range []net.Listener{s.gateway.listen(siteGateway + ":25"), s.origin.listen(originAddr + ":" + lanPort)} {
		server := &http.Server{ConnState: func(net.Conn, http.ConnState) { visited.Add(1) }}
		go server.Serve(l)
		t.Cleanup(func() { server.Close() })
	}
	wantUnharmed(t, w, m, lieCost)
	if liar.times(lanLookup) == 0 || visited.Load() > 0 {
		t.Errorf("the home was asked %d times, and others were visited %d times", liar.times(lanLookup), visited.Load())
	}
}

// relayLies are what the holder of a lease may do that others read from.
var relayLies = map[string]lie{
	"Silent":   func(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() },
	"NotFound": func(w http.ResponseWriter, r *http.Request, _ []byte) { http.NotFound(w, r) },
	"Trickle":  func(w http.ResponseWriter, r *http.Request, right []byte) { relay(&trickle{w, r}, right) },
	"WrongBytes": func(w http.ResponseWriter, _ *http.Request, right []byte) {
		relay(w, bytes.Repeat([]byte{0}, len(right)))
	},
	"Stalls": func(w http.ResponseWriter, r *http.Request, right []byte) {
		relay(w, right[:len(right)/2])
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	},
}

// relay answers as a node does that still fetches the blob itself.
func relay(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Apt-Dht-Growing", "1")
	w.Write(body)
}

// lanHoardedLeases: a machine gets all leases, and relays nothing of use.
func lanHoardedLeases(t *testing.T, w *world, relay lie) {
	_, m, liar := startWithLiar(t, w, func(l *liar) { l.blob = relay })
	liar.home = saying(lanAnswer{State: "none"})
	liar.hoard(m)
	wantUnharmed(t, w, m, lieCost)
	if liar.times(strings.TrimSuffix(lanBlobs, "/")) == 0 {
		t.Error("the holder of the leases was not asked for anything")
	}
}
