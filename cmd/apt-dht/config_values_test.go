// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"encoding"
	"log/slog"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http/httpproxy"
)

func TestByteSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1":                   1,
		"512B":                512,
		"500MB":               500_000_000,
		"20GiB":               20 << 30,
		"1.5 TB":              1_500_000_000_000,
		"64kib":               64 << 10,
		"0.5MiB":              512 << 10,
		"8388607TiB":          8388607 << 40,
		"9007199254740991":    1<<53 - 1,
		"1000000000000000 kB": 1e18,
	} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got.bytes != want {
			t.Errorf("%q: got %d, %v, want %d", text, got.bytes, err, want)
		}
	}
}

// TestRefusedValues holds for each type what it must refuse, and a word of
// advice that the error must contain.
func TestRefusedValues(t *testing.T) {
	for _, tt := range []struct {
		name   string
		value  encoding.TextUnmarshaler
		advice string
		texts  []string
	}{
		{"size", new(byteSize), "20GiB", []string{"", "GiB", "-1", "0", "0.3", "1e9", "0x10", "5 potatoes", "5GiBB", "1..2", "9223372036854775808", "8388608TiB", "Inf", "NaN", "1 000"}},
		{"listen", new(listenAddr), ":9977", []string{"", "9977", "localhost", ":http", ":-1", ":65536", "::1:80", "[::1", "a:b:1"}},
		{"internet's listen", new(wanAddr), `":9978"`, []string{"", "9978", "a:b:1", ":65536", "192.0.2.1:"}},
		{"client", new(clientRule), "lan", []string{"", "LAN?", "10.0.0.0/33", "office.example", "fe80::1%eth0", "::ffff:10.0.0.0/104"}},
		{"origin", new(originRule), "mirror.example", []string{"", ".", "mirror.example:80", "http://mirror.example", "10.0.0", "10.0.0.0/", "a b", "-x-"}},
		{"upstream proxy", new(upstreamProxy), "http://proxy.example:3128", []string{"proxy:3128", "proxy", "socks5://proxy:1080", "https://proxy", "http://", "http://p/path", "http://p?q", "http://\x7f"}},
		{"level", new(logLevel), "debug, info, warn or error", []string{"", "loud", "INFO+1"}},
		{"format", new(logFormat), "text or json", []string{"", "xml"}},
	} {
		for _, text := range tt.texts {
			err := tt.value.UnmarshalText([]byte(text))
			if err == nil || !strings.Contains(err.Error(), tt.advice) {
				t.Errorf("%s %q: got error %v, want one with %q", tt.name, text, err, tt.advice)
			}
		}
	}
}

func TestListenAddr(t *testing.T) {
	for _, text := range []string{":9977", "127.0.0.1:0", "[::1]:65535", "localhost:1"} {
		var got listenAddr
		if err := got.UnmarshalText([]byte(text)); err != nil || got.hostport != text {
			t.Errorf("%q: got %q, %v", text, got.hostport, err)
		}
	}
}

func TestClientRule(t *testing.T) {
	for text, want := range map[string]clientRule{
		"lan":              {lan: true},
		"10.0.0.0/8":       {prefix: netip.MustParsePrefix("10.0.0.0/8")},
		"192.168.1.7/24":   {prefix: netip.MustParsePrefix("192.168.1.0/24")},
		"192.168.1.7":      {prefix: netip.MustParsePrefix("192.168.1.7/32")},
		"::ffff:192.0.2.1": {prefix: netip.MustParsePrefix("192.0.2.1/32")},
		"fd00::1":          {prefix: netip.MustParsePrefix("fd00::1/128")},
		"0.0.0.0/0":        {prefix: netip.MustParsePrefix("0.0.0.0/0")},
	} {
		var got clientRule
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
	}
}

func TestOriginRule(t *testing.T) {
	for text, want := range map[string]originRule{
		"mirror":          {host: "mirror"},
		"Mirror.Example.": {host: "mirror.example"},
		"bücher.example":  {host: "xn--bcher-kva.example"},
		"3com.example":    {host: "3com.example"},
		"10.1.2.3":        {prefix: netip.MustParsePrefix("10.1.2.3/32")},
		"fd00::/8":        {prefix: netip.MustParsePrefix("fd00::/8")},
	} {
		var got originRule
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
	}
}

func TestUpstreamProxy(t *testing.T) {
	env := httpproxy.Config{HTTPProxy: "http://env.example:1", HTTPSProxy: "http://envs.example:2", NoProxy: "near.example"}
	for _, tt := range []struct{ setting, mirror, want string }{
		{"", "http://far.example/x", "http://env.example:1"},
		{"", "https://far.example/x", "http://envs.example:2"},
		{"", "http://near.example/x", ""},
		{"direct", "http://far.example/x", ""},
		{"http://conf.example:3128", "http://far.example/x", "http://conf.example:3128"},
		{"http://user:pw@conf.example:3128/", "https://far.example/x", "http://user:pw@conf.example:3128/"},
		{"http://conf.example:3128", "http://near.example/x", ""},
	} {
		var setting upstreamProxy
		if err := setting.UnmarshalText([]byte(tt.setting)); err != nil {
			t.Fatal(err)
		}
		mirror, err := url.Parse(tt.mirror)
		if err != nil {
			t.Fatal(err)
		}
		proxy, err := setting.proxyFunc(env)(mirror)
		got := ""
		if proxy != nil {
			got = proxy.String()
		}
		if err != nil || got != tt.want {
			t.Errorf("%q for %s: got %q, %v, want %q", tt.setting, tt.mirror, got, err, tt.want)
		}
	}
}

func TestLogSettings(t *testing.T) {
	var level logLevel
	if err := level.UnmarshalText([]byte("Warn")); err != nil || level.level != slog.LevelWarn {
		t.Errorf("got %v, %v", level.level, err)
	}
	for text, json := range map[string]bool{"text": false, "json": true} {
		format := logFormat{json: !json}
		if err := format.UnmarshalText([]byte(text)); err != nil || format.json != json {
			t.Errorf("%q: got %v, %v", text, format.json, err)
		}
	}
}

// FuzzByteSize: a size that is accepted is at least a byte, and its number of
// bytes, written out, is the same size.
func FuzzByteSize(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		var size, again byteSize
		if err := size.UnmarshalText(text); err != nil {
			return
		}
		err := again.UnmarshalText(strconv.AppendInt(nil, size.bytes, 10))
		if size.bytes < 1 || err != nil || again != size {
			t.Errorf("%q is %d bytes, and that is %d, %v", text, size.bytes, again.bytes, err)
		}
	})
}
