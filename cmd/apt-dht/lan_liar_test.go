// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"
)

// The LAN's protocol, as docs/protocol.md has it.
const (
	lanPing     = "/~/v1/lan/ping"
	lanLookup   = "/~/v1/lan/lookup"
	lanAnnounce = "/~/v1/lan/announce"
	lanRoot     = "/~/v1/lan/root"
	lanBlobs    = "/~/v1/lan/blob/"
)

// lanQuestion is a lookup.
type lanQuestion struct {
	Want []struct {
		Hash  string `json:"hash"`
		Lease bool   `json:"lease"`
	} `json:"want"`
}

// lanAnswer is what a home says of one blob.
type lanAnswer struct {
	Hash   string     `json:"hash"`
	State  string     `json:"state"`
	Number int        `json:"number,omitempty"`
	From   []lanPlace `json:"from,omitempty"`
}

// lanPlace is a node as homes name it.
type lanPlace struct {
	ID   string `json:"id"`
	Addr string `json:"addr"`
}

// lie answers a request for a blob, whose right bytes it is told.
type lie func(w http.ResponseWriter, r *http.Request, right []byte)

// liar is a hostile machine. It answers as a node does, and claims to have
// every blob; in what it lies its fields say.
type liar struct {
	t       *testing.T
	host    *lanHost
	ip      string
	id      string
	version int               // of the protocol
	files   map[string][]byte // what the blobs should be, by hash

	home http.HandlerFunc // answers lookups; nil: it holds each blob itself
	blob lie              // gives blobs; nil: it has none
	root http.HandlerFunc // gives signed root files; nil: it has none

	mu    sync.Mutex // guards following
	asked map[string]int
}

// newLiar adds a hostile machine to the site. It serves when it is listened to.
func (s *lanSite) newLiar(number string) *liar {
	s.t.Helper()
	l := &liar{t: s.t, host: newLANHost(s.t), ip: siteNet + number, id: "11ab" + fmt.Sprintf("%012s", number), version: 1, files: map[string][]byte{}, asked: map[string]int{}}
	l.host.plug(s.segment, "eth0", l.ip+"/24")
	for _, p := range s.mirror.archive.packages {
		l.files[hex.EncodeToString(p.digest[:])] = readFile(s.t, p.deb)
	}
	for _, body := range s.mirror.archive.listed {
		l.files[hexHash("SHA256", body)] = body
	}
	return l
}

// serve lets the liar answer until the test ends.
func (l *liar) serve() {
	l.t.Helper()
	server := &http.Server{Handler: l}
	listener := l.host.listen(l.ip + ":" + lanPort)
	go server.Serve(listener)
	l.t.Cleanup(func() { server.Close() })
}

// ServeHTTP implements http.Handler.
func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.asked[path.Dir(r.URL.Path)]++
	l.asked[r.URL.Path]++
	l.mu.Unlock()
	hash, isBlob := strings.CutPrefix(r.URL.Path, lanBlobs)
	switch {
	case r.URL.Path == lanPing:
		l.answerPing(w)
	case r.URL.Path == lanLookup && l.home != nil:
		l.home(w, r)
	case r.URL.Path == lanLookup:
		answerLookup(w, r, func(hash string, _ bool) lanAnswer {
			return lanAnswer{State: "held", From: l.places()}
		})
	case isBlob && l.blob != nil:
		l.blob(w, r, l.files[hash])
	case r.Method == http.MethodPost:
		fmt.Fprint(w, `{"v":1}`)
	case l.root != nil && r.URL.Path == lanRoot:
		l.root(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (l *liar) answerPing(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"v":%d,"id":%q,"port":%s,"version":"0"}`, l.version, l.id, lanPort)
}

// places is where the liar is.
func (l *liar) places() []lanPlace { return []lanPlace{{l.id, l.ip + ":" + lanPort}} }

// nowhere is a place off the link, where nobody answers (RFC 5737).
var nowhere = []lanPlace{{"00000000deadbeef", "203.0.113.1:" + lanPort}}

// answerLookup answers a lookup with what is said of each blob.
func answerLookup(w http.ResponseWriter, r *http.Request, say func(hash string, lease bool) lanAnswer) {
	var q lanQuestion
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	found := []lanAnswer{}
	for _, want := range q.Want {
		a := say(want.Hash, want.Lease)
		a.Hash = want.Hash
		found = append(found, a)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"v": 1, "found": found})
}

// announce tells a node that the liar has every blob.
func (l *liar) announce(m *lanMachine) {
	l.t.Helper()
	have := []string{}
	for hash := range l.files {
		have = append(have, hash)
	}
	l.tell(m, lanAnnounce, map[string]any{"have": have, "gone": []string{}})
}

// hoard gets from a node, as the home of half of all blobs, the leases to fetch
// them, and does nothing with them.
func (l *liar) hoard(m *lanMachine) {
	l.t.Helper()
	want := []map[string]any{}
	for hash, body := range l.files {
		want = append(want, map[string]any{"hash": hash, "size": len(body), "lease": true, "have": 0})
	}
	if answer := l.tell(m, lanLookup, map[string]any{"want": want}); strings.Count(answer, `"lease"`) < len(want)/4 {
		l.t.Errorf("few of %d leases were granted: %s", len(want), answer)
	}
}

// tell sends a message to a node, which must accept it.
func (l *liar) tell(m *lanMachine, path string, message map[string]any) (answer string) {
	l.t.Helper()
	message["v"], message["id"], message["port"] = 1, l.id, 9977
	body, err := json.Marshal(message)
	check(l.t, err)
	client := &http.Client{Transport: &http.Transport{DialContext: l.host.dial, DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Post(m.url(path), "application/json", bytes.NewReader(body))
	check(l.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if check(l.t, err); resp.StatusCode != http.StatusOK {
		l.t.Errorf("%s is answered with %s: %s", path, resp.Status, text)
	}
	return string(text)
}

// times is how often the liar was asked for a path, or what is below it.
func (l *liar) times(path string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[path]
}
