// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"net"
	"strconv"
	"strings"
	"testing"
)

// Others are told a name or an address that they can reach, as far as this machine
// knows one.
func TestJoinAt(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:0":      "127.0.0.1:PORT",
		"dht.example:9978": "dht.example:PORT",
		"[2001:db8::1]:1":  "[2001:db8::1]:PORT",
	} {
		open := openUDP(t, "127.0.0.1")
		if got := joinAt(listen, open); got != strings.Replace(want, "PORT", strconv.Itoa(int(open.port)), 1) {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
	}
	for _, listen := range []string{"", ":9978", "0.0.0.0:9978", "[::]:9978"} {
		open := openUDP(t, "")
		host, port, err := net.SplitHostPort(joinAt(listen, open))
		if err != nil || port != strconv.Itoa(int(open.port)) || net.ParseIP(host) == nil || net.ParseIP(host).IsUnspecified() {
			t.Errorf("%q: got %s, %s, %v", listen, host, port, err)
		}
	}
}

func openUDP(t *testing.T, host string) *sockets {
	t.Helper()
	open, err := openSockets(t.Context(), host+":0", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(open.close)
	return open
}
