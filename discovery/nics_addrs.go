// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"
)

// interfaceAddrs returns the addresses of all network interfaces with their
// lengths, ordered, by the interfaces' indexes. net.Interface.Addrs has the
// kernel list them all for each interface, which takes a host of containers
// with 400 interfaces a quarter of a second.
func interfaceAddrs() (map[int][]netip.Prefix, error) {
	table, err := syscall.NetlinkRIB(syscall.RTM_GETADDR, syscall.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list network addresses: %w", os.NewSyscallError("netlinkrib", err))
	}
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return nil, fmt.Errorf("list network addresses: %w", os.NewSyscallError("parsenetlinkmessage", err))
	}
	all := make(map[int][]netip.Prefix)
	for _, m := range messages {
		if index, prefix, ok := parseAddr(&m); ok {
			all[index] = append(all[index], prefix)
		}
	}
	for _, prefixes := range all {
		slices.SortFunc(prefixes, netip.Prefix.Compare)
	}
	return all, nil
}

// parseAddr reads an address's message: struct ifaddrmsg with attributes, see
// rtnetlink(7). On a point-to-point link IFA_ADDRESS is the other end's, and
// IFA_LOCAL our own.
func parseAddr(m *syscall.NetlinkMessage) (index int, prefix netip.Prefix, ok bool) {
	if m.Header.Type != syscall.RTM_NEWADDR || len(m.Data) < syscall.SizeofIfAddrmsg {
		return 0, netip.Prefix{}, false
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return 0, netip.Prefix{}, false
	}
	var addr netip.Addr
	for _, a := range attrs {
		value, valid := netip.AddrFromSlice(a.Value)
		switch {
		case !valid:
		case a.Attr.Type == syscall.IFA_LOCAL, a.Attr.Type == syscall.IFA_ADDRESS && !addr.IsValid():
			addr = value
		}
	}
	bits := int(m.Data[1])
	return int(binary.NativeEndian.Uint32(m.Data[4:])), netip.PrefixFrom(addr, bits), addr.IsValid()
}
