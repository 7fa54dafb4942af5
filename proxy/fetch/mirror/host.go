// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// manner is how a host wants to be asked.
type manner int

const (
	unknown   manner = iota
	pipelines        // keeps connections of HTTP/1.1 open
	alone            // HTTP/1.0, closes after each answer, or was found to mix answers up
)

const (
	// mannerAge is how long a host's manner is believed: mirrors behind a name change, but not often.
	mannerAge = time.Hour
	maxHosts  = 1024 // more than any sources.list names
)

// hosts remembers manners by host and port.
type hosts map[string]hostEntry

type hostEntry struct {
	manner manner
	until  time.Time
	most   int // requests that a connection takes in all; 0: not told
}

func (h hosts) manner(addr string, now time.Time) manner {
	if e, ok := h[addr]; ok && now.Before(e.until) {
		return e.manner
	}
	return unknown
}

func (h hosts) note(addr string, m manner, now time.Time) {
	if len(h) >= maxHosts {
		maps.DeleteFunc(h, func(_ string, e hostEntry) bool { return !now.Before(e.until) })
	}
	if len(h) >= maxHosts {
		clear(h)
	}
	h[addr] = hostEntry{manner: m, until: now.Add(mannerAge)}
}

// limit notes how many requests a connection to the host takes in all.
func (h hosts) limit(addr string, most int) {
	if e, ok := h[addr]; ok {
		e.most = most
		h[addr] = e
	}
}

// allowance is that number, negative where it is not known.
func (h hosts) allowance(addr string) int {
	if most := h[addr].most; most > 0 {
		return most
	}
	return -1
}

// keptOpen tells whether more answers can follow on the connection.
func keptOpen(resp *http.Response) bool { return resp.ProtoAtLeast(1, 1) && !resp.Close }

// keepAlive reads the field with which Apache tells how long a connection is kept open while idle, and for how
// many more requests (RFC 2068 §19.7.1.1). Each is negative where it is not told.
func keepAlive(h http.Header) (idle time.Duration, requests int) {
	idle, requests = -1, -1
	for param := range strings.SplitSeq(h.Get("Keep-Alive"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			continue
		}
		switch strings.ToLower(name) {
		case "timeout":
			idle = time.Duration(n) * time.Second
		case "max":
			requests = int(n)
		}
	}
	return idle, requests
}
