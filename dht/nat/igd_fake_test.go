// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// description has an Internet Gateway Device's tree; its services and base URL
// are to be filled in.
const description = `<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>%s
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><friendlyName>Box</friendlyName>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/l3f</controlURL></service></serviceList>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
<serviceList>%s</serviceList></device></deviceList></device></deviceList></device></root>`

func describeService(kind, control string) string {
	return fmt.Sprintf("<service><serviceType>urn:schemas-upnp-org:service:%s</serviceType><controlURL>%s</controlURL></service>", kind, control)
}

const soapAnswer = `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>%s</s:Body></s:Envelope>`

const soapFault = `<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>%d</errorCode><errorDescription>%s</errorDescription></UPnPError></detail></s:Fault>`

// fakeIGD is a router's UPnP server.
type fakeIGD struct {
	*httptest.Server

	mu sync.Mutex // guards following
	// entries are the mappings: "client:port lease" by "TCP 9978".
	entries map[string]string
	// external addresses by the path of the service's control URL.
	external map[string]string
	// fault, if it returns a code, refuses an action before anything else.
	fault func(action string, args map[string]string) int
	// actions are the names of all that were called.
	actions []string
}

var soapArgument = regexp.MustCompile(`<(New\w+)>([^<]*)</New\w+>`)

func newFakeIGD(t *testing.T) *fakeIGD {
	t.Helper()
	f := &fakeIGD{entries: make(map[string]string), external: map[string]string{"/ip": "8.8.4.4"}}
	f.fault = func(string, map[string]string) int { return 0 }
	mux := http.NewServeMux()
	mux.HandleFunc("GET /desc.xml", func(w http.ResponseWriter, r *http.Request) {
		services := describeService("WANIPConnection:1", "/ip") + describeService("WANPPPConnection:1", "ppp")
		fmt.Fprintf(w, description, "", services)
	})
	mux.HandleFunc("POST /", f.control)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

// igd speaks with the server; its search is answered with the description's address.
func (f *fakeIGD) igd(t *testing.T) *igd {
	t.Helper()
	answer := fmt.Appendf(nil, ssdpReply, f.URL+"/desc.xml")
	peer := newUDPPeer(t, "127.0.0.1", func(int, []byte) [][]byte { return [][]byte{answer} })
	g := newIGD(route{gateway: loopback, local: loopback}, testPort, leaseTime)
	g.ssdp = *newTestSSDP(t, peer.addr)
	return g
}

// opened is igd after its search.
func (f *fakeIGD) opened(t *testing.T) *igd {
	t.Helper()
	g := f.igd(t)
	if addr, err := g.external(t.Context()); addr != outside || err != nil {
		t.Fatalf("external = %s, %v", addr, err)
	}
	return g
}

func (f *fakeIGD) control(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	args := make(map[string]string)
	for _, match := range soapArgument.FindAllStringSubmatch(string(body), -1) {
		args[match[1]] = match[2]
	}
	_, action, _ := strings.Cut(strings.Trim(r.Header.Get("SOAPAction"), `"`), "#")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.actions = append(f.actions, action)
	out, code := f.perform(r.URL.Path, action, args)
	if code != 0 {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, soapAnswer, fmt.Sprintf(soapFault, code, "No\x7f no"))
		return
	}
	fmt.Fprintf(w, soapAnswer, fmt.Sprintf(`<u:%sResponse xmlns:u="urn:x">%s</u:%[1]sResponse>`, action, out))
}

func (f *fakeIGD) perform(path, action string, args map[string]string) (out string, code int) {
	if code := f.fault(action, args); code != 0 {
		return "", code
	}
	key := args["NewProtocol"] + " " + args["NewExternalPort"]
	switch action {
	case "GetExternalIPAddress":
		return "<NewExternalIPAddress>" + f.external[path] + "</NewExternalIPAddress>", 0
	case "AddPortMapping":
		f.entries[key] = args["NewInternalClient"] + ":" + args["NewInternalPort"] + " " + args["NewLeaseDuration"]
		return "", 0
	}
	entry, ok := f.entries[key]
	if !ok {
		return "", upnpNoSuchEntry
	}
	if action == "DeletePortMapping" {
		delete(f.entries, key)
		return "", 0
	}
	client := netip.MustParseAddrPort(strings.Fields(entry)[0])
	return fmt.Sprintf("<NewInternalPort>%d</NewInternalPort><NewInternalClient>%s</NewInternalClient>", client.Port(), client.Addr()), 0
}

// set changes the server's mind.
func (f *fakeIGD) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeIGD) entry(key string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.entries[key]
}

// hostile serves h as a router's description, and asks for it.
func hostile(t *testing.T, h http.HandlerFunc) error {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	location, err := url.Parse(server.URL + "/desc.xml")
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(loopback, loopback)
	client.Timeout = 500 * time.Millisecond
	began := time.Now()
	services, err := describe(t.Context(), client, location, loopback)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	if err == nil {
		t.Errorf("found the services %v", services)
	}
	return err
}
