// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"net/netip"
	"testing"
)

func TestIsPublic(t *testing.T) {
	public := []string{"8.8.4.4", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.32.0.1", "192.0.1.1", "223.255.255.254"}
	private := []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.0", "100.127.255.255", "127.0.0.1", "169.254.1.1", "172.16.0.1",
		"172.31.255.255", "192.0.0.2", "192.0.2.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
		"203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "2001:4860:4860::8888", "::ffff:8.8.4.4",
	}
	for want, addrs := range map[bool][]string{true: public, false: private} {
		for _, addr := range addrs {
			if got := isPublic(netip.MustParseAddr(addr)); got != want {
				t.Errorf("isPublic(%s) = %v, want %v", addr, got, want)
			}
		}
	}
	if isPublic(netip.Addr{}) {
		t.Error("isPublic(no address) = true")
	}
}
