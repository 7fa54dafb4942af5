// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"apt-dht/proxy/fetch"
	"apt-dht/proxy/fetch/mirror"
	"apt-dht/store"
)

// pipelineMirror reads requests as they come, as a real mirror's kernel does,
// and answers those of each connection in order, once it is let.
type pipelineMirror struct {
	net.Listener
	t    testing.TB
	data func(path string) string
	wg   sync.WaitGroup

	mu   sync.Mutex // guards following
	seen []string   // request targets
	held chan struct{}
}

func newPipelineMirror(t testing.TB, data func(path string) string) *pipelineMirror {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	m := &pipelineMirror{Listener: l, t: t, data: data, held: make(chan struct{})}
	close(m.held)
	m.wg.Go(m.accept)
	t.Cleanup(func() {
		l.Close()
		m.wg.Wait()
	})
	return m
}

func (m *pipelineMirror) accept() {
	for {
		c, err := m.Accept()
		if err != nil {
			return
		}
		m.wg.Go(func() { m.serve(c) })
	}
}

// serve ends when the other side, or the test, does.
func (m *pipelineMirror) serve(c net.Conn) {
	targets := make(chan string, 1000)
	m.wg.Go(func() {
		defer c.Close()
		for target := range targets {
			select {
			case <-m.gate():
			case <-m.t.Context().Done():
				return
			}
			data := m.data(target)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nLast-Modified: %s\r\n\r\n%s", len(data), dated, data)
		}
	})
	defer close(targets)
	for br := bufio.NewReader(c); ; {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.seen = append(m.seen, r.RequestURI)
		m.mu.Unlock()
		targets <- r.RequestURI
	}
}

func (m *pipelineMirror) gate() chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held
}

// hold keeps answers back until the function that it returns is called.
func (m *pipelineMirror) hold() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := make(chan struct{})
	m.held = held
	return func() { close(held) }
}

func (m *pipelineMirror) targets() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seen)
}

func (m *pipelineMirror) await(n int) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("%d requests are under way at the mirror", n), func() bool { return len(m.targets()) >= n })
}

func (m *pipelineMirror) host() string { return m.Addr().String() }

// poolOf is count small files, and what tells the content of each.
func poolOf(count int) (pool map[string]string, data func(path string) string) {
	pool = map[string]string{"pool/warm.deb": random(255, 100)}
	for i := range count {
		pool[fmt.Sprintf("pool/%d.deb", i)] = strconv.Itoa(i) + random(byte(i), 300+i)
	}
	return pool, func(path string) string { return pool[strings.TrimPrefix(path, "/debian/")] }
}

// Apt sends the first request alone, then as many as its pipeline takes. All
// are to be under way before the first is answered, and answered in order.
func TestLookAhead(t *testing.T) {
	for _, c := range []struct {
		name  string
		count int
		form  string
		known bool
	}{
		{"apt's ten", 10, "http://", true},
		{"our two hundred", 200, "http://", true},
		{"by prefix", 10, "/", true},
		{"unknown files", 10, "http://", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pool, data := poolOf(c.count)
			m := newPipelineMirror(t, data)
			n := newNode(t, setup{})
			if c.known {
				n.learn(&archive{server: serverAt(m.Listener)}, &repo{date: july, pool: pool})
			}
			target := func(i int) string { return fmt.Sprintf("%s%s/debian/pool/%d.deb", c.form, m.host(), i) }
			// Only a mirror that is known to keep its connections open is pipelined to.
			n.get(c.form+m.host()+"/debian/pool/warm.deb").want(t, 200, pool["pool/warm.deb"])

			release := m.hold()
			conn := n.dial()
			conn.send(aptRequest(target(0)))
			m.await(2)
			var rest strings.Builder
			for i := 1; i < c.count; i++ {
				rest.WriteString(aptRequest(target(i)))
			}
			conn.send(rest.String())
			m.await(c.count + 1)
			release()
			for i := range c.count {
				conn.answer("GET").want(t, 200, pool[fmt.Sprintf("pool/%d.deb", i)])
			}
			if seen := m.targets(); len(seen) != c.count+1 {
				t.Errorf("%d requests for %d files", len(seen)-1, c.count)
			}
			eventually(t, "nothing is held any more", func() bool { return len(n.fetch.Transfers()) == 0 })
		})
	}
}

// A file that comes slowly does not keep the others from being fetched.
func TestSlowFirstDoesNotDelayTheRest(t *testing.T) {
	slow := newGate(t, random(1, 1000))
	first := newArchive(t, slow.ServeHTTP)
	pool, data := poolOf(9)
	m := newPipelineMirror(t, data)
	n := newNode(t, setup{})
	n.learn(&archive{server: serverAt(m.Listener)}, &repo{date: july, pool: pool})
	conn := n.dial()
	raw := aptRequest("/" + first.host() + "/slow.deb")
	for i := range 9 {
		raw += aptRequest(fmt.Sprintf("/%s/debian/pool/%d.deb", m.host(), i))
	}
	conn.send(raw)
	eventually(t, "the rest is stored", func() bool {
		for i := range 9 {
			if _, ok := n.store.Stat(digestOf(pool[fmt.Sprintf("pool/%d.deb", i)])); !ok {
				return false
			}
		}
		return true
	})
	slow.open()
	conn.answer("GET").want(t, 200, slow.data)
	for i := range 9 {
		conn.answer("GET").want(t, 200, pool[fmt.Sprintf("pool/%d.deb", i)])
	}
}

// What was fetched ahead has just come: its own request need not ask again.
func TestFetchedAheadIsNotAskedForAgain(t *testing.T) {
	slow := newGate(t, random(1, 1000))
	first, a := newArchive(t, slow.ServeHTTP), newArchive(t, serving("data"))
	n := newNode(t, setup{})
	conn := n.dial()
	raw := aptRequest("/" + first.host() + "/slow")
	for i := range 9 {
		raw += aptRequest("/" + a.host() + fmt.Sprint("/", i))
	}
	conn.send(raw)
	eventually(t, "the rest has come", func() bool { return len(a.requests()) == 9 && len(n.fetch.Transfers()) == 1 })
	slow.open()
	conn.answer("GET").want(t, 200, slow.data)
	for range 9 {
		conn.answer("GET").want(t, 200, "data")
	}
	a.wantRequests(t, 9)
}

// While a large file is being answered, the look-ahead goes on behind it.
func TestLookAheadBehindALargeFile(t *testing.T) {
	pool := map[string]string{"pool/a.deb": "small", "pool/b.deb": strings.Repeat("large", maxAheadBytes/4), "pool/c.deb": "next"}
	gates := map[string]*gate{}
	for path, data := range pool {
		gates["/debian/"+path] = newGate(t, data)
	}
	a := newArchive(t, func(w http.ResponseWriter, r *http.Request) { gates[r.URL.Path].ServeHTTP(w, r) })
	n := newNode(t, setup{})
	n.learn(a, &repo{date: july, pool: pool})
	conn := n.dial()
	conn.send(aptRequest(a.url("pool/a.deb")) + aptRequest(a.url("pool/b.deb")) + aptRequest(a.url("pool/c.deb")))
	eventually(t, "the large one is under way", func() bool { return len(a.requests()) == 2 })
	gates["/debian/pool/a.deb"].open()
	conn.answer("GET").want(t, 200, "small")
	_, err := conn.r.Peek(1)
	check(t, err)
	eventually(t, "the next is under way, too", func() bool { return a.last().URL.Path == "/debian/pool/c.deb" })
	check(t, conn.SetLinger(0))
	conn.Close()
}

// What is answered by asking the mirror itself, or by nobody, is not fetched ahead.
func TestWhatIsFetchedAhead(t *testing.T) {
	a := newArchive(t, serving("x"))
	n := newNode(t, setup{allows: func(ip netip.Addr) bool { return ip.IsLoopback() }})
	local, stranger := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1")
	check(t, n.store.PutURL(a.url("seen"), store.URLRecord{Digest: keep(t, n.store, "seen before")}))
	for _, c := range []struct {
		what   string
		client netip.Addr
		raw    string
		want   bool
	}{
		{"a file", local, aptRequest(a.url("x.deb")), true},
		{"a resumed one", local, aptRequest(a.url("x.deb"), "Range: bytes=9-", "If-Range: "+dated), true},
		{"by prefix", local, aptRequest("/" + a.host() + "/x.deb"), true},
		{"of a client not allowed", stranger, aptRequest(a.url("x.deb")), false},
		{"of nobody", netip.Addr{}, aptRequest(a.url("x.deb")), false},
		{"conditional", local, aptRequest(a.url("x.deb"), "If-Modified-Since: "+dated), false},
		{"conditional by tag", local, aptRequest(a.url("x.deb"), `If-None-Match: "x"`), false},
		{"with a password", local, aptRequest(a.url("x.deb"), "Authorization: Basic eDp5"), false},
		{"with a cookie", local, aptRequest(a.url("x.deb"), "Cookie: a=b"), false},
		{"a root file", local, aptRequest(a.url("dists/stable/InRelease")), false},
		{"one to be revalidated", local, aptRequest(a.url("seen")), false},
		{"our page", local, aptRequest("/"), false},
		{"our status", local, aptRequest("/~/v1/status"), false},
		{"our metrics", local, aptRequest("/metrics"), false},
		{"an address that climbs", local, aptRequest("/" + a.host() + "/../x"), false},
		{"what came round", local, aptRequest(a.url("x.deb"), "Via: "+n.via), false},
		{"a user's information", local, aptRequest("/user@" + a.host() + "/x"), false},
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(c.raw)))
		check(t, err)
		if _, got := n.wantAhead(r, c.client); got != c.want {
			t.Errorf("%s is fetched ahead: %v", c.what, got)
		}
	}
}

// keep puts data into the store.
func keep(t testing.TB, st *store.Store, data string) store.Digest {
	t.Helper()
	g, err := st.Create(digestOf(data), int64(len(data)))
	check(t, err)
	_, err = io.WriteString(g, data)
	check(t, err)
	d, err := g.Commit(store.Meta{Modified: modified})
	check(t, err)
	return d
}

// The look-ahead of a connection ends with it, and its transfers after their
// linger; bytes that came are kept for the next time.
func TestClosedConnectionEndsItsTransfers(t *testing.T) {
	t.Parallel()
	data := random(1, 200_000)
	g := newGate(t, data)
	a := newArchive(t, g.ServeHTTP)
	n := newNode(t, setup{mirror: mirror.Config{MaxConns: 4}})
	n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": data}})
	conn := n.dial()
	conn.send(aptRequest(a.url("pool/x.deb")))
	eventually(t, "half of it has come", func() bool {
		return slices.ContainsFunc(n.fetch.Transfers(), func(tr fetch.Transfer) bool { return tr.Size == 200_000 && tr.Have == 100_000 })
	})
	conn.send(aptRequest(a.url("unknown/1")) + aptRequest(a.url("unknown/2"))) // behind it, also on busy cores
	n.transfers(3)
	check(t, conn.SetLinger(0)) // as when apt is killed
	conn.Close()
	n.transfers(0)

	a.answer(serving(data))
	n.get(a.url("pool/x.deb")).want(t, 200, data)
	if got := a.last().Header.Get("Range"); got != "bytes=100000-" {
		t.Errorf("the transfer was taken up again with Range %q", got)
	}
}

// One client going away does not end what another waits for.
func TestSharedTransferOutlivesItsFirstReader(t *testing.T) {
	g := newGate(t, random(1, 100_000))
	a := newArchive(t, g.ServeHTTP)
	n := newNode(t, setup{})
	n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": g.data}})
	first, second := n.dial(), n.dial()
	first.send(aptRequest(a.url("pool/x.deb")))
	n.transfers(1)
	second.send(aptRequest(a.url("pool/x.deb")))
	eventually(t, "two readers", func() bool { return n.fetch.Transfers()[0].Readers == 2 })
	first.Close()
	eventually(t, "one reader", func() bool { return n.fetch.Transfers()[0].Readers == 1 })
	g.open()
	second.answer("GET").want(t, 200, g.data)
	a.wantRequests(t, 1)
}

// A refusal in the midst of a pipeline comes in its turn, whole.
func TestRefusalInAPipeline(t *testing.T) {
	a := newArchive(t, serving("good"))
	n := newNode(t, setup{})
	conn := n.dial()
	raw := aptRequest(a.url("1")) + aptRequest("/"+a.host()+"/../2")
	for i := range 100 {
		raw += aptRequest(a.url(fmt.Sprint("more/", i)))
	}
	conn.send(raw)
	conn.answer("GET").want(t, 200, "good")
	conn.answer("GET").wantRefusal(t, http.StatusBadRequest, "climbs")
}

// More heads than a connection may have waiting are answered all the same.
func TestMoreThanThePipelineHolds(t *testing.T) {
	data := random(1, 100)
	a := newArchive(t, serving(data))
	n := newNode(t, setup{})
	n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": data}})
	conn := n.dial()
	const count = 2 * maxQueued
	go conn.Write([]byte(strings.Repeat(aptRequest(a.url("pool/x.deb")), count)))
	for range count {
		conn.answer("GET").want(t, 200, data)
	}
}
