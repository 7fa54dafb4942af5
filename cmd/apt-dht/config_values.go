// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/net/idna"

	"apt-dht/discovery"
)

// The types of the settings. All are structs, because the TOML decoder asks
// UnmarshalText only of kinds that it cannot fill by itself.

// byteSize is a number of bytes.
type byteSize struct{ bytes int64 }

// sizeUnits are the suffixes of sizes, in lower case: SI and IEC 80000-13.
var sizeUnits = map[string]float64{
	"": 1, "b": 1,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

// UnmarshalText reads "20GiB", "1.5 TB", "500MB" or plain bytes: at least one
// byte, and less than 2⁶³.
func (s *byteSize) UnmarshalText(text []byte) error {
	digits := strings.TrimRight(string(text), "kKmMgGtTiIbB ")
	unit, known := sizeUnits[strings.ToLower(strings.TrimSpace(string(text[len(digits):])))]
	wrong := fmt.Errorf("%q is not a size: give a number with kB, MB, GB, TB, KiB, MiB, GiB or TiB, as 20GiB or 500MB", text)
	if !known || strings.Trim(digits, "0123456789.") != "" {
		return wrong
	}
	number, err := strconv.ParseFloat(digits, 64)
	if err != nil || number*unit < 1 || number*unit >= math.MaxInt64 {
		return wrong
	}
	s.bytes = int64(number * unit)
	return nil
}

// listenAddr is [HOST]:PORT.
type listenAddr struct{ hostport string }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *listenAddr) UnmarshalText(text []byte) error {
	return l.read(string(text), ":9977")
}

// read checks the shape and the port; whether the host is an address of this
// machine shows when it is listened on. usual is an example for who gets it wrong.
func (l *listenAddr) read(text, usual string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf(`%q is not an address to listen on: give [HOST]:PORT, as %q or %q`, text, usual, "127.0.0.1"+usual)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf(`%q has no valid port: give a number up to 65535, as %q`, text, usual)
	}
	l.hostport = text
	return nil
}

// peerAddr is HOST or HOST:PORT of another node.
type peerAddr struct{ hostport string }

// UnmarshalText checks the shape; names are looked up while the node runs.
func (p *peerAddr) UnmarshalText(text []byte) error {
	name := string(text)
	if err := discovery.CheckPeer(name); err != nil {
		return fmt.Errorf(`%q is not a node's address: give HOST or HOST:PORT, as proxy.example, 10.1.0.7:9977 or [fd00::7]:9977`, text)
	}
	p.hostport = name
	return nil
}

// clientRule is one network of clients, or all that this machine is on.
type clientRule struct {
	lan    bool
	prefix netip.Prefix
}

// UnmarshalText reads "lan", a CIDR or a single address.
func (c *clientRule) UnmarshalText(text []byte) error {
	if string(text) == "lan" {
		*c = clientRule{lan: true}
		return nil
	}
	prefix, err := parsePrefix(string(text))
	if err != nil {
		return fmt.Errorf(`%q is neither "lan" nor a network: give a CIDR, as 192.168.1.0/24 or fd00::/8`, text)
	}
	*c = clientRule{prefix: prefix}
	return nil
}

// originRule is a host name, in lower case, or a network; the other is zero.
type originRule struct {
	host   string
	prefix netip.Prefix
}

// UnmarshalText reads a host name, a CIDR or a single address.
func (o *originRule) UnmarshalText(text []byte) error {
	if prefix, err := parsePrefix(string(text)); err == nil {
		*o = originRule{prefix: prefix}
		return nil
	}
	host, err := idna.Lookup.ToASCII(strings.TrimSuffix(string(text), "."))
	if err != nil || host == "" || strings.Trim(host, "0123456789.") == "" {
		return fmt.Errorf("%q is neither a host name nor a network: give a name without port, as mirror.example, or a CIDR, as 10.0.0.0/8", text)
	}
	*o = originRule{host: strings.ToLower(host)}
	return nil
}

// parsePrefix reads a CIDR, or an address as the network of it alone. Bits
// beyond the mask are dropped: 192.168.1.7/24 is 192.168.1.0/24.
func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err == nil && prefix.Addr().Is4In6() {
		err = errors.New("an IPv4-mapped network")
	}
	return prefix.Masked(), err
}

// upstreamProxy is where mirrors are reached through. The zero value means
// what the environment says.
type upstreamProxy struct {
	direct bool
	url    *url.URL
}

// UnmarshalText reads the URL of an HTTP proxy, "direct", or nothing.
func (p *upstreamProxy) UnmarshalText(text []byte) error {
	if len(text) == 0 || string(text) == "direct" {
		*p = upstreamProxy{direct: len(text) > 0}
		return nil
	}
	u, err := url.Parse(string(text))
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return fmt.Errorf(`%q is not the URL of an HTTP proxy: give one as http://proxy.example:3128, or "direct"`, text)
	}
	*p = upstreamProxy{url: u}
	return nil
}

// proxyFunc returns the choice of proxy by mirror. What no_proxy names is
// reached directly also when the proxy was configured.
func (p upstreamProxy) proxyFunc(env httpproxy.Config) func(*url.URL) (*url.URL, error) {
	switch {
	case p.direct:
		return func(*url.URL) (*url.URL, error) { return nil, nil }
	case p.url != nil:
		env.HTTPProxy, env.HTTPSProxy = p.url.String(), p.url.String()
	}
	return env.ProxyFunc()
}

// logLevel is the least severe level that is logged.
type logLevel struct{ level slog.Level }

// UnmarshalText reads debug, info, warn or error.
func (l *logLevel) UnmarshalText(text []byte) error {
	levels := []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	i := slices.IndexFunc(levels, func(level slog.Level) bool { return strings.EqualFold(level.String(), string(text)) })
	if i < 0 {
		return fmt.Errorf("%q is not a level: give debug, info, warn or error", text)
	}
	l.level = levels[i]
	return nil
}

// logFormat is how a message looks: slog's text or its JSON.
type logFormat struct{ json bool }

// UnmarshalText reads text or json.
func (f *logFormat) UnmarshalText(text []byte) error {
	if s := string(text); s != "text" && s != "json" {
		return fmt.Errorf("%q is not a format: give text or json", text)
	}
	f.json = string(text) == "json"
	return nil
}
