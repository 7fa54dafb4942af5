// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// maxHosts bounds what is read of the hosts file, in bytes. Lists of
// advertisers' hosts can make it long.
const maxHosts = 1 << 20

// target is what apt is about to fetch.
type target struct {
	secure bool   // https
	host   string // a name in lower case without a final dot, or an address
	port   string
	url    string // without credentials
	secret bool   // there were credentials
}

// parseTarget reads the URL that apt passes.
func parseTarget(text string) (target, error) {
	u, err := url.Parse(text)
	if err != nil {
		return target{}, fmt.Errorf("the URL cannot be read: %w", err)
	}
	t := target{secure: u.Scheme == "https", secret: u.User != nil, port: u.Port()}
	if !t.secure && u.Scheme != "http" {
		return target{}, fmt.Errorf("%q is not the URL of an http or https repository", text)
	}
	if t.host, err = hostName(u.Hostname()); err != nil {
		return target{}, fmt.Errorf("%q names no host: %w", text, err)
	}
	u.User, u.Fragment = nil, ""
	u.Host = strings.TrimSuffix(t.authority(), ":")
	t.url = u.String()
	if strings.ContainsFunc(t.url, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return target{}, fmt.Errorf("%q cannot stand in a request", text)
	}
	if t.port == "" {
		t.port = map[bool]string{false: "80", true: "443"}[t.secure]
	}
	return t, nil
}

// hostName brings a host's name, or address, into the form in which it is
// looked up. What passes can stand in a request's line.
func hostName(text string) (string, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr.Unmap().String(), nil
	}
	name, err := idna.ToASCII(strings.ToLower(strings.TrimSuffix(text, ".")))
	if err == nil && (name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "") {
		err = fmt.Errorf("%q is no host name", text)
	}
	return name, err
}

// authority is the target's host and port, as CONNECT takes them.
func (t target) authority() string { return net.JoinHostPort(t.host, t.port) }

// A reach says through which proxies a target may be fetched.
type reach int

const (
	throughNone reach = iota // it is on this machine
	throughOwn               // this machine's node; others do not know the name, or must not see the password
	throughAny
)

// reach judges the target by its host. hosts is the path of hosts(5).
func (t target) reach(hosts string) reach {
	if t.host == "localhost" || strings.HasSuffix(t.host, ".localhost") {
		return throughNone
	}
	addrs := hostsEntries(hosts, t.host)
	if addr, err := netip.ParseAddr(t.host); err == nil {
		addrs = []netip.Addr{addr}
	}
	own := ownInterfaces()
	for _, addr := range addrs {
		if addr.IsLoopback() || addr.IsUnspecified() || slices.Contains(own, addr.WithZone("")) {
			return throughNone
		}
	}
	named := len(addrs) > 0 && t.host != addrs[0].String()
	if named || t.secret || slices.ContainsFunc(addrs, isPrivate) {
		return throughOwn
	}
	return throughAny
}

func isPrivate(addr netip.Addr) bool { return addr.IsPrivate() || addr.IsLinkLocalUnicast() }

// hostsEntries returns the addresses that the hosts file has for a name.
func hostsEntries(path, name string) []netip.Addr {
	f, err := os.Open(path)
	if err != nil {
		return nil // it may be missing: hosts(5)
	}
	defer f.Close()
	var addrs []netip.Addr
	for lines := bufio.NewScanner(io.LimitReader(f, maxHosts)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if len(line) < len(name) {
			continue
		}
		fields := strings.Fields(line)
		isNamed := func(f string) bool { return strings.EqualFold(f, name) }
		if len(fields) < 2 || !slices.ContainsFunc(fields[1:], isNamed) {
			continue
		}
		if addr, err := netip.ParseAddr(fields[0]); err == nil {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

// ownInterfaces returns the addresses of this machine.
func ownInterfaces() []netip.Addr {
	nets, _ := net.InterfaceAddrs() // without a network it has none
	var addrs []netip.Addr
	for _, n := range nets {
		if prefix, err := netip.ParsePrefix(n.String()); err == nil {
			addrs = append(addrs, prefix.Addr().Unmap())
		}
	}
	return addrs
}
