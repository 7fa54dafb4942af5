// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"apt-dht/proxy/fetch/mirror"
	"apt-dht/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a fetcher with its store and a mirror client.
type bench struct {
	*Fetcher
	store *store.Store
}

func newBench(t testing.TB, cfg store.Config) *bench {
	t.Helper()
	cfg.Dir = t.TempDir()
	cfg.FreeFloor = 1
	cfg.Log = slog.New(slog.DiscardHandler)
	st, err := store.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	client := mirror.New(mirror.Config{})
	f := New(Config{Store: st, Upstream: client, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		f.Close()
		client.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{f, st}
}

// mirrorServer is a mirror that notes what it was asked.
type mirrorServer struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []string
	ranges []string
}

func newMirror(t *testing.T, handler http.HandlerFunc) *mirrorServer {
	t.Helper()
	m := &mirrorServer{}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.asked = append(m.asked, r.RequestURI)
		m.ranges = append(m.ranges, r.Header.Get("Range"))
		m.mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(m.Server.Close)
	return m
}

func (m *mirrorServer) requests() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.asked)
}

var modified = time.Date(2024, 2, 10, 12, 0, 0, 0, time.UTC)

// serving answers with data as a mirror does.
func serving(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", modified, bytes.NewReader(data))
	}
}

// cutAfter answers with a body that breaks after n bytes, the first times times.
func cutAfter(data []byte, n, times int) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		times--
		cut := times >= 0
		mu.Unlock()
		if !cut {
			serving(data)(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Header().Set("Last-Modified", modified.Format(http.TimeFormat))
		w.Write(data[:n])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	r.Read(b)
	return b
}

func wantFor(url string, data []byte) Want {
	return Want{URL: url, Digest: sha256.Sum256(data), Size: int64(len(data))}
}

func (b *bench) read(t *testing.T, want Want) ([]byte, *Content, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := b.Open(ctx, want)
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	return got, c, err
}

func (b *bench) mustRead(t *testing.T, want Want, data []byte) *Content {
	t.Helper()
	got, c, err := b.read(t, want)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("read %d bytes of %d, %v", len(got), len(data), err)
	}
	return c
}

// await waits until the transfers have ended.
func (b *bench) await(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(b.Transfers()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still going on: %+v", b.Transfers())
		}
	}
}

func TestFetchedOnceThenStored(t *testing.T) {
	for _, size := range []int{0, 1, 100, 16 << 10, 16<<10 + 1, 3 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			data := randomBytes(1, size)
			m := newMirror(t, serving(data))
			b := newBench(t, store.Config{})
			want := wantFor(m.URL+"/a%2bb.deb", data)
			c := b.mustRead(t, want, data)
			if c.Source != FromMirror || !c.Modified.Equal(modified) || c.Size != int64(size) {
				t.Errorf("source %s, modified %v, size %d", c.Source, c.Modified, c.Size)
			}
			b.await(t)
			c = b.mustRead(t, want, data)
			if c.Source != FromStore || !c.Modified.Equal(modified) {
				t.Errorf("then: source %s, modified %v", c.Source, c.Modified)
			}
			if !slices.Equal(m.asked, []string{"/a%2bb.deb"}) {
				t.Errorf("the mirror was asked for %q", m.asked)
			}
		})
	}
}

func TestManyReadersOneRequest(t *testing.T) {
	data := randomBytes(2, 2<<20)
	release := make(chan struct{})
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		serving(data)(w, r)
	})
	b := newBench(t, store.Config{})
	want := wantFor(m.URL+"/f", data)
	holds := make([]*Hold, 20)
	for i := range holds {
		holds[i] = b.Prefetch(want)
	}
	var wg sync.WaitGroup
	for range holds {
		wg.Go(func() { b.mustRead(t, want, data) })
	}
	close(release)
	wg.Wait()
	for _, hold := range holds {
		hold.Release()
	}
	if n := m.requests(); n != 1 {
		t.Errorf("%d requests", n)
	}
	if n := b.BytesFromMirror(); n != int64(len(data)) {
		t.Errorf("%d bytes from the mirror, want %d", n, len(data))
	}
}

func TestResumesABrokenBody(t *testing.T) {
	data := randomBytes(3, 1<<20)
	noRanges := func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		serving(data)(w, r)
	}
	breaking := cutAfter(data, 300_000, 2)
	for name, handler := range map[string]http.HandlerFunc{
		"by range": breaking,
		"by skipping": func() http.HandlerFunc {
			first := cutAfter(data, 300_000, 1)
			var asked atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) == 1 {
					first(w, r)
				}
				noRanges(w, r)
			}
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t, handler)
			b := newBench(t, store.Config{})
			b.mustRead(t, wantFor(m.URL+"/f", data), data)
		})
	}
}

func TestWrongBytesEndShort(t *testing.T) {
	data := randomBytes(4, 1<<20)
	bad := slices.Clone(data)
	bad[5] ^= 1
	wrong, right := newMirror(t, serving(bad)), newMirror(t, serving(data))
	b := newBench(t, store.Config{})
	want := wantFor(wrong.URL+"/f", data)
	want.Mirrors = []string{right.URL + "/f"}
	got, _, err := b.read(t, want)
	// Where the end came before the reader, the other mirror has been asked.
	if complete := err == nil || len(got) >= len(data); complete && !bytes.Equal(got, data) {
		t.Fatalf("wrong bytes looked complete: %d bytes, %v", len(got), err)
	}
	b.await(t)
	if _, ok := b.store.Stat(want.Digest); ok && right.requests() == 0 {
		t.Error("wrong bytes were stored")
	}
	if !b.WholeOnly(want.Digest) {
		t.Error("ranges would be answered after wrong bytes went out")
	}
	b.mustRead(t, want, data)
	if right.requests() == 0 {
		t.Error("the other mirror was not tried")
	}
}

// The index may be behind: then the mirror's word stands.
func TestMirrorHasAnotherFile(t *testing.T) {
	data, other := randomBytes(5, 1000), randomBytes(6, 2000)
	m := newMirror(t, serving(other))
	b := newBench(t, store.Config{})
	b.mustRead(t, wantFor(m.URL+"/f", data), other)
	if blobs, _, _ := b.store.Usage(); blobs != 0 {
		t.Error("it was stored")
	}
}

func TestMirrorsStandInForEachOther(t *testing.T) {
	data := randomBytes(7, 500_000)
	down := newMirror(t, func(w http.ResponseWriter, r *http.Request) { http.Error(w, "busy", http.StatusServiceUnavailable) })
	gone := newMirror(t, http.NotFound)
	dying := newMirror(t, cutAfter(data, 200_000, 1000))
	up := newMirror(t, serving(data))
	for name, first := range map[string]*mirrorServer{"503": down, "404": gone, "breaking": dying} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, store.Config{})
			want := wantFor(first.URL+"/f", data)
			want.Mirrors = []string{up.URL + "/f"}
			b.mustRead(t, want, data)
		})
	}
}

func TestMirrorsErrorIsPassedOn(t *testing.T) {
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "not here", 404)
	})
	b := newBench(t, store.Config{})
	_, _, err := b.read(t, wantFor(m.URL+"/f", []byte("x")))
	var status *StatusError
	if !errors.As(err, &status) || status.Code != 404 || string(status.Body) != "not here\n" || status.Header.Get("Retry-After") != "7" {
		t.Fatalf("%#v", err)
	}
}

// The first asker's hanging up must not end the others' download; the last one's does, after a
// while, and what has come is kept.
func TestTransferEndsWithItsLastReader(t *testing.T) {
	data := randomBytes(8, 1<<20)
	sent := make(chan struct{}, 10)
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			serving(data)(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data[:500_000])
		http.NewResponseController(w).Flush()
		sent <- struct{}{}
		<-r.Context().Done()
	})
	b := newBench(t, store.Config{})
	want := wantFor(m.URL+"/f", data)
	first, second := b.Prefetch(want), b.Prefetch(want)
	<-sent
	first.Release()
	if len(b.Transfers()) != 1 {
		t.Fatal("the transfer ended with its first reader")
	}
	second.Release()
	b.await(t)
	b.mustRead(t, want, data)
	if last := m.ranges[len(m.ranges)-1]; !strings.HasPrefix(last, "bytes=") || last == "bytes=0-" {
		t.Errorf("it was not resumed: Range %q", last)
	}
}

// apt has the beginning of a file that we have nothing of.
func TestOnlyTheEndIsWanted(t *testing.T) {
	data := randomBytes(9, 6<<20)
	m := newMirror(t, serving(data))
	b := newBench(t, store.Config{})
	want := wantFor(m.URL+"/f", data)
	want.Start = 5 << 20
	ctx := t.Context()
	c, err := b.Open(ctx, want)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Size != int64(len(data)) {
		t.Errorf("size %d", c.Size)
	}
	c.Seek(want.Start, io.SeekStart)
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, data[want.Start:]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if n := b.BytesFromMirror(); n != 1<<20 {
		t.Errorf("%d bytes crossed the uplink", n)
	}
}

func TestFullStorePassesThrough(t *testing.T) {
	data := randomBytes(10, 3<<20)
	m := newMirror(t, serving(data))
	b := newBench(t, store.Config{Quota: 1 << 20})
	b.mustRead(t, wantFor(m.URL+"/f", data), data)
	b.mustRead(t, Want{URL: m.URL + "/unknown", Size: -1}, data)
}

func TestRedirects(t *testing.T) {
	data := randomBytes(11, 1000)
	var seen http.Header
	to := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		serving(data)(w, r)
	})
	from := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.RequestURI {
		case "/far%2b":
			http.Redirect(w, r, to.URL+"/x%7e", http.StatusFound)
		case "/near":
			http.Redirect(w, r, "far%2b", http.StatusTemporaryRedirect)
		default:
			http.Redirect(w, r, r.RequestURI+"1", http.StatusMovedPermanently)
		}
	})
	b := newBench(t, store.Config{})
	for _, path := range []string{"/far%2b", "/near"} {
		want := wantFor(from.URL+path, data)
		want.NoStore = true
		want.Header = http.Header{"Authorization": {"Basic secret"}}
		b.mustRead(t, want, data)
		if seen.Get("Authorization") != "" {
			t.Error("credentials went to another host")
		}
	}
	if to.asked[0] != "/x%7e" {
		t.Errorf("asked for %q", to.asked[0])
	}
	if _, _, err := b.read(t, wantFor(from.URL+"/loop", data)); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("a loop of redirects: %v", err)
	}
}

// What was wanted first must be on its way first.
func TestAskedInOrder(t *testing.T) {
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) { serving([]byte(r.RequestURI))(w, r) })
	b := newBench(t, store.Config{})
	warm := []byte("/warm") // a connection that is known to pipeline
	b.mustRead(t, wantFor(m.URL+"/warm", warm), warm)
	var wanted []string
	for i := range 60 {
		path := fmt.Sprintf("/%03d", i)
		wanted = append(wanted, path)
		defer b.Prefetch(wantFor(m.URL+path, []byte(path))).Release()
	}
	b.await(t)
	// Two connections take turns; neither may be far ahead of the other.
	for i, path := range m.asked[1:] {
		if at := slices.Index(wanted, path); at < i-30 || at > i+30 {
			t.Fatalf("number %d on the wire was wanted as number %d: %q", i, at, m.asked)
		}
	}
}

func TestUnknownFiles(t *testing.T) {
	data := randomBytes(12, 100_000)
	cacheControl := ""
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		if cacheControl != "" {
			w.Header().Set("Cache-Control", cacheControl)
		}
		serving(data)(w, r)
	})
	for _, tc := range []struct {
		cacheControl string
		stored       bool
	}{{"", true}, {"max-age=60", true}, {"no-store", false}, {"private, max-age=60", false}} {
		t.Run(tc.cacheControl, func(t *testing.T) {
			cacheControl = tc.cacheControl
			b := newBench(t, store.Config{})
			b.mustRead(t, Want{URL: m.URL + "/key.asc", Size: -1}, data)
			b.await(t)
			if _, ok := b.store.Stat(sha256.Sum256(data)); ok != tc.stored {
				t.Errorf("stored: %v", ok)
			}
		})
	}
}

func TestUnknownSizeIsStreamed(t *testing.T) {
	data := randomBytes(13, 200_000)
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(data[:100_000])
		http.NewResponseController(w).Flush()
		w.Write(data[100_000:])
	})
	b := newBench(t, store.Config{})
	c := b.mustRead(t, Want{URL: m.URL + "/f", Size: -1}, data)
	if c.Size != -1 {
		t.Errorf("size %d", c.Size)
	}
}

func TestCloseEndsTransfers(t *testing.T) {
	started := make(chan struct{})
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	})
	b := newBench(t, store.Config{})
	want := wantFor(m.URL+"/f", []byte("x"))
	b.Prefetch(want)
	<-started
	b.Close()
	if _, _, err := b.read(t, want); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestLadder(t *testing.T) {
	broke, final := io.ErrUnexpectedEOF, &StatusError{Code: 404}
	for _, tc := range []struct {
		name    string
		sources int
		fresh   bool
		steps   []step
	}{
		{"before the first byte each is asked once", 2, true, []step{{broke, false, 1, true}, {broke, false, 0, false}}},
		{"one source is tried three times", 1, false, []step{{broke, false, 0, true}, {broke, false, 0, true}, {broke, false, 0, false}}},
		{"progress begins anew", 1, false, []step{{broke, false, 0, true}, {broke, false, 0, true}, {broke, true, 0, true}, {broke, false, 0, true}}},
		{"a final answer is not asked again", 1, false, []step{{final, false, 0, false}}},
		{"the next source comes first", 2, false, []step{{broke, false, 1, true}, {broke, false, 0, true}}},
		{"a final answer leaves the others", 3, false, []step{{final, false, 1, true}, {final, false, 2, true}, {final, false, 2, false}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLadder(tc.sources)
			for i, s := range tc.steps {
				_, ok := l.next(s.err, !tc.fresh, s.progress)
				if ok != s.ok || ok && l.at != s.at {
					t.Fatalf("step %d: at %d, %v", i, l.at, ok)
				}
			}
		})
	}
}

type step struct {
	err      error
	progress bool
	at       int
	ok       bool
}

func TestParseContentRange(t *testing.T) {
	for s, want := range map[string]string{
		"bytes 5-9/10":   "5 10 true",
		"bytes 5-10/10":  "5 10 false",
		"bytes 9-5/10":   "0 0 false",
		"bytes 5-/10":    "0 0 false",
		"bytes 5-9/*":    "5 -1 true",
		"bytes 5-9/5":    "5 5 false",
		"bytes */10":     "0 0 false",
		"bytes -5-9/10":  "0 0 false",
		"items 5-9/10":   "0 0 false",
		"bytes 5-9/1e99": "5 0 false",
		"":               "0 0 false",
	} {
		start, size, ok := ParseContentRange(s)
		if got := fmt.Sprint(start, size, ok); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

// Where there is another mirror, one that has gone silent is not waited for.
func TestSilentMirrorIsLeftSoon(t *testing.T) {
	data := randomBytes(14, 300_000)
	up := newMirror(t, serving(data))
	for name, silent := range map[string]http.HandlerFunc{
		"before the first byte": func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"in the body": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			w.Write(data[:100_000])
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, store.Config{})
			want := wantFor(newMirror(t, silent).URL+"/f", data)
			want.Mirrors = []string{up.URL + "/f"}
			began := time.Now()
			b.mustRead(t, want, data)
			if took := time.Since(began); took > 3*nextMirror {
				t.Errorf("it took %v", took)
			}
		})
	}
}
