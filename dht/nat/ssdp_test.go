// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const ssdpReply = "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nEXT:\r\nLocation: %s\r\n\r\n"

func TestParseLocation(t *testing.T) {
	for text, ok := range map[string]bool{
		"http://192.168.1.1:5000/rootDesc.xml":     true,
		"http://192.168.1.1/a?b=c":                 true,
		"HTTP://192.168.1.1:80":                    true,
		"http://192.168.1.2:5000/rootDesc.xml":     false, // another machine
		"http://127.0.0.1:9977/":                   false,
		"http://[::ffff:192.168.1.1]/":             false,
		"http://[::1]/":                            false,
		"http://router.lan/rootDesc.xml":           false, // a name
		"http://192.168.1.1.evil.example/":         false,
		"http://192.168.1.1@evil.example/":         false,
		"http://admin:secret@192.168.1.1/":         false,
		"https://192.168.1.1/rootDesc.xml":         false,
		"file:///etc/passwd":                       false,
		"http:192.168.1.1":                         false,
		"//192.168.1.1/":                           false,
		"/rootDesc.xml":                            false,
		"http://192.168.1.1:0/":                    false,
		"http://192.168.1.1:65536/":                false,
		"http://192.168.1.1:99999999999999999999/": false,
		"http://3232235777/":                       false, // the same, as one number
		"http://0xc0.0xa8.1.1/":                    false,
		"http://192.168.1.1\r\nX: y/":              false,
		"":                                         false,
	} {
		if u, err := parseLocation(text, routerAddr); (err == nil) != ok {
			t.Errorf("parseLocation(%q) = %v, %v, want ok %v", text, u, err, ok)
		}
	}
}

func TestParseSSDP(t *testing.T) {
	good := fmt.Sprintf(ssdpReply, "http://192.168.1.1:5000/d.xml")
	for packet, ok := range map[string]bool{
		good: true,
		strings.Replace(good, "Location", "LOCATION", 1):        true,
		strings.Replace(good, "200 OK", "404 Not Found", 1):     false,
		strings.Replace(good, "Location", "Where", 1):           false,
		strings.Replace(good, "HTTP/1.1", "NOTIFY * HTTP", 1):   false,
		strings.TrimSuffix(good, "\r\n"):                        false, // cut off
		fmt.Sprintf(ssdpReply, "http://192.168.1.2:5000/d.xml"): false,
		"": false,
	} {
		if u, err := parseSSDP([]byte(packet), routerAddr); (err == nil) != ok {
			t.Errorf("parseSSDP(%q) = %v, %v, want ok %v", packet, u, err, ok)
		}
	}
}

// FuzzParseSSDP checks that whatever is accepted leads to the router.
func FuzzParseSSDP(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(ssdpReply, "http://192.168.1.1:5000/d.xml")))
	f.Add([]byte(fmt.Sprintf(ssdpReply, "http://192.168.1.1@evil.example/")))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nLocation: http://192.168.1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		u, err := parseSSDP(packet, routerAddr)
		if err != nil {
			return
		}
		host, _, err := net.SplitHostPort(u.Host)
		if err != nil {
			host = u.Host
		}
		if u.Scheme != "http" || host != routerAddr.String() {
			t.Fatalf("%q leads to %s", packet, u)
		}
	})
}

func newTestSSDP(t *testing.T, to ...netip.AddrPort) *ssdp {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	return &ssdp{router: loopback, local: loopback, nic: lo.Index, to: to}
}

// TestSearch has a router that answers the second search only, after nonsense,
// and neighbours that answer the first.
func TestSearch(t *testing.T) {
	router := newUDPPeer(t, "127.0.0.1", func(i int, _ []byte) [][]byte {
		if i < len(ssdpTargets) {
			return [][]byte{[]byte("nonsense"), fmt.Appendf(nil, ssdpReply, "http://127.0.0.2/elsewhere")}
		}
		var answers [][]byte
		for n := range 2 * maxDescriptions {
			answers = append(answers, fmt.Appendf(nil, ssdpReply, fmt.Sprintf("http://127.0.0.1:5000/%d", n/2)))
		}
		return answers
	})
	neighbour := newUDPPeer(t, "127.0.0.2", func(int, []byte) [][]byte {
		return [][]byte{fmt.Appendf(nil, ssdpReply, "http://127.0.0.1:5000/of-a-neighbour")}
	})
	found, err := newTestSSDP(t, router.addr, neighbour.addr).search(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, u := range found {
		paths = append(paths, u.Path)
	}
	if want := []string{"/0", "/1", "/2", "/3"}; !slices.Equal(paths, want) {
		t.Errorf("found %q, want %q", paths, want)
	}
	for _, part := range []string{"M-SEARCH * HTTP/1.1\r\n", "HOST: 239.255.255.250:1900\r\n", "MAN: \"ssdp:discover\"\r\n", "MX: 1\r\n", ssdpTargets[0]} {
		if search := string(router.packets()[0]); !strings.Contains(search, part) {
			t.Errorf("search %q lacks %q", search, part)
		}
	}
}

func TestSearchWithoutAnswer(t *testing.T) {
	flood := slices.Repeat([][]byte{[]byte("nonsense")}, 2*maxSSDPPackets)
	router := newUDPPeer(t, "127.0.0.1", func(int, []byte) [][]byte { return flood })
	if found, err := newTestSSDP(t, router.addr).search(t.Context()); !errors.Is(err, errSilent) {
		t.Errorf("search = %v, %v, want %v", found, err, errSilent)
	}
}
