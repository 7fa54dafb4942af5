// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// auto-apt-proxy 14 greps apt's error text, which is the status line, for
// 406.*usage.information.
func TestUsageInformation(t *testing.T) {
	n := newNode(t, setup{})
	for _, raw := range []string{
		aptRequest("/"), aptRequest("/", "Accept: */*"), aptRequest("/", "Accept: text/*"), aptRequest("/?x=y"),
		"GET / HTTP/1.0\r\n\r\n",
	} {
		c := n.dial()
		c.send(raw)
		line, err := c.r.ReadString('\n')
		check(t, err)
		if line != "HTTP/1.1 406 Usage Information\r\n" {
			t.Errorf("%q is answered %q", raw, line)
		}
	}
	n.get("/").wantRefusal(t, 406, "Usage Information")
}

// In a company's own DHT nothing is said of the internet.
func TestPageOfPrivateDHT(t *testing.T) {
	for mode, want := range map[string]string{ModePrivate: "<h2>Private DHT</h2>", ModePublic: "<h2>Internet</h2>"} {
		var out strings.Builder
		check(t, page.Execute(&out, struct {
			Status
			Host string
		}{Status{DHT: DHTStatus{Mode: mode}}, "proxy"}))
		if text := out.String(); !strings.Contains(text, want) || strings.Contains(text, "nternet") == (mode == ModePrivate) {
			t.Errorf("%s: the page is %s", mode, text)
		}
	}
}

func TestPage(t *testing.T) {
	n := newNode(t, setup{})
	c := n.dial()
	c.send("GET / HTTP/1.1\r\nHost: <script>alert(1)</script>&\"\r\nAccept: text/html,application/xhtml+xml\r\n\r\n")
	got := c.answer("GET")
	if got.StatusCode == 200 && (strings.Contains(got.body, "<script") || strings.Contains(got.body, `&"`)) {
		t.Errorf("the host is not escaped: %s", got.body)
	}
	c = n.dial()
	c.send("GET / HTTP/1.1\r\nHost: a'b&c:9977\r\nAccept: text/html\r\n\r\n")
	got = c.answer("GET")
	if got.StatusCode == 200 && !strings.Contains(got.body, "a&#39;b&amp;c:9977") {
		t.Errorf("the host is not shown, or not escaped: %s", got.body)
	}
	got = n.get("/", "Accept: text/html")
	if got.StatusCode != 200 || !strings.Contains(got.body, n.cfg.NodeID) || !strings.Contains(got.body, "1.2.3") {
		t.Errorf("the page is %s: %s", got.Status, got.body)
	}
	got.wantField(t, "Content-Type", "text/html; charset=utf-8")
	if policy := got.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("Content-Security-Policy: %q", policy)
	}
	n.get("/", "HEAD", "Accept: text/html").want(t, 200, "")
}

// TestStatus holds the document to the names that users rely on.
func TestStatus(t *testing.T) {
	data := random(1, 10_000)
	r := &repo{date: july, pool: map[string]string{"pool/x.deb": data}}
	n, a := newRootNode(t, r)
	read := func() (doc map[string]any) {
		got := n.get("/~/v1/status")
		got.wantField(t, "Content-Type", "application/json")
		check(t, json.Unmarshal([]byte(got.body), &doc))
		return doc
	}
	doc := read()
	for _, path := range []string{
		"node_id", "version", "uptime_s", "store.blobs", "store.bytes", "store.quota",
		"bytes_from.store", "bytes_from.mirror", "bytes_to.apt", "index.origins", "index.files", "transfers",
	} {
		var at any = doc
		for name := range strings.SplitSeq(path, ".") {
			object, _ := at.(map[string]any)
			at = object[name]
		}
		if at == nil {
			t.Errorf("%s is missing", path)
		}
	}
	if got := doc["transfers"]; fmt.Sprint(got) != "[]" {
		t.Errorf("no transfers are %v, not an empty list", got)
	}

	root := n.get(a.url(inRelease))
	n.learn(a, r)
	for range 3 {
		n.get(a.url("pool/x.deb")).want(t, 200, data)
		n.transfers(0)
	}
	mirror, whole := float64(len(root.body)+len(data)), float64(len(root.body)+3*len(data))
	eventually(t, "all bytes are counted", func() bool { return read()["bytes_to"].(map[string]any)["apt"] == whole })
	doc = read()
	if got := doc["bytes_from"].(map[string]any); got["mirror"] != mirror || got["store"] != float64(2*len(data)) {
		t.Errorf("bytes from %v; want %v of the mirror, %v of the store", got, mirror, 2*len(data))
	}
	if got := doc["store"].(map[string]any); got["blobs"] != 2.0 || got["bytes"] != mirror {
		t.Errorf("the store has %v; want 2 files, %v bytes", got, mirror)
	}

	g := newGate(t, random(2, 1000))
	a.answer(g.ServeHTTP)
	c := n.dial()
	c.send(aptRequest(a.url("more")))
	n.transfers(1)
	list := read()["transfers"].([]any)
	if tr := list[0].(map[string]any); len(list) != 1 || tr["url"] != a.url("more") || tr["readers"] != 1.0 {
		t.Errorf("the transfers are %v", list)
	}
	g.open()
	c.answer("GET").want(t, 200, g.data)
}

// What counts is there at zero, so that a rate has a beginning.
func TestMetrics(t *testing.T) {
	n := newNode(t, setup{})
	got := n.get("/metrics")
	if got.StatusCode != 200 || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("answered %s, %s", got.Status, got.Header.Get("Content-Type"))
	}
	problems, err := promlint.New(strings.NewReader(got.body)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v in\n%s", problems, err, got.body)
	}
	lines := strings.Split(got.body, "\n")
	for _, want := range []string{
		`apt_dht_bytes_from_total{source="store"} 0`, `apt_dht_bytes_from_total{source="mirror"} 0`,
		`apt_dht_bytes_to_total{client="apt"} 0`,
		"apt_dht_store_blobs 0", "apt_dht_store_bytes 0", "apt_dht_index_origins 0", "apt_dht_index_files 0", "apt_dht_transfers 0",
		"apt_dht_wan_reachable 0", "apt_dht_wan_offered 0",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("there is no %s in\n%s", want, got.body)
		}
	}
}

// A request that has come back to its sender would go round for ever.
func TestLoops(t *testing.T) {
	a := newArchive(t, serving("data"))
	n := newNode(t, setup{})
	for _, via := range []string{n.via, "1.1 fred, " + n.via + ", 1.0 other"} {
		n.get(a.url("x"), "Via: 1.1 first", "Via: "+via).wantRefusal(t, 508, "apt-dht")
	}
	a.wantRequests(t, 0)
	n.get(a.url("x"), "Via: 1.1 apt-dht-0123456789abcdef (apt-dht/1.2.3)").want(t, 200, "data")

	// The node as a mirror of its own.
	self := n.get("/" + n.addr + "/" + a.host() + "/y")
	if self.StatusCode != 508 || self.cut != nil || self.body == "" {
		t.Errorf("a loop ended in %s, %q", self.Status, self.body)
	}
	a.wantRequests(t, 1)
}

// Whoever has set the proxy and uses it as a prefix as well means the file
// behind the prefix; the node does not ask itself, nor does its look-ahead.
func TestProxyAsItsOwnPrefix(t *testing.T) {
	slow := newGate(t, "slow")
	first, a := newArchive(t, slow.ServeHTTP), newArchive(t, serving("data"))
	n := newNode(t, setup{})
	for _, host := range []string{n.addr, "localhost:" + portOf(n.addr), "[::1]:" + portOf(n.addr)} {
		n.get("http://"+host+"/"+a.host()+"/x").want(t, 200, "data")
	}
	conn := n.dial()
	conn.send(aptRequest("http://"+n.addr+"/"+first.host()+"/slow") + aptRequest("http://"+n.addr+"/"+a.host()+"/y"))
	eventually(t, "the second is fetched ahead", func() bool { return a.last().URL.Path == "/y" || slices.Contains(n.dials(), n.addr) })
	slow.open()
	conn.answer("GET").want(t, 200, "slow")
	conn.answer("GET").want(t, 200, "data")
	if slices.Contains(n.dials(), n.addr) {
		t.Error("the node asked itself")
	}
}

// Only files are passed on, and what is not one is said in words of our own.
func TestWhatIsNotServed(t *testing.T) {
	a := newArchive(t, serving("data"))
	n := newNode(t, setup{})
	for raw, code := range map[string]int{
		aptRequest(a.url("x"), "POST", "Content-Length: 0"):          405,
		aptRequest(a.url("x"), "PUT", "Content-Length: 0"):           405,
		aptRequest(a.url("x"), "DELETE"):                             405,
		aptRequest(a.url("x"), "OPTIONS"):                            405,
		aptRequest("/", "POST", "Content-Length: 0"):                 405,
		aptRequest("/~/v1/status", "DELETE"):                         405,
		aptRequest("/" + a.host() + "/a/../../x"):                    400,
		aptRequest("/" + a.host() + "/%2e%2e/x"):                     400,
		aptRequest("/" + a.host() + "/%0d%0aX-Evil:%201/x"):          400,
		aptRequest("/" + a.host() + "/%00"):                          400,
		aptRequest("/" + a.host() + strings.Repeat("/x", 100)):       400,
		aptRequest("/" + a.host() + "/" + strings.Repeat("x", 5000)): 400,
		aptRequest("/user:secret@" + a.host() + "/x"):                400,
		aptRequest("ftp://h.example/x"):                              400,
		aptRequest("//h.example/x"):                                  400,
		aptRequest("/favicon.ico"):                                   400,
	} {
		c := n.dial()
		c.send(raw)
		c.answer("GET").wantRefusal(t, code, "apt-dht")
	}
	a.wantRequests(t, 0)
}

// HEAD has no body, not even that of a refusal.
func TestRefusalOfHEAD(t *testing.T) {
	n := newNode(t, setup{})
	c := n.dial()
	c.send(aptRequest("/", "HEAD"))
	b, err := io.ReadAll(c.r)
	check(t, err)
	if _, body, _ := bytes.Cut(b, []byte("\r\n\r\n")); !bytes.HasPrefix(b, []byte("HTTP/1.1 406 ")) || len(body) > 0 {
		t.Errorf("HEAD was answered %q", b)
	}
}

// Garbage is answered, or the connection closed; the next one is served.
func TestGarbage(t *testing.T) {
	n := newNode(t, setup{})
	for _, raw := range []string{
		"\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", strings.Repeat("A", 100_000),
		"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n",
		"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", "GET relative HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://h:port/ HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		c := n.dial()
		c.Write([]byte(raw)) // the node may have closed it already
		c.CloseWrite()
		b, _ := io.ReadAll(c.r)
		if len(b) > 0 && !bytes.HasPrefix(b, []byte("HTTP/1.1 4")) && !bytes.HasPrefix(b, []byte("HTTP/1.1 505")) && !strings.HasPrefix(raw, "OPTIONS *") {
			t.Errorf("%.40q was answered %.100q", raw, b)
		}
	}
	if got := n.get("/~/v1/status"); got.StatusCode != http.StatusOK {
		t.Error(got.Status)
	}
}
