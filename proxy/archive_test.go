// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"apt-dht/index/trust"
)

const listPath = "main/binary-amd64/Packages"

var (
	july   = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	august = time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)

	// modified is what the test mirrors say of their files.
	modified = time.Date(2024, 2, 10, 12, 34, 56, 0, time.UTC)
	dated    = modified.Format(http.TimeFormat)
)

// archiveKey signs the tests' repositories; it is older than any clock.
var archiveKey = sync.OnceValue(func() *openpgp.Entity {
	cfg := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return time.Unix(900_000_000, 0) }}
	e, err := openpgp.NewEntity("Test Archive", "", "archive@example.org", cfg)
	if err != nil {
		panic(err)
	}
	return e
})

// loadTrust is an apt configuration with these sources and the archive's key.
func loadTrust(t testing.TB, sources []string) *trust.Trust {
	t.Helper()
	etc := t.TempDir()
	var keyring bytes.Buffer
	check(t, archiveKey().Serialize(&keyring))
	check(t, os.WriteFile(filepath.Join(etc, "trusted.gpg"), keyring.Bytes(), 0o644))
	check(t, os.WriteFile(filepath.Join(etc, "sources.list"), []byte(strings.Join(sources, "\n")+"\n"), 0o644))
	apt, err := trust.Load(trust.Config{EtcDir: etc, KeyringDirs: []string{}})
	check(t, err)
	return apt
}

// repo is one state of a repository with one suite.
type repo struct {
	date   time.Time
	fields string            // more of Release, lines
	pool   map[string]string // content by path, "pool/…"
}

// packages is the only index of the suite.
func (r *repo) packages() string {
	var b strings.Builder
	for i, path := range slices.Sorted(maps.Keys(r.pool)) {
		data := r.pool[path]
		fmt.Fprintf(&b, "Package: p%d\nFilename: %s\nSize: %d\nSHA256: %x\n\n", i, path, len(data), sha256.Sum256([]byte(data)))
	}
	return b.String()
}

// release is the text that is signed.
func (r *repo) release() string {
	list := r.packages()
	return fmt.Sprintf("Origin: Test\nSuite: stable\nCodename: test\nDate: %s\n%sAcquire-By-Hash: yes\nSHA256:\n %x %d %s\n",
		r.date.Format(time.RFC1123), r.fields, sha256.Sum256([]byte(list)), len(list), listPath)
}

func (r *repo) inRelease(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, archiveKey().PrivateKey, nil)
	check(t, err)
	_, err = w.Write([]byte(r.release()))
	check(t, err)
	check(t, w.Close())
	return b.String() + "\n"
}

// files are all of the repository's by path.
func (r *repo) files(t testing.TB) map[string]string {
	files := map[string]string{"dists/stable/InRelease": r.inRelease(t), "dists/stable/" + listPath: r.packages()}
	maps.Copy(files, r.pool)
	return files
}

// learn makes the node's index know the repository at a mirror.
func (n *node) learn(at *archive, r *repo) {
	n.t.Helper()
	dists := at.host() + "/debian/dists/stable/"
	_, err := n.index.AddRoot(dists+"InRelease", []byte(r.inRelease(n.t)))
	check(n.t, err)
	list := r.packages()
	check(n.t, n.index.AddFile(dists+listPath, sha256.Sum256([]byte(list)), strings.NewReader(list)))
}

// archive is a mirror whose answers the test sets.
type archive struct {
	*server
	mu      sync.Mutex // guards following
	handler http.HandlerFunc
	asked   []*http.Request
}

func newArchive(t testing.TB, handler http.HandlerFunc) *archive {
	a := &archive{handler: handler}
	a.server = startHTTP(t, httptest.NewServer(a))
	return a
}

// newTLSArchive is one that speaks https.
func newTLSArchive(t testing.TB, handler http.HandlerFunc) *archive {
	a := &archive{handler: handler}
	a.server = startHTTP(t, httptest.NewTLSServer(a))
	return a
}

func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked = append(a.asked, r)
	handler := a.handler
	a.mu.Unlock()
	handler(w, r)
}

// answer sets what the mirror does from now on.
func (a *archive) answer(handler http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handler = handler
}

// requests returns what was asked so far.
func (a *archive) requests() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[:len(a.asked):len(a.asked)]
}

// last is the request that came last.
func (a *archive) last() *http.Request {
	asked := a.requests()
	return asked[len(asked)-1]
}

// wantRequests checks how often the mirror was asked.
func (a *archive) wantRequests(t testing.TB, n int) {
	t.Helper()
	if asked := a.requests(); len(asked) != n {
		t.Errorf("the mirror was asked %d times, want %d", len(asked), n)
	}
}

// tlsOf trusts a test server's certificate.
func tlsOf(s *server) *tls.Config {
	return s.Client().Transport.(*http.Transport).TLSClientConfig
}

// server is an HTTP server on loopback.
type server struct{ *httptest.Server }

// startHTTP serves until the test ends.
func startHTTP(t testing.TB, s *httptest.Server) *server {
	t.Cleanup(s.Close)
	return &server{s}
}

// host is the server's host:port.
func (s *server) host() string { return s.Listener.Addr().String() }

// url is that of a file in the mirror's repository.
func (s *server) url(path string) string { return s.URL + "/debian/" + path }

// source is the line of sources.list for the mirror's repository.
func (s *server) source() string { return "deb " + s.URL + "/debian stable main" }

// serving answers every path with the same file, as a mirror does.
func serving(data string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", modified, strings.NewReader(data))
	}
}

// mirroring serves a repository below /debian/.
func mirroring(t testing.TB, r *repo) http.HandlerFunc {
	files := r.files(t)
	return func(w http.ResponseWriter, req *http.Request) {
		data, ok := files[strings.TrimPrefix(req.URL.Path, "/debian/")]
		if !ok {
			http.Error(w, "no such file here", http.StatusNotFound)
			return
		}
		http.ServeContent(w, req, "", modified, strings.NewReader(data))
	}
}

// answering answers with a status and fields, "Name: value", and a body.
func answering(code int, body string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header()[name] = append(w.Header()[name], value)
		}
		w.WriteHeader(code)
		w.Write([]byte(body))
	}
}

// gate holds back the last half of its answers until it is opened.
type gate struct {
	t      testing.TB
	data   string
	opened chan struct{}
	open   func()
}

func newGate(t testing.TB, data string) *gate {
	g := &gate{t: t, data: data, opened: make(chan struct{})}
	g.open = sync.OnceFunc(func() { close(g.opened) })
	return g
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(g.data) > 0 {
		w.Header().Set("Last-Modified", dated)
		w.Header().Set("Content-Length", strconv.Itoa(len(g.data)))
	}
	w.Write([]byte(g.data[:len(g.data)/2]))
	http.NewResponseController(w).Flush()
	select {
	case <-g.opened:
		w.Write([]byte(g.data[len(g.data)/2:]))
	case <-r.Context().Done():
	case <-g.t.Context().Done():
	}
}

// random is n bytes that no compression or coincidence makes equal to others.
func random(seed byte, n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return string(b)
}

func digestOf(data string) [32]byte { return sha256.Sum256([]byte(data)) }

// serverAt names a listener that serves otherwise.
func serverAt(l net.Listener) *server {
	return &server{&httptest.Server{URL: "http://" + l.Addr().String(), Listener: l}}
}
