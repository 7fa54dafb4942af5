// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func init() {
	wanScenarios["UploadLimit"] = wanUploadLimit
	wanScenarios["UploadSlots"] = wanUploadSlots
	wanScenarios["TurnedOff"] = wanTurnedOff
}

// blobURL is where a machine gives a package to the world.
func (m *lanMachine) blobURL(p builtPackage) string {
	return "http://" + m.wanAddr() + wanBlobs + hex.EncodeToString(p.digest[:])
}

// wanUploadLimit: two strangers together get what the operator has set.
func wanUploadLimit(t *testing.T, w *world) {
	const limit = 3_000_000
	in := newInternet(t, w, worldPlan)
	big := w.largest()
	m := in.seed([]builtPackage{big}, "--upload-limit", "3MB")
	one, _ := in.site().host("1")
	two, _ := in.site().host("1")
	began := time.Now()
	got := make(chan int)
	for _, h := range []*lanHost{one, two} {
		go func() {
			_, body, err := h.request("GET", m.blobURL(big), http.Header{"Range": {"bytes=0-7999999"}}, "")
			if err != nil {
				t.Error(err)
			}
			got <- len(body)
		}()
	}
	bytes := <-got + <-got
	rate := float64(bytes) / time.Since(began).Seconds()
	t.Logf("%d bytes in %v: %.3f of the limit", bytes, time.Since(began).Round(time.Millisecond), rate/limit)
	if rate > limit*1.15 || rate < limit*0.85 {
		t.Errorf("%.0f bytes per second were given, the limit is %d", rate, limit)
	}
}

// wanUploadSlots: who asks for more at a time than there is for one is told to
// come again, at once, while others are served.
func wanUploadSlots(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	big := w.largest()
	m := in.seed([]builtPackage{big}, "--upload-limit", "500kB") // 10 slots of 50 kB/s
	var bodies []io.Closer
	defer func() {
		for _, b := range bodies {
			b.Close()
		}
	}()
	take := func(h *lanHost) int {
		client := &http.Client{Transport: &http.Transport{DialContext: h.dial, DisableKeepAlives: true}, Timeout: patience}
		began := time.Now()
		resp, err := client.Get(m.blobURL(big))
		check(t, err)
		bodies = append(bodies, resp.Body)
		if resp.StatusCode == http.StatusTooManyRequests && (resp.Header.Get("Retry-After") == "" || time.Since(began) > time.Second) {
			t.Errorf("429 after %v, Retry-After %q", time.Since(began), resp.Header.Get("Retry-After"))
		}
		return resp.StatusCode
	}
	var given, refused int
	for site := range 4 {
		h, _ := in.site().host("1")
		for range 5 {
			switch code := take(h); code {
			case http.StatusOK:
				given++
			case http.StatusTooManyRequests:
				refused++
			default:
				t.Errorf("status %d", code)
			}
		}
		if site == 0 && (given != 4 || refused != 1) {
			t.Errorf("one site got %d of 5, and was refused %d", given, refused)
		}
	}
	if given != 10 {
		t.Errorf("%d bodies are given at a time, want 10", given)
	}
}

// wanTurnedOff: --dht=false leaves nothing of it.
func wanTurnedOff(t *testing.T, w *world) {
	in := newInternet(t, w, worldPlan)
	m := in.site().machine()
	m.serve() // which says --dht=false
	m.update()
	m.download(namesOf(w.set("b"))...)
	sockets := runCommand(t, m.host.command("true", "ss", "-Hlnptu"))
	if strings.Contains(sockets, ":"+wanPort+" ") {
		t.Errorf("it listens:\n%s", sockets)
	}
	for line := range strings.Lines(sockets) {
		if strings.HasPrefix(line, "udp") && !strings.Contains(line, ":5353 ") {
			t.Errorf("a UDP socket: %s", line)
		}
	}
	for _, method := range []string{"get_peers", "announce_peer", "find_node", "ping"} {
		if asked := in.swarm.queries(method); len(asked) > 0 {
			t.Errorf("the DHT was asked: %v", asked)
		}
	}
	s := m.wanStatus()
	if s.DHT.Nodes > 0 || s.DHT.Announced > 0 || s.DHT.Offered > 0 || s.WAN.Reachable || s.BytesFrom.WAN > 0 {
		t.Errorf("the status tells of the internet: %+v", s)
	}
	if !strings.Contains(s.WAN.Reach, "no part") {
		t.Errorf("the status does not say that the node has no part in the DHT: %q", s.WAN.Reach)
	}
}
