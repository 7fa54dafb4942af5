// SPDX-License-Identifier: GPL-2.0-or-later

package lan

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"apt-dht/discovery"
	"apt-dht/proxy/fetch"
)

// send puts a request to a node's handler as if it came from source.
func send(t *testNode, method, path, source, body string, fields ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, Prefix+path, strings.NewReader(body))
	r.RemoteAddr = source
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	t.Handler().ServeHTTP(w, r)
	return w
}

const onLink = "127.9.9.9:4711"

func TestWhoMayAsk(t *testing.T) {
	node := startNodes(t, 1)[0]
	node.members.offLink[netip.MustParseAddr("127.8.8.8")] = true
	question := `{` + testHello + `}`
	for name, test := range map[string]struct {
		method, path, source, body string
		fields                     []string
		want                       int
	}{
		"on the link":          {"POST", "lookup", onLink, question, nil, 200},
		"off the link":         {"POST", "lookup", "10.1.2.3:4711", question, nil, 403},
		"IPv4 in IPv6":         {"POST", "lookup", "[::ffff:127.9.9.9]:4711", question, nil, 200},
		"no address":           {"POST", "lookup", "@", question, nil, 403},
		"a page's form":        {"POST", "lookup", onLink, question, []string{"Content-Type", "text/plain"}, 415},
		"no type":              {"POST", "lookup", onLink, question, []string{"Content-Type", ""}, 415},
		"type with charset":    {"POST", "lookup", onLink, question, []string{"Content-Type", "application/json; charset=utf-8"}, 200},
		"a page's script":      {"POST", "lookup", onLink, question, []string{"Origin", "http://evil.example"}, 403},
		"GET for a POST":       {"GET", "lookup", onLink, "", nil, 405},
		"POST for a GET":       {"POST", "ping", onLink, question, nil, 404},
		"unknown path":         {"GET", "secrets", onLink, "", nil, 404},
		"no message":           {"POST", "announce", onLink, "hello", nil, 400},
		"another version":      {"POST", "lease", onLink, `{"v":9}`, nil, 400},
		"too long":             {"POST", "copy", onLink, strings.Repeat(" ", maxQuestion+1), nil, 413},
		"too deep":             {"POST", "copy", onLink, strings.Repeat("[", maxQuestion), nil, 400},
		"in our own name":      {"POST", "lookup", onLink, strings.Replace(question, "0123456789abcdef", node.ID, 1), nil, 400},
		"ping":                 {"GET", "ping", onLink, "", nil, 200},
		"ping from here":       {"GET", "ping", "127.8.8.8:4711", "", nil, 200},
		"ping from far away":   {"GET", "ping", "10.1.2.3:4711", "", nil, 403},
		"blob from here":       {"GET", "blob/" + strings.Repeat("0", 64), "127.8.8.8:4711", "", nil, 403},
		"blob of no name":      {"GET", "blob/..%2f..%2fetc%2fpasswd", onLink, "", nil, 404},
		"blob of a short name": {"GET", "blob/0123", onLink, "", nil, 400},
		"root without name":    {"GET", "root", onLink, "", nil, 404},
	} {
		t.Run(name, func(t *testing.T) {
			if got := send(node, test.method, test.path, test.source, test.body, test.fields...); got.Code != test.want {
				t.Errorf("the answer is %d %s", got.Code, got.Body)
			}
		})
	}
	if n := strings.Count(node.log.String(), "another version"); n != 1 {
		t.Errorf("the other version was told %d times:\n%s", n, node.log)
	}
}

func TestOtherVersionsAreToldOnce(t *testing.T) {
	node := startNodes(t, 1)[0]
	for i := range 5 {
		send(node, "POST", "lookup", onLink, fmt.Sprintf(`{"v":%d}`, 5+i))
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"v":7}`) }))
	defer other.Close()
	if id, err := node.Probe(context.Background(), netip.MustParseAddrPort(other.Listener.Addr().String())); err == nil {
		t.Errorf("a node of another version answered as %q", id)
	}
	if n := strings.Count(node.log.String(), "level=WARN"); n != 1 {
		t.Errorf("the log has %d warnings:\n%s", n, node.log)
	}
}

func TestProbe(t *testing.T) {
	nodes := startNodes(t, 2)
	id, err := nodes[0].Probe(context.Background(), nodes[1].Addr)
	if id != nodes[1].ID || err != nil {
		t.Errorf("node 1 answers %q, %v", id, err)
	}
	nodes[1].stop()
	if id, err := nodes[0].Probe(context.Background(), nodes[1].Addr); err == nil {
		t.Errorf("a node that stopped answers as %q", id)
	}
}

// A node that is stopping answers 503, so that others drop it.
func TestStoppingNodeAnswersNothing(t *testing.T) {
	node := startNodes(t, 1)[0]
	node.stop()
	for _, path := range []string{"ping", "root?name=x", "blob/" + strings.Repeat("0", 64)} {
		if got := send(node, "GET", path, onLink, ""); got.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: the answer is %d", path, got.Code)
		}
	}
	if a := node.findNow(digestOf(1), true); a.State != fetch.Leased {
		t.Errorf("a lookup says %s", describe(a))
	}
}

// Whoever speaks is where the connection comes from, whatever it says.
func TestSpeaksForItselfAlone(t *testing.T) {
	nodes := startNodes(t, 2)
	d := blobOf(nodes[0], 0, nodes[0], nodes[1])
	text := fmt.Sprintf(`{"v":1,"id":%q,"port":%d,"have":["%x"]}`, nodes[1].ID, nodes[1].Addr.Port(), d)
	send(nodes[0], "POST", "announce", onLink, text)
	answer := send(nodes[0], "POST", "lookup", onLink, fmt.Sprintf(`{%s,"want":[{"hash":"%x"}]}`, testHello, d)).Body.String()
	if strings.Contains(answer, nodes[1].Addr.String()) {
		t.Errorf("the answer names node 1 where it is: %s", answer)
	}
}

// Copies count only from a first home that answered at the address that it
// speaks from.
func TestCopiesFromOthersDoNotCount(t *testing.T) {
	nodes := startNodes(t, 3)
	d := blobOf(nodes[0], 0, nodes[0], nodes[1])
	text := fmt.Sprintf(`{"v":1,"id":%q,"port":%d,"grants":[{"hash":"%x","asker":{"id":"0123456789abcdef","addr":"127.0.0.9:2000"},"number":0,"lease":true}]}`,
		nodes[0].ID, nodes[0].Addr.Port(), d)
	send(nodes[1], "POST", "copy", onLink, text)
	if n := nodes[1].home.Stats().Coming; n != 0 {
		t.Errorf("%d blobs are coming by the word of a stranger", n)
	}
	send(nodes[1], "POST", "copy", nodes[0].Addr.String(), text)
	if n := nodes[1].home.Stats().Coming; n != 1 {
		t.Errorf("%d blobs are coming by the word of the first home", n)
	}
}

// A stranger that speaks is probed, and so is a member that speaks from another
// address, which counts from then on.
func TestStrangersAreProbed(t *testing.T) {
	nodes := startNodes(t, 2)
	send(nodes[0], "POST", "lookup", onLink, `{`+testHello+`}`)
	stranger := discovery.Member{ID: "0123456789abcdef", Addr: netip.MustParseAddrPort("127.9.9.9:9977")}
	if heard := nodes[0].members.strangers(); !slices.Contains(heard, stranger) {
		t.Errorf("discovery heard of %v", heard)
	}
	alias := httptest.NewServer(nodes[1].Handler())
	defer alias.Close()
	other := netip.MustParseAddrPort(alias.Listener.Addr().String())
	send(nodes[0], "POST", "lookup", other.Addr().String()+":4711", fmt.Sprintf(`{"v":1,"id":%q,"port":%d}`, nodes[1].ID, other.Port()))
	eventually(t, "node 1 is known at both addresses", func() bool {
		return slices.Equal(nodes[0].met.addrsOf(nodes[1].ID), []netip.AddrPort{nodes[1].Addr, other})
	})
}

// Addresses are told without zones, this node's as the one that the asker
// reached, and a place that is this node is understood.
func TestAddressesOnTheWire(t *testing.T) {
	node := startNodes(t, 1)[0]
	f := node.wireFound(discovery.Found{State: discovery.Held, From: []discovery.Member{
		node.self,
		{ID: "0123456789abcdef", Addr: netip.MustParseAddrPort("[fe80::7%eth0]:9977")},
	}, Number: -1}, netip.MustParseAddr("fe80::1%eth0"))
	got := []string{f.From[0].Addr.String(), f.From[1].Addr.String()}
	if want := []string{fmt.Sprintf("[fe80::1]:%d", node.cfg.Port), "[fe80::7]:9977"}; !slices.Equal(got, want) {
		t.Errorf("the answer names %v, want %v", got, want)
	}
	w := node.wanted(discovery.Member{}, &want{Silent: []place{{ID: node.ID, Addr: netip.MustParseAddrPort("10.0.0.1:9977")}}})
	if !slices.Equal(w.Silent, []netip.AddrPort{node.self.Addr}) {
		t.Errorf("this node is silent as %v", w.Silent)
	}
}

// What a home says makes a node connect to members where they answered, and to
// others only on the link and at unprivileged ports.
func TestWhereANodeGoes(t *testing.T) {
	nodes := startNodes(t, 2)
	at := netip.MustParseAddrPort
	for name, test := range map[string]struct {
		told discovery.Member
		want string
	}{
		"a member":               {nodes[1].Member, nodes[1].Addr.String()},
		"a member elsewhere":     {discovery.Member{ID: nodes[1].ID, Addr: at("8.8.8.8:53")}, nodes[1].Addr.String()},
		"a stranger on the link": {discovery.Member{ID: "0123456789abcdef", Addr: at("127.0.0.9:2000")}, "127.0.0.9:2000"},
		"a stranger far away":    {discovery.Member{ID: "0123456789abcdef", Addr: at("169.254.169.254:8080")}, ""},
		"a privileged port":      {discovery.Member{ID: "0123456789abcdef", Addr: at("127.0.0.9:22")}, ""},
		"no address":             {discovery.Member{ID: "0123456789abcdef"}, ""},
		"itself":                 {discovery.Member{ID: nodes[0].ID, Addr: nodes[0].Addr}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if p, ok := nodes[0].reachable(test.told); ok {
				got = p.Addr.String()
			}
			if got != test.want {
				t.Errorf("it goes to %q, want %q", got, test.want)
			}
		})
	}
}

// A home that answers nonsense costs a round trip, and is skipped then.
func TestHomesThatAnswerNonsense(t *testing.T) {
	hash := strings.Repeat("0", 64)
	for name, body := range map[string]string{
		"no JSON":          "<html>",
		"another version":  `{"v":2,"found":[]}`,
		"no answer":        `{"v":1,"found":[]}`,
		"another blob":     `{"v":1,"found":[{"hash":"` + hash + `","state":"held"}]}`,
		"more than a node": `{"v":1,"found":[` + strings.Repeat(" ", maxAnswer),
	} {
		t.Run(name, func(t *testing.T) {
			node := newTestNode(t, 0)
			liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }))
			defer liar.Close()
			m := discovery.Member{ID: "0123456789abcdef", Addr: netip.MustParseAddrPort(liar.Listener.Addr().String())}
			node.members.set([]discovery.Member{m})
			eventually(t, "the ring is known", func() bool { return !node.Alone() })
			if a := node.findNow(digestOf(1), true); a.State != fetch.Leased {
				t.Errorf("the answer is %s", describe(a))
			}
			if node.members.failures(m.ID) == 0 {
				t.Error("the home is not skipped")
			}
		})
	}
}

func TestTooManyQuestions(t *testing.T) {
	node := startNodes(t, 1)[0]
	source := netip.MustParseAddr("127.9.9.9")
	for range maxQuestionsEach {
		if !node.asking.Take(source) {
			t.Fatal("the bound is lower than it says")
		}
	}
	got := send(node, "POST", "lookup", onLink, `{`+testHello+`}`)
	if got.Code != http.StatusTooManyRequests || got.Header().Get("Retry-After") == "" {
		t.Errorf("the answer is %d %v", got.Code, got.Header())
	}
	if got := send(node, "POST", "lookup", "127.9.9.8:4711", `{`+testHello+`}`); got.Code != http.StatusOK {
		t.Errorf("another node is answered %d", got.Code)
	}
	for range maxQuestionsEach {
		node.asking.Put(source)
	}
	if got := send(node, "POST", "lookup", onLink, `{`+testHello+`}`); got.Code != http.StatusOK {
		t.Errorf("afterwards the answer is %d", got.Code)
	}
}
