// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestIGDDialogue(t *testing.T) {
	f := newFakeIGD(t)
	g := f.opened(t)
	for _, transport := range []transport{tcp, udp} {
		key := string(transport) + " 5000"
		if port, lease, err := g.add(t.Context(), transport, 5000); port != 5000 || lease != leaseTime || err != nil {
			t.Fatalf("add = %d, %s, %v", port, lease, err)
		}
		if got, want := f.entry(key), "127.0.0.1:9978 3600"; got != want {
			t.Errorf("the router maps %s to %q, want %q", key, got, want)
		}
	}
	if lost, err := g.lost(t.Context(), 5000); lost || err != nil {
		t.Errorf("lost = %v, %v", lost, err)
	}
	if err := g.remove(t.Context(), udp, 5000); err != nil {
		t.Errorf("remove: %v", err)
	}
	if got := f.entry("UDP 5000"); got != "" {
		t.Errorf("after removing it the router maps UDP 5000 to %q", got)
	}
	if lost, err := g.lost(t.Context(), 5000); !lost || err != nil {
		t.Errorf("lost = %v, %v, want true", lost, err)
	}
	if err := g.remove(t.Context(), udp, 5000); err != nil {
		t.Errorf("remove again: %v", err)
	}
}

func TestIGDPermanentLeaseOnly(t *testing.T) {
	for _, code := range []int{upnpOnlyPermanent, upnpInvalidArgs} {
		f := newFakeIGD(t)
		f.fault = func(_ string, args map[string]string) int {
			if lease, ok := args["NewLeaseDuration"]; ok && lease != "0" {
				return code
			}
			return 0
		}
		g := f.opened(t)
		if _, lease, err := g.add(t.Context(), tcp, testPort); lease != leaseTime || err != nil {
			t.Fatalf("add = %s, %v", lease, err)
		}
		if got, want := f.entry("TCP 9978"), "127.0.0.1:9978 0"; got != want {
			t.Errorf("the router has %q, want %q", got, want)
		}
		if err := g.remove(t.Context(), tcp, testPort); err != nil || f.entry("TCP 9978") != "" {
			t.Errorf("remove: %v; the router has %q", err, f.entry("TCP 9978"))
		}
	}
}

func TestIGDPortOfAnother(t *testing.T) {
	for _, code := range []int{upnpConflict, upnpOtherMechanism} {
		f := newFakeIGD(t)
		f.fault = func(action string, _ map[string]string) int {
			if action == "AddPortMapping" {
				return code
			}
			return 0
		}
		f.entries["TCP 9978"], f.entries["UDP 9978"] = "127.0.0.9:9978 0", "127.0.0.9:9978 0"
		g := f.opened(t)
		if _, _, err := g.add(t.Context(), tcp, testPort); !errors.Is(err, errConflict) {
			t.Errorf("add: %v, want %v", err, errConflict)
		}
		if lost, err := g.lost(t.Context(), testPort); !lost || err != nil {
			t.Errorf("lost = %v, %v, want true", lost, err)
		}
		if err := g.remove(t.Context(), tcp, testPort); err != nil {
			t.Errorf("remove: %v", err)
		}
		if f.entry("TCP 9978") == "" {
			t.Error("another machine's mapping was removed")
		}
	}
}

// TestIGDRenewalIsConflict has a router that lets nobody replace an entry.
func TestIGDRenewalIsConflict(t *testing.T) {
	f := newFakeIGD(t)
	f.fault = func(action string, args map[string]string) int {
		if _, taken := f.entries["TCP "+args["NewExternalPort"]]; taken && action == "AddPortMapping" {
			return upnpConflict
		}
		return 0
	}
	g := f.opened(t)
	for range 3 {
		if _, _, err := g.add(t.Context(), tcp, testPort); err != nil {
			t.Fatalf("add: %v", err)
		}
	}
}

// TestIGDThatListsNothing has a router without the action that shows entries.
func TestIGDThatListsNothing(t *testing.T) {
	f := newFakeIGD(t)
	f.fault = func(action string, _ map[string]string) int {
		return map[string]int{"GetSpecificPortMappingEntry": 401}[action]
	}
	g := f.opened(t)
	f.set(func() { f.entries["UDP 9978"] = "127.0.0.9:9978 0" })
	if err := g.remove(t.Context(), udp, testPort); err != nil || f.entry("UDP 9978") == "" {
		t.Errorf("remove: %v; another machine's mapping: %q", err, f.entry("UDP 9978"))
	}
	if _, _, err := g.add(t.Context(), tcp, testPort); err != nil {
		t.Fatalf("add: %v", err)
	}
	if lost, err := g.lost(t.Context(), testPort); lost || err != nil {
		t.Errorf("lost = %v, %v, want false", lost, err)
	}
	if err := g.remove(t.Context(), tcp, testPort); err != nil || f.entry("TCP 9978") != "" {
		t.Errorf("remove: %v; the router has %q", err, f.entry("TCP 9978"))
	}
}

func TestIGDRefusal(t *testing.T) {
	f := newFakeIGD(t)
	g := f.opened(t)
	f.set(func() { f.fault = func(string, map[string]string) int { return 606 } })
	_, _, err := g.add(t.Context(), tcp, testPort)
	if err == nil || !strings.Contains(err.Error(), "606 No? no") {
		t.Errorf("add: %v, want the code and the printable text", err)
	}
}

func TestIGDChoosesTheConnectionInUse(t *testing.T) {
	for _, tt := range []struct {
		ip, ppp string
		want    string
		kind    string
	}{
		{"8.8.4.4", "8.8.8.8", "8.8.4.4", "WANIPConnection:1"},
		{"", "8.8.8.8", "8.8.8.8", "WANPPPConnection:1"},
		{"0.0.0.0", "8.8.8.8", "8.8.8.8", "WANPPPConnection:1"},
		{"nonsense", "100.64.0.1", "100.64.0.1", "WANPPPConnection:1"},
		{"100.64.0.1", "0.0.0.0", "100.64.0.1", "WANIPConnection:1"},
		{"nonsense", "nonsense", "", ""},
	} {
		f := newFakeIGD(t)
		f.external = map[string]string{"/ip": tt.ip, "/ppp": tt.ppp}
		g := f.igd(t)
		want, _ := netip.ParseAddr(tt.want)
		got, err := g.external(t.Context())
		if got != want || (err == nil) != want.IsValid() || !strings.HasSuffix(g.service.kind, tt.kind) {
			t.Errorf("with %q and %q: %s of %q, %v, want %s of %s", tt.ip, tt.ppp, got, g.service.kind, err, want, tt.kind)
		}
	}
}

func TestIGDIsSearchedOnce(t *testing.T) {
	f := newFakeIGD(t)
	g := f.opened(t)
	g.ssdp.to = nil
	f.set(func() { f.external["/ip"] = "8.8.8.8" })
	if addr, err := g.external(t.Context()); addr != netip.MustParseAddr("8.8.8.8") || err != nil {
		t.Errorf("external = %s, %v", addr, err)
	}
}

func TestIGDEndsWithItsContext(t *testing.T) {
	f := newFakeIGD(t)
	g := f.opened(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.set(func() {
		f.fault = func(string, map[string]string) int {
			cancel()
			return 0
		}
	})
	if lost, err := g.lost(ctx, testPort); lost || !errors.Is(err, context.Canceled) {
		t.Errorf("lost = %v, %v", lost, err)
	}
	if _, _, err := g.add(ctx, tcp, testPort); !errors.Is(err, context.Canceled) {
		t.Errorf("add: %v", err)
	}
}

// TestSOAPBodyIsBounded has a router whose answer never ends.
func TestSOAPBodyIsBounded(t *testing.T) {
	server := httptest.NewServer(endless)
	defer server.Close()
	location, err := parseLocation(server.URL, loopback)
	if err != nil {
		t.Fatal(err)
	}
	g := newIGD(route{gateway: loopback, local: loopback}, testPort, leaseTime)
	if err := g.call(t.Context(), service{serviceTypes[0], *location}, "GetExternalIPAddress", nil, nil); err == nil {
		t.Error("an endless answer was accepted")
	}
}

// endless sends valid XML until nobody reads it.
var endless = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, `<root xmlns="urn:schemas-upnp-org:device-1-0">`)
	for {
		if _, err := w.Write(slices.Repeat([]byte("<a></a>"), 1000)); err != nil {
			return
		}
	}
})
