// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// mirror serves an archive, notes each request, and misbehaves when told to.
type mirror struct {
	t    testing.TB
	addr string // IP:PORT
	tls  *tls.Config

	handlers sync.WaitGroup

	mu       sync.Mutex // guards following
	archive  *archive
	fault    fault
	requests []*request
	server   *http.Server // nil while down
}

// request is what the mirror was asked, and what it answered.
type request struct {
	method, uri         string // uri as it was sent
	rng, ifRange, since string
	via                 string
	status              int
	sent                int64 // bytes of the body
}

func (r *request) String() string {
	return fmt.Sprintf("%s %s range=%q if-range=%q since=%q: %d, %d bytes", r.method, r.uri, r.rng, r.ifRange, r.since, r.status, r.sent)
}

// loopback returns an address of 127.0.0.0/8 that nobody else is likely to
// use, so that parallel tests may use the same port.
func loopback() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}

// freeAddr is an address on which nobody listens.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", loopback()+":0")
	check(t, err)
	defer l.Close()
	return l.Addr().String()
}

// newMirror starts a mirror on a loopback address of its own.
func newMirror(t testing.TB, a *archive) *mirror {
	return startMirror(t, a, loopback()+":0", nil)
}

// startMirror starts a mirror at addr, with TLS unless conf is nil.
func startMirror(t testing.TB, a *archive, addr string, conf *tls.Config) *mirror {
	t.Helper()
	m := &mirror{t: t, archive: a, addr: addr, tls: conf}
	m.up()
	t.Cleanup(m.cleanup)
	return m
}

func (m *mirror) cleanup() {
	m.down()
	m.handlers.Wait()
	if m.t.Failed() {
		m.t.Logf("requests to mirror %s:\n%s", m.addr, m.history())
	}
}

type connKey struct{}

// up lets the mirror listen, where it listened before if it did.
func (m *mirror) up() {
	m.t.Helper()
	l, err := net.Listen("tcp", m.addr)
	check(m.t, err)
	m.serve(l)
}

// serve lets the mirror answer on a listener, which it closes when it goes down.
func (m *mirror) serve(l net.Listener) {
	m.addr = l.Addr().String()
	server := &http.Server{
		Handler:     m,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	m.mu.Lock()
	m.server = server
	m.mu.Unlock()
	if m.tls != nil {
		l = tls.NewListener(l, m.tls)
	}
	go server.Serve(l)
}

// down refuses connections and breaks those that are open.
func (m *mirror) down() {
	m.mu.Lock()
	server := m.server
	m.server = nil
	m.mu.Unlock()
	if server != nil {
		server.Close()
	}
}

// url is the repository's URL at the mirror.
func (m *mirror) url() string { return "http://" + m.addr + "/debian" }

// publish puts another version in the place of the first.
func (m *mirror) publish(a *archive) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.archive = a
}

// misbehave sets the fault for the requests to come; nil: none.
func (m *mirror) misbehave(f fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// ServeHTTP implements http.Handler.
func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.handlers.Add(1)
	defer m.handlers.Done()
	a := &answer{ResponseWriter: w, m: m, r: r, request: &request{
		method: r.Method, uri: r.RequestURI, via: r.Header.Get("Via"),
		rng: r.Header.Get("Range"), ifRange: r.Header.Get("If-Range"), since: r.Header.Get("If-Modified-Since"),
	}}
	m.mu.Lock()
	m.requests = append(m.requests, a.request)
	root, broken := m.archive.root, m.fault
	m.mu.Unlock()
	if broken != nil && broken(a, r) {
		return
	}
	serveFile(a, r, root)
}

func serveFile(w http.ResponseWriter, r *http.Request, root string) {
	f, err := os.Open(filepath.Join(root, path.Clean("/"+r.URL.Path)))
	if err != nil {
		http.Error(w, "not here", http.StatusNotFound)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		http.Error(w, "not a file", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", info.ModTime(), f)
}

// asked returns the requests whose URI contains part, so far.
func (m *mirror) asked(part string) []*request {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []*request
	for _, r := range m.requests {
		if strings.Contains(r.uri, part) {
			list = append(list, new(*r))
		}
	}
	return list
}

// sent is how many bytes of bodies went out for URIs that contain part.
func (m *mirror) sent(part string) (total int64) {
	for _, r := range m.asked(part) {
		total += r.sent
	}
	return total
}

// forget clears the list of requests.
func (m *mirror) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests = nil
}

func (m *mirror) history() string {
	var b strings.Builder
	for _, r := range m.asked("") {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

// isRoot tells whether a request is for a file that has no hash and so is
// asked for each time.
func (r *request) isRoot() bool {
	return slices.Contains([]string{"InRelease", "Release", "Release.gpg"}, path.Base(r.uri))
}

// wantOnce fails the test if a file but the root files was asked for twice.
func (m *mirror) wantOnce() {
	m.t.Helper()
	first := map[string]*request{}
	for _, r := range m.asked("") {
		if before := first[r.uri]; before != nil && !r.isRoot() {
			m.t.Errorf("the mirror was asked twice:\n%s\n%s", before, r)
		}
		first[r.uri] = r
	}
}

// wantOnlyRoots fails the test if the mirror was asked for anything but root files.
func (m *mirror) wantOnlyRoots() {
	m.t.Helper()
	for _, r := range m.asked("") {
		if !r.isRoot() {
			m.t.Errorf("the mirror was asked for a file that is stored: %s", r)
		}
	}
}
