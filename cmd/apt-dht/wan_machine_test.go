// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

// wanStatus is the part of a node's status that tells of the internet.
type wanStatus struct {
	DHT struct {
		Nodes     int  `json:"nodes"`
		Offered   int  `json:"offered"`
		Announced int  `json:"announced"`
		ReadOnly  bool `json:"read_only"`
	} `json:"dht"`
	WAN struct {
		Reachable bool              `json:"reachable"`
		Reach     string            `json:"reach"`
		Router    string            `json:"router"`
		Peers     []json.RawMessage `json:"peers"`
	} `json:"wan"`
	BytesFrom struct {
		LAN    int64 `json:"lan"`
		WAN    int64 `json:"wan"`
		Mirror int64 `json:"mirror"`
	} `json:"bytes_from"`
	BytesTo struct {
		WAN int64 `json:"wan"`
	} `json:"bytes_to"`
}

func (m *lanMachine) wanStatus() (s wanStatus) {
	m.t.Helper()
	_, body, err := m.request("GET", "http://127.0.0.1:"+lanPort+"/~/v1/status", nil, "")
	check(m.t, err)
	check(m.t, json.Unmarshal([]byte(body), &s))
	return s
}

// inDHT waits until the machine's node knows the DHT.
func (m *lanMachine) inDHT() {
	m.t.Helper()
	m.inDHTOf(swarmSize)
}

// inDHTOf waits until it knows most of that many nodes.
func (m *lanMachine) inDHTOf(nodes int) {
	m.t.Helper()
	eventually(m.t, m.ip+" knows nodes of the DHT", func() bool { return m.wanStatus().DHT.Nodes >= nodes*2/3 })
}

// downloadAndAnnounce fetches packages and waits until the machine's node says that
// all it offers is announced.
func (m *lanMachine) downloadAndAnnounce(packages []builtPackage) {
	m.t.Helper()
	before := m.wanStatus().DHT.Offered
	m.download(namesOf(packages)...)
	within(m.t, announcePatience, "the packages are announced", func() bool {
		s := m.wanStatus().DHT
		return s.Offered >= before+len(packages) && s.Announced == s.Offered
	})
}

// fetched is what a machine's node took from the internet's peers and from the
// mirror while f ran.
func (m *lanMachine) fetched(f func()) (wan, mirror int64) {
	m.t.Helper()
	before := m.wanStatus()
	f()
	after := m.wanStatus()
	return after.BytesFrom.WAN - before.BytesFrom.WAN, after.BytesFrom.Mirror - before.BytesFrom.Mirror
}

// wantFrom fetches a package through a machine's node, which must have it from
// that source.
func wantFrom(t *testing.T, m *lanMachine, from *mirror, p builtPackage, source string) {
	t.Helper()
	resp, body := m.get(poolURL(from, p))
	if resp.StatusCode != http.StatusOK || sha256.Sum256([]byte(body)) != p.digest {
		t.Errorf("%s: %s, %d bytes: not the package", p.name, resp.Status, len(body))
	}
	if got := resp.Header.Get("X-Apt-Dht-Source"); got != source {
		t.Errorf("%s comes from %q, want %q", p.name, got, source)
	}
}

// within waits until what is asked for is so, but not longer than limit.
func within(t testing.TB, limit time.Duration, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}
