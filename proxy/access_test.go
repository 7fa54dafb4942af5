// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"testing"
)

func TestOnlyAllowedClientsAreServed(t *testing.T) {
	a := newArchive(t, serving("data"))
	n := newNode(t, setup{allows: func(ip netip.Addr) bool { return ip == netip.MustParseAddr("127.0.0.1") }})
	for _, target := range []string{a.url("x"), "/" + a.host() + "/x", "/~/v1/status", "/metrics", "/"} {
		n.getFrom("127.0.0.2", target, "Accept: text/html").wantRefusal(t, 403, "127.0.0.2")
		if got := n.getFrom("127.0.0.1", target, "Accept: text/html"); got.StatusCode != 200 {
			t.Errorf("%s for a client that is allowed: %s", target, got.Status)
		}
	}
	c := n.dialFrom("127.0.0.2")
	c.send("CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n\r\n")
	c.answer("GET").wantRefusal(t, 403, "127.0.0.2")
	a.wantRequests(t, 2)
}

func TestClientOf(t *testing.T) {
	for from, want := range map[string]string{
		"192.0.2.1:4000":            "192.0.2.1",
		"[::ffff:192.0.2.1]:4000":   "192.0.2.1",
		"[2001:db8::1]:4000":        "2001:db8::1",
		"[fe80::1%eth0]:4000":       "fe80::1",
		"@":                         "invalid IP",
		"pipe":                      "invalid IP",
		"":                          "invalid IP",
		"[::ffff:127.0.0.1%lo]:4":   "127.0.0.1",
		"192.0.2.1":                 "invalid IP",
		"mirror.example:4000":       "invalid IP",
		"127.0.0.1:99999":           "invalid IP",
		"[::1]:1":                   "::1",
		"[fe80::1%25eth0]:4000":     "fe80::1",
		"[::ffff:169.254.0.1]:4000": "169.254.0.1",
	} {
		if got := clientOf(&http.Request{RemoteAddr: from}).String(); got != want {
			t.Errorf("%q: %s, want %s", from, got, want)
		}
	}
	s := &Server{cfg: Config{Allows: func(netip.Addr) bool { return true }}}
	if s.allows(netip.Addr{}) {
		t.Error("nobody is allowed")
	}
}

// The address decides, whatever name led to it.
func TestOriginPolicy(t *testing.T) {
	e := &Egress{
		Hosts:     []string{"named.example", "10.0.0.9"},
		Nets:      []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24"), netip.MustParsePrefix("fd00:7::/32")},
		InSources: func(host string) bool { return host == "source.example" },
	}
	const no, local, all = 0, 1, 2
	for _, c := range []struct {
		host, ip string
		who      int
	}{
		{"deb.debian.org", "151.101.2.132", all},
		{"deb.debian.org", "2a04:4e42::644", all},
		{"other.example", "::ffff:151.101.2.132", all},

		// Private networks: only what is named.
		{"other.example", "10.0.0.1", no},
		{"other.example", "172.16.3.4", no},
		{"other.example", "192.168.1.1", no},
		{"other.example", "fd00::1", no},
		{"other.example", "100.64.0.1", no},
		{"other.example", "100.127.255.254", no},
		{"other.example", "::ffff:10.0.0.1", no},
		{"other.example", "100.128.0.1", all},
		{"other.example", "172.32.0.1", all},
		{"named.example", "10.0.0.1", all},
		{"10.0.0.9", "10.0.0.9", all},
		{"source.example", "192.168.1.1", all},
		{"source.example", "100.64.0.1", all},
		{"other.example", "192.168.7.1", all},
		{"other.example", "::ffff:192.168.7.1", all},
		{"other.example", "fd00:7::1", all},
		{"other.example", "192.168.8.1", no},

		// This machine: for itself alone, and only what is named.
		{"other.example", "127.0.0.1", no},
		{"other.example", "::1", no},
		{"other.example", "::ffff:127.0.0.1", no},
		{"named.example", "127.0.0.1", local},
		{"source.example", "::1", local},
		{"source.example", "::ffff:127.8.9.1", local},

		// What no mirror has, by whatever name.
		{"named.example", "169.254.169.254", no},
		{"source.example", "169.254.1.1", no},
		{"named.example", "::ffff:169.254.169.254", no},
		{"named.example", "fe80::1", no},
		{"named.example", "0.0.0.0", no},
		{"named.example", "::", no},
		{"named.example", "224.0.0.251", no},
		{"named.example", "ff02::fb", no},
	} {
		for realm, allowed := range map[string]bool{realmLocal: c.who >= local, realmRemote: c.who == all} {
			err := e.check(c.host, netip.MustParseAddr(c.ip), realm)
			if (err == nil) != allowed || err != nil && !errors.As(err, new(*originError)) {
				t.Errorf("%s at %s for %s clients: %v", c.host, c.ip, realm, err)
			}
		}
	}
	if e.check("named.example", netip.Addr{}, realmLocal) == nil {
		t.Error("an address that is none is allowed")
	}
}

// Apt's sources name a host with its port, and IPv6 in brackets.
func TestOriginsInSources(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	for _, c := range []struct {
		source string
		want   bool
	}{
		{"deb http://" + l.Addr().String() + "/debian stable main", true},
		{"deb http://127.0.0.1/debian stable main", false}, // another port, another server
		{"deb http://deb.debian.org/debian stable main", false},
	} {
		e := &Egress{InSources: loadTrust(t, []string{c.source}).HasHost}
		conn, err := e.Dial(t.Context(), realmLocal, "tcp", l.Addr().String())
		if (err == nil) != c.want {
			t.Errorf("with %q: %v", c.source, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	v6 := &Egress{InSources: loadTrust(t, []string{"deb http://[::1]/debian stable main"}).HasHost}
	if _, err := v6.Dial(t.Context(), realmLocal, "tcp", "[::1]:80"); errors.As(err, new(*originError)) {
		t.Error(err)
	}
}

// The judgement is passed on what is dialled: here on what localhost leads to.
func TestDialledAddressIsJudged(t *testing.T) {
	a := newArchive(t, serving("secret"))
	_, port, _ := net.SplitHostPort(a.host())
	remote := newNode(t, setup{remote: "203.0.113.9"})
	for _, target := range []string{
		"http://localhost:" + port + "/x", "http://LocalHost:" + port + "/x", "/127.0.0.1:" + port + "/x",
		"http://localhost:" + port + "/debian/" + inRelease, "/[::ffff:127.0.0.1]:" + port + "/x",
	} {
		remote.get(target).wantRefusal(t, 403, "this machine itself")
	}
	remote.get("http://0.0.0.0:"+port+"/x").wantRefusal(t, 403, "no mirror has")
	remote.get("http://169.254.169.254/latest/meta-data/").wantRefusal(t, 403, "no mirror has")
	c := remote.dial()
	c.send("CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n")
	c.answer("GET").wantRefusal(t, 403, "this machine itself")

	unnamed := newNode(t, setup{egress: &Egress{}})
	unnamed.get("http://localhost:"+port+"/x").wantRefusal(t, 403, "--allow-origin")
	a.wantRequests(t, 0)

	newNode(t, setup{}).get("http://localhost:"+port+"/x").want(t, 200, "secret")
}

// A redirect leads no further than a request.
func TestRedirectsAreJudged(t *testing.T) {
	secret := newArchive(t, serving("secret"))
	a := newArchive(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://localhost:"+portOf(secret.host())+"/x", http.StatusFound)
	})
	n := newNode(t, setup{egress: &Egress{Nets: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}})
	n.get("http://127.0.0.1:"+portOf(a.host())+"/x").want(t, 200, "secret") // 127.0.0.1 is named
	strict := newNode(t, setup{egress: &Egress{Hosts: []string{"127.0.0.1"}}})
	strict.get("http://127.0.0.1:"+portOf(a.host())+"/x").wantRefusal(t, 403, "--allow-origin")
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// Asking for what a client of this machine is just fetching from it is no way
// around the policy.
func TestLoopbackOriginsAreForLoopbackAlone(t *testing.T) {
	stranger := netip.MustParseAddr("203.0.113.9")
	for _, path := range []string{inRelease, "file"} {
		g := newGate(t, (&repo{date: july}).inRelease(t))
		a := newArchive(t, g.ServeHTTP)
		n := newNode(t, setup{})
		local := n.dial()
		local.send(aptRequest(a.url(path)))
		eventually(t, "it is on its way", func() bool {
			return slices.ContainsFunc(a.requests(), func(r *http.Request) bool { return r.URL.Path == "/debian/"+path })
		})
		refused := make(chan int, 1)
		go func() {
			w := &recorder{header: http.Header{}}
			r, _ := parseTarget(a.url(path))
			r.RemoteAddr = netip.AddrPortFrom(stranger, 4000).String()
			n.ServeHTTP(w, r.WithContext(t.Context()))
			refused <- w.code
		}()
		eventually(t, "both are waiting, or one was refused", func() bool {
			running := n.fetch.Transfers()
			return n.rootWaiters() == 2 || len(running) == 1 && running[0].Readers == 2 || len(refused) > 0
		})
		g.open()
		if code := <-refused; code != 403 {
			t.Errorf("a stranger who asked for %s meanwhile was answered %d", path, code)
		}
		local.answer("GET").want(t, 200, g.data)
	}
}

// recorder is a response that nobody reads.
type recorder struct {
	header http.Header
	code   int
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) Write(p []byte) (int, error) { return len(p), nil }
func (w *recorder) WriteHeader(code int)        { w.code = code }

// Behind an upstream proxy an origin that is written as an address is judged all the same.
func TestUpstreamProxy(t *testing.T) {
	up := newArchive(t, func(w http.ResponseWriter, r *http.Request) { serving("by "+r.RequestURI)(w, r) })
	through, err := url.Parse(up.URL)
	check(t, err)
	egress := &Egress{Upstream: func(u *url.URL) (*url.URL, error) {
		if u.Hostname() == "direct.example" || u.Host == up.host() {
			return nil, nil
		}
		return through, nil
	}}
	n := newNode(t, setup{egress: egress, remote: "203.0.113.9"})
	n.get("http://mirror.example/a%2bb").want(t, 200, "by http://mirror.example/a%2bb")
	for _, target := range []string{"http://127.0.0.1/x", "http://10.1.2.3/x", "http://169.254.169.254/x", "http://[::1]/x"} {
		n.get(target).wantRefusal(t, 403, "refused: ")
	}
	before := len(up.requests())
	n.get("http://"+up.host()+"/admin").wantRefusal(t, 403, "this machine itself")
	up.wantRequests(t, before)
}

// This machine is itself by each of its addresses.
func TestClientAt(t *testing.T) {
	at := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for _, c := range []struct {
		remote string
		local  net.Addr
		want   string
	}{
		{"127.0.0.1:40000", at("127.0.0.1:9977"), "127.0.0.1"},
		{"10.0.0.1:40000", at("10.0.0.1:9977"), "127.0.0.1"},
		{"[fd00::1]:40000", at("[fd00::1]:9977"), "127.0.0.1"},
		{"10.0.0.2:40000", at("10.0.0.1:9977"), "10.0.0.2"},
		{"10.0.0.2:40000", nil, "10.0.0.2"},
		{"garbage", at("10.0.0.1:9977"), "invalid IP"},
	} {
		if got := clientAt(c.remote, c.local).String(); got != c.want {
			t.Errorf("%s at %v: %s, want %s", c.remote, c.local, got, c.want)
		}
	}
}
