// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The WAN's protocol, as docs/protocol.md has it.
const (
	wanPing  = "/~/v1/wan/ping"
	wanHave  = "/~/v1/wan/have"
	wanReach = "/~/v1/wan/reach"
	wanBlobs = "/~/v1/wan/blob/"
)

// wanPeer is a machine of the internet that this test plays. It claims to have
// every blob; in what it lies its fields say.
type wanPeer struct {
	t     *testing.T
	host  *lanHost
	addr  string
	files map[string][]byte // what the blobs should be, by hash

	have   http.HandlerFunc // answers whether it has blobs; nil: it has all
	blob   lie              // gives blobs; nil: it gives what is right
	accept func(net.Conn)   // takes connections in the place of HTTP; nil: nobody does
	honest atomic.Bool      // does not lie for now

	mu    sync.Mutex // guards following
	asked map[string]int
}

// peer adds a machine at a site of its own, which says it has everything.
func (in *internet) peer() *wanPeer {
	in.t.Helper()
	host, ip := in.site().host("66")
	p := &wanPeer{t: in.t, host: host, addr: net.JoinHostPort(ip, wanPort), files: map[string][]byte{}, asked: map[string]int{}}
	for _, pkg := range in.w.packages {
		p.files[hex.EncodeToString(pkg.digest[:])] = readFile(in.t, pkg.deb)
	}
	return p
}

// serve lets the peer answer until the test ends.
func (p *wanPeer) serve() {
	p.t.Helper()
	l := p.host.listen(p.addr)
	if p.accept != nil {
		p.t.Cleanup(func() { l.Close() })
		go p.acceptAll(l)
		return
	}
	// A handler that has not read its question's body is not told that the asker has gone.
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{Handler: p, BaseContext: func(net.Listener) context.Context { return ctx }}
	go server.Serve(l)
	p.t.Cleanup(func() { cancel(); server.Close() })
}

func (p *wanPeer) acceptAll(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		p.note("connection")
		go func() {
			defer conn.Close()
			p.accept(conn)
		}()
	}
}

func (p *wanPeer) note(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[what]++
}

// times is how often the peer was asked for a path, or what is below it.
func (p *wanPeer) times(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[what]
}

// ServeHTTP implements http.Handler.
func (p *wanPeer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.note(r.URL.Path)
	p.note(path.Dir(r.URL.Path) + "/")
	hash, isBlob := strings.CutPrefix(r.URL.Path, wanBlobs)
	lies := !p.honest.Load()
	switch {
	case isBlob && p.blob != nil && lies:
		p.blob(w, r, p.files[hash])
	case isBlob && p.files[hash] != nil:
		giveRight(w, r, p.files[hash])
	case r.URL.Path == wanPing:
		writeJSON(w, map[string]any{"v": 1, "version": "0", "nonce": r.URL.Query().Get("nonce")})
	case r.URL.Path == wanHave && p.have != nil && lies:
		p.have(w, r)
	case r.URL.Path == wanHave:
		p.haveAll(w, r)
	case r.URL.Path == wanReach:
		p.reach(w, r)
	default:
		http.NotFound(w, r)
	}
}

// giveRight gives a blob as a node does, each piece with its start state.
func giveRight(w http.ResponseWriter, r *http.Request, right []byte) {
	const piece = 1 << 20
	var from int
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil && from > 0 && from%piece == 0 && from < len(right) {
		w.Header().Set("X-Apt-Dht-State", hex.EncodeToString(chainState(right[:from])))
	}
	giveSized(w, r, right)
}

// chainState is SHA-256's state after whole blocks.
func chainState(blocks []byte) []byte {
	h := sha256.New()
	h.Write(blocks)
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err)
	}
	return state[4:36] // after the magic (crypto/sha256)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// haveAll says that it has whatever is asked for.
func (p *wanPeer) haveAll(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Want []string `json:"want"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(w, map[string]any{"v": 1, "have": q.Want})
}

// reach does what it is asked for.
func (p *wanPeer) reach(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Port  int    `json:"port"`
		Nonce string `json:"nonce"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ip, _, _ := net.SplitHostPort(r.RemoteAddr)
	_, body, err := p.host.requestWithin(3*time.Second, "GET", fmt.Sprintf("http://%s:%d%s?nonce=%s", ip, q.Port, wanPing, q.Nonce), nil, "")
	writeJSON(w, map[string]any{"v": 1, "reached": err == nil && strings.Contains(body, q.Nonce)})
}
