// SPDX-License-Identifier: GPL-2.0-or-later

package wan

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// at gives a node an outside address.
func at(addr string) func(*Config) {
	return func(cfg *Config) {
		cfg.External = func(is4 bool) (netip.AddrPort, bool) {
			a, err := netip.ParseAddrPort(addr)
			return a, err == nil && a.Addr().Is4() == is4
		}
	}
}

func TestReachCheck(t *testing.T) {
	d := newFakeDHT()
	node := startNode(t, d, 1, nil)
	if v := node.check(t.Context(), true, netip.AddrPort{}); v != unknown {
		t.Errorf("with nobody to ask the verdict is %d", v)
	}
	helper := startNode(t, d, 2, nil)
	if v := node.check(t.Context(), true, node.addr); v != reached {
		t.Errorf("the verdict is %d", v)
	}
	if dials := helper.dials(); !slices.Equal(dials, []string{node.addr.String()}) {
		t.Errorf("the helper dialled %v", dials)
	}
	if len(node.reach.nonces) != 0 {
		t.Errorf("%d nonces are left", len(node.reach.nonces))
	}
	// A port at which nobody is; another helper, as the first has just helped.
	startNode(t, d, 3, nil)
	dead := netip.AddrPortFrom(node.addr.Addr(), deadAddr(t).Port())
	if v := node.check(t.Context(), true, dead); v != unreached {
		t.Errorf("of a dead port the verdict is %d", v)
	}
}

// Who says that it has come, and has not, is not believed; nor is one who says no
// where another comes.
func TestReachLiars(t *testing.T) {
	d := newFakeDHT()
	says := func(reached bool) netip.AddrPort {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"v":1,"reached":%t}`, reached)
		}))
		t.Cleanup(s.Close)
		return netip.MustParseAddrPort(s.Listener.Addr().String())
	}
	node := startNode(t, d, 1, nil)
	d.put(HelpersKey, says(true))
	if v := node.check(t.Context(), true, node.addr); v != unknown {
		t.Errorf("where one boasts the verdict is %d", v)
	}
	d.put(HelpersKey, says(false))
	if v := node.check(t.Context(), true, node.addr); v != unreached {
		t.Errorf("where one denies the verdict is %d", v)
	}
	startNode(t, d, 2, nil)
	if v := node.check(t.Context(), true, node.addr); v != reached {
		t.Errorf("where one comes the verdict is %d", v)
	}
}

// askHelp has a helper asked from an address.
func askHelp(helper *testNode, source, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, Prefix+"reach", strings.NewReader(body))
	r.RemoteAddr = source
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	helper.Handler().ServeHTTP(w, r)
	return w
}

func reachBody(port uint16) string {
	return fmt.Sprintf(`{"v":1,"port":%d,"nonce":%s}`, port, testNonce)
}

// A node can be made to connect to who asks it alone, and seldom.
func TestHelpersAreNotAbused(t *testing.T) {
	d := newFakeDHT()
	helper := startNode(t, d, 1, nil)
	helper.connect = recording(helper)
	for _, test := range []struct {
		source  string
		port    uint16
		want    int
		dialled string
	}{
		{"127.0.5.1:1234", 9978, 200, "127.0.5.1:9978"},
		{"127.0.5.1:4321", 9979, 429, ""}, // again within a minute
		{"127.0.5.2:1234", 22, 400, ""},
		{"[fe80::1%eth0]:1234", 9978, 403, ""},
		{"[2a00::1]:1234", 9978, 200, "[2a00::1]:9978"},
		{"[2a00::2]:1234", 9978, 429, ""}, // the same site
		{"[2a00:0:0:1::2]:1234", 9978, 200, "[2a00:0:0:1::2]:9978"},
		{"@", 9978, 403, ""},
	} {
		before := len(helper.dials())
		w := askHelp(helper, test.source, reachBody(test.port))
		if w.Code != test.want || test.want == 200 && !strings.Contains(w.Body.String(), `"reached":false`) {
			t.Errorf("%s, port %d: the answer is %d %s", test.source, test.port, w.Code, w.Body)
		}
		if test.want == 429 && w.Header().Get("Retry-After") != "60" {
			t.Errorf("it may ask again after %q s", w.Header().Get("Retry-After"))
		}
		if dialled := strings.Join(helper.dials()[before:], " "); dialled != test.dialled {
			t.Errorf("%s, port %d: it dialled %q, want %q", test.source, test.port, dialled, test.dialled)
		}
	}
	public := startNode(t, d, 2, func(cfg *Config) { cfg.Private = false })
	public.connect = recording(public)
	for _, source := range []string{"10.0.0.1:1", "127.0.0.1:1", "192.168.0.1:1", "[::1]:1", "[fd00::1]:1", "169.254.1.1:1"} {
		if w := askHelp(public, source, reachBody(9978)); w.Code != 403 {
			t.Errorf("%s gets %d", source, w.Code)
		}
	}
	if dials := public.dials(); len(dials) != 0 {
		t.Errorf("it dialled %v", dials)
	}
}

// recording dials nobody.
func recording(t *testNode) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, _, addr string) (net.Conn, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.dialled = append(t.dialled, addr)
		return nil, io.ErrClosedPipe
	}
}

// A few are helped at a time, and memory for them is bounded.
func TestHelpIsBounded(t *testing.T) {
	var h helping
	now := time.Now()
	site := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{5, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range maxHelping {
		if !h.take(site(i), now) {
			t.Errorf("only %d are helped at a time", i)
		}
	}
	if h.take(site(100), now) {
		t.Error("too many are helped at a time")
	}
	h.put()
	if !h.take(site(100), now) {
		t.Error("when one has been helped no other is")
	}
	h = helping{}
	for i := range maxHelped + 10 {
		if h.take(site(i), now) {
			h.put()
		}
	}
	if len(h.since) != maxHelped {
		t.Errorf("%d are remembered", len(h.since))
	}
	if later := now.Add(helpEach); !h.take(site(maxHelped+20), later) || len(h.since) != 1 {
		t.Errorf("a minute later %d are remembered", len(h.since))
	}
}

// What answers at the port is not the asker unless it knows the nonce; one that
// never ends its answer is not waited for.
func TestAnotherIsThere(t *testing.T) {
	helper := startNode(t, newFakeDHT(), 1, nil)
	for name, handler := range map[string]http.HandlerFunc{
		"another node":  func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"v":1,"version":"x"}`) },
		"another nonce": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"v":1,"nonce":"00"}`) },
		"a web server":  func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
		"too much": func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 10<<20)) },
	} {
		s := httptest.NewServer(handler)
		addr := netip.MustParseAddrPort(s.Listener.Addr().String())
		if err := helper.tryReach(t.Context(), addr, strings.Trim(testNonce, `"`)); err == nil {
			t.Errorf("%s is taken for the asker", name)
		}
		s.Close()
	}
	for _, addr := range helper.dials() {
		if strings.HasSuffix(addr, ":1") {
			t.Error("a redirect was followed")
		}
	}
}

func TestReachable(t *testing.T) {
	mapped := netip.MustParseAddrPort("5.6.7.8:40000")
	none := netip.AddrPort{}
	for _, test := range []struct {
		outside netip.AddrPort
		verdict verdict
		about   netip.AddrPort
		port    uint16
		ok      bool
		text    string
	}{
		{none, unknown, none, 9978, false, "is not known"},
		{none, reached, none, 9978, true, "reach this one at TCP port 9978"},
		{none, unreached, none, 9978, false, "Forward TCP and UDP port 9978"},
		{mapped, unknown, none, 40000, true, "should reach this one at 5.6.7.8:40000"},
		{mapped, reached, mapped, 40000, true, "reach this one at 5.6.7.8:40000"},
		{mapped, unreached, mapped, 40000, false, "firewall"},
		{mapped, unreached, none, 40000, true, "none has tried yet"}, // the verdict is about another address
		{none, reached, mapped, 9978, false, "none has tried yet"},
	} {
		node, err := New(Config{DHT: seat{newFakeDHT(), none}, Port: 9978, IPv4: true, External: func(bool) (netip.AddrPort, bool) { return test.outside, test.outside.IsValid() }})
		if err != nil {
			t.Fatal(err)
		}
		node.reach.conclude(true, test.verdict, test.about, time.Now())
		port, ok := node.Reachable(true)
		if port.Port() != test.port || ok != test.ok {
			t.Errorf("%+v: got %v, %t", test, port, ok)
		}
		s := node.Status()
		if s.Reachable != test.ok || !strings.Contains(s.Reach, test.text) || strings.HasSuffix(s.Reach, ".") {
			t.Errorf("%+v: the status is %+v", test, s)
		}
	}
}

// Whoever comes from the internet has reached the node, by the way it came.
func TestVisitors(t *testing.T) {
	for _, test := range []struct {
		outside, source string
		want4, want6    bool
	}{
		{"5.6.7.8:9978", "9.9.9.9", true, false},
		{"", "9.9.9.9", true, false},
		{"5.6.7.8:9978", "5.6.7.8", false, false}, // through our own router
		{"5.6.7.8:9978", "192.168.0.7", false, false},
		{"5.6.7.8:9978", "127.0.0.1", false, false},
		{"5.6.7.8:9978", "100.64.0.1", false, false},
		{"5.6.7.8:9978", "2a00::1", false, true},
		{"", "2a00::1", false, true}, // behind a provider's NAT, of IPv4
		{"", "fd00::1", false, false},
	} {
		cfg := Config{DHT: seat{newFakeDHT(), netip.AddrPort{}}, Port: 9978, IPv4: true, IPv6: true}
		at(test.outside)(&cfg)
		node, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, is4 := range []bool{true, false} {
			outside, _ := node.outside(is4)
			node.reach.conclude(is4, unreached, outside, time.Now())
		}
		node.visited(netip.MustParseAddr(test.source))
		_, ok4 := node.Reachable(true)
		_, ok6 := node.Reachable(false)
		if ok4 != test.want4 || ok6 != test.want6 {
			t.Errorf("at %q, when %s has come, it is reachable: %t over IPv4, %t over IPv6", test.outside, test.source, ok4, ok6)
		}
	}
}

// A machine of the same network comes through no firewall, and proves nothing.
func TestNeighboursProveNothing(t *testing.T) {
	for _, test := range []struct {
		local, source string
		private, want bool
	}{
		{"5.6.7.8:9978", "9.9.9.9:1", false, true},
		{"5.6.7.8:9978", "5.6.7.9:1", false, false},
		{"192.168.0.2:9978", "5.6.7.9:1", false, true}, // behind a router
		{"[::ffff:5.6.7.8]:9978", "5.6.7.9:1", false, false},
		{"[2a00:1:2:3::4]:9978", "[2a00:1:2:3::5]:1", false, false},
		{"[2a00:1:2:3::4]:9978", "[2a00:1:3::5]:1", false, true},
		{"10.0.0.2:9978", "10.0.0.3:1", true, true},
	} {
		node, err := New(Config{DHT: seat{newFakeDHT(), netip.AddrPort{}}, Port: 9978, IPv4: true, IPv6: true, Private: test.private})
		if err != nil {
			t.Fatal(err)
		}
		nonce, end := node.reach.expect()
		r := httptest.NewRequest(http.MethodGet, Prefix+"ping?nonce="+nonce, nil)
		r.RemoteAddr = test.source
		local := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(test.local))
		w := httptest.NewRecorder()
		node.Handler().ServeHTTP(w, r.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, local)))
		if !strings.Contains(w.Body.String(), nonce) {
			t.Errorf("%+v: the answer is %s", test, w.Body)
		}
		_, ok := node.Reachable(netip.MustParseAddrPort(test.source).Addr().Is4())
		if came := node.reach.hasCome(nonce); came != test.want || ok != test.want {
			t.Errorf("%+v: came %t, reachable %t", test, came, ok)
		}
		end()
	}
}

// A port that the router has mapped is IPv4's: over IPv6 the node has its own, and
// is known to be reached when it has been.
func TestFamiliesAreTold(t *testing.T) {
	cfg := Config{DHT: seat{newFakeDHT(), netip.AddrPort{}}, Port: 9978, IPv4: true, IPv6: true}
	at("5.6.7.8:40000")(&cfg)
	for _, test := range []struct {
		ip4, ip6     verdict
		port4, port6 uint16 // 0: not reachable
		text         string
	}{
		{unknown, unknown, 40000, 0, "other nodes should reach this one at 5.6.7.8:40000; none has tried yet"},
		{reached, unknown, 40000, 0, "other nodes reach this one at 5.6.7.8:40000"},
		{reached, reached, 40000, 9978, "over IPv4, other nodes reach this one at 5.6.7.8:40000; over IPv6, other nodes reach this one at TCP port 9978"},
		{reached, unreached, 40000, 0, "over IPv6, other nodes have tried, and cannot reach this one at port 9978: it only downloads. " +
			"Let TCP and UDP port 9978 in over IPv6 through this machine's firewall and the router's"},
		{unreached, reached, 0, 9978, "forward port 40000 to it on the router; over IPv6, other nodes reach this one at TCP port 9978"},
	} {
		node, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for is4, v := range map[bool]verdict{true: test.ip4, false: test.ip6} {
			outside, _ := node.outside(is4)
			node.reach.conclude(is4, v, outside, time.Now())
		}
		for is4, want := range map[bool]uint16{true: test.port4, false: test.port6} {
			if port, ok := node.Reachable(is4); ok != (want != 0) || ok && port.Port() != want {
				t.Errorf("%+v: over IPv4 %t: got %v, %t", test, is4, port, ok)
			}
		}
		s := node.Status()
		if !s.Reachable || s.Port != cmp.Or(test.port4, test.port6) || !strings.Contains(s.Reach, test.text) {
			t.Errorf("%+v: the status is %+v", test, s)
		}
		if tried := test.ip4 != unknown || test.ip6 != unknown; tried == s.Checked.IsZero() {
			t.Errorf("%+v: checked at %v", test, s.Checked)
		}
	}
}

func TestNextCheck(t *testing.T) {
	for _, test := range []struct {
		v, former  verdict
		last, want time.Duration
	}{
		{reached, unknown, 0, againReached},
		{reached, unknown, againUnknown, againReached},
		{unreached, unknown, 0, againUnreached},
		{unreached, reached, againReached, againUnreached},
		{unreached, unreached, againUnreached, 2 * againUnreached},
		{unreached, unreached, time.Hour, againReached},
		{unknown, unknown, 0, againUnknown},
		{unknown, reached, againReached, againUnknown},
		{unknown, unknown, againUnknown, 2 * againUnknown},
		{unknown, unknown, time.Hour, latestUnknown},
	} {
		if got := nextCheck(test.v, test.former, test.last); got != test.want {
			t.Errorf("after %d it is %s, want %s", test.v, got, test.want)
		}
	}
}

// Where nobody helps, few questions are asked; a new outside address is a new
// matter.
func TestWatchReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDHT()
		var outside atomic.Value
		outside.Store(netip.MustParseAddrPort("5.6.7.8:9978"))
		node, err := New(Config{
			DHT: seat{d, netip.AddrPort{}}, Port: 9978, IPv4: true,
			External: func(bool) (netip.AddrPort, bool) { return outside.Load().(netip.AddrPort), true },
			EachShareable: func(yield func(Digest, time.Time) bool) {
				for i := byte(0); yield(Digest{i}, time.Now()) && i < 9; i++ {
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan struct{})
		go func() { defer close(ended); node.Run(ctx) }()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := node.Status().Offered; n != 10 {
			t.Errorf("%d blobs are offered", n)
		}
		if n := d.asked(); n < 48 || n > 60 {
			t.Errorf("in a day the DHT was asked %d times", n)
		}
		before := d.asked()
		node.reach.conclude(true, unreached, outside.Load().(netip.AddrPort), time.Now())
		outside.Store(netip.MustParseAddrPort("5.6.7.9:9978"))
		time.Sleep(2 * changes)
		synctest.Wait()
		if d.asked() == before {
			t.Error("the new address is not checked")
		}
		if _, ok := node.Reachable(true); !ok {
			t.Error("what was found of the old address counts for the new one")
		}
		cancel()
		<-ended
	})
}

// In a DHT of one's own there is no router to tell of.
func TestReachText(t *testing.T) {
	outside := netip.MustParseAddrPort("10.4.0.2:9978")
	for _, tt := range []struct {
		private, known bool
		want           string
		router         bool
	}{
		{false, true, "cannot reach this one at 10.4.0.2:9978: it only downloads", true},
		{false, false, "cannot reach this one at port 9978: it only downloads", true},
		{true, true, "cannot reach this one at 10.4.0.2:9978: it only downloads. Let TCP and UDP port 9978 in through this machine's firewall", false},
		{true, false, "cannot reach this one at port 9978: it only downloads. Let TCP", false},
	} {
		n := &Node{cfg: Config{Private: tt.private, Port: 9978}}
		got := n.reachText(true, unreached, outside, tt.known)
		if !strings.Contains(got, tt.want) || strings.Contains(got, "router") != tt.router {
			t.Errorf("private %v, known %v: %s", tt.private, tt.known, got)
		}
	}
}
