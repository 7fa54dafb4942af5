// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestInterfaceAddrs compares with package net on a host that has addresses of
// all kinds, and many interfaces.
func TestInterfaceAddrs(t *testing.T) {
	t.Parallel()
	h := newNetwork(t, "n").host("10.77.0.1/24")
	h.ip(h.name, "addr add fd00::1/64 dev eth0")
	h.ip(h.name, "link add ptp type veth peer name ptq")
	h.ip(h.name, "addr add 10.9.0.1 peer 10.9.0.2/32 dev ptp")
	for i := range 30 {
		h.ip(h.name, fmt.Sprintf("link add v%d type veth peer name w%[1]d", i))
		h.ip(h.name, fmt.Sprintf("addr add 10.78.%d.1/28 dev v%[1]d", i))
	}
	var got, want map[int][]netip.Prefix
	var took time.Duration
	h.inside(func() {
		var err error
		start := time.Now()
		if got, err = interfaceAddrs(); err != nil {
			t.Error(err)
		}
		took = time.Since(start)
		want = addrsByPackageNet(t)
	})
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	t.Logf("%d interfaces in %v", len(got), took)
}

func addrsByPackageNet(t *testing.T) map[int][]netip.Prefix {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Error(err)
	}
	all := make(map[int][]netip.Prefix)
	for _, ifi := range interfaces {
		addrs, err := ifi.Addrs()
		if err != nil {
			t.Error(err)
		}
		for _, a := range addrs {
			prefix := netip.MustParsePrefix(a.String())
			all[ifi.Index] = append(all[ifi.Index], prefix)
		}
		slices.SortFunc(all[ifi.Index], netip.Prefix.Compare)
	}
	return all
}

// TestParseAddr gives it what is no address.
func TestParseAddr(t *testing.T) {
	header := syscall.NlMsghdr{Type: syscall.RTM_NEWADDR}
	for why, m := range map[string]syscall.NetlinkMessage{
		"the end":          {Header: syscall.NlMsghdr{Type: syscall.NLMSG_DONE}, Data: make([]byte, 100)},
		"cut off":          {Header: header, Data: make([]byte, 7)},
		"no attributes":    {Header: header, Data: make([]byte, 8)},
		"a short address":  {Header: header, Data: append(make([]byte, 8), 7, 0, syscall.IFA_LOCAL, 0, 10, 0, 0, 0)},
		"a long attribute": {Header: header, Data: append(make([]byte, 8), 200, 0, syscall.IFA_LOCAL, 0, 10, 0, 0, 1)},
	} {
		if index, prefix, ok := parseAddr(&m); ok {
			t.Errorf("%s is taken for %s of %d", why, prefix, index)
		}
	}
}
