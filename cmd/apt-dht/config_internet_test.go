// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestInternetSettings(t *testing.T) {
	file := `
wan-listen = "127.0.0.1:12000"
dht-bootstrap = ["dht.example:9978", "[fd00::7]:6881"]
dht-private = true
upload-limit = "2MB"
dht-exclude = ["https://Packages.example/internal/", "closed.example:8080", "http://h.example:80/a%20b"]`
	cfg, err := parseServe(t, file)
	want := internetConfig{
		Listen: "127.0.0.1:12000", Bootstrap: []string{"dht.example:9978", "[fd00::7]:6881"}, Private: true, UploadLimit: 2_000_000,
	}
	exclude := []string{"packages.example/internal", "closed.example:8080", "h.example/a b"}
	if err != nil || !cfg.DHT || !reflect.DeepEqual(cfg.Internet, want) || !reflect.DeepEqual(cfg.Exclude, exclude) {
		t.Errorf("got %+v, %v", cfg, err)
	}
	cfg, err = parseServe(t, "", "--dht=false")
	if err != nil || cfg.DHT || !reflect.DeepEqual(cfg.Internet, internetConfig{}) || cfg.Exclude != nil {
		t.Errorf("got %+v, %v", cfg, err)
	}
}

func TestRefusedInternetSettings(t *testing.T) {
	for args, advice := range map[string]string{
		"--wan-listen=9978":                    ":9978",
		"--wan-listen=:80":                     "below 1024",
		"--dht-bootstrap=dht.example":          "HOST:PORT",
		"--dht-bootstrap=dht.example:53":       "from 1024 up",
		"--dht-bootstrap=:9978":                "HOST:PORT",
		"--upload-limit=10kB":                  "50kB or more",
		"--upload-limit=fast":                  "not a size",
		"--upload-limit=unlimited":             "10GB is as good as no limit",
		"--upload-limit=0":                     "--dht=false",
		"--upload-limit=0kB/s":                 "--dht=false",
		"--upload-limit=5":                     "--dht=false",
		"--upload-limit=2MB/h":                 "500kB or 2MB",
		"--dht-exclude=*":                      `"*" is a pattern, which is not known here: give HOST or HOST/PATH`,
		"--dht-exclude=*.corp.example":         "is a pattern",
		"--dht-exclude=.corp.example":          "is a pattern",
		"--dht-exclude=http://.corp.example":   "is a pattern",
		"--dht-exclude=10.3.0.*":               "is a pattern",
		"--dht-exclude=10.3.0.2/pool/nc5*":     "is a pattern",
		"--dht-exclude=10.3.0.0/24":            "is a network",
		"--dht-exclude=10.3.0.2:99999":         "99999 is not a port: give one from 1 to 65535",
		"--dht-exclude=10.3.0.2:0":             "0 is not a port",
		"--dht-exclude=fd00::7":                "HOST/PATH",
		"--dht-exclude=":                       "the name is empty",
		"--dht-exclude=a.example,,b.example":   "the name is empty",
		"--dht-exclude= ":                      "the name is empty",
		"--dht-exclude=a.example b.example":    "HOST/PATH",
		"--dht-exclude=/internal":              "HOST/PATH",
		"--dht-exclude=http://me@host/":        "HOST/PATH",
		"--dht-exclude=host/internal?token=no": "HOST/PATH",
	} {
		if _, err := parseServe(t, "", args); err == nil || !strings.Contains(err.Error(), advice) {
			t.Errorf("%s: %v, want advice with %q", args, err, advice)
		}
	}
}

func TestPublicOrigins(t *testing.T) {
	for addr, want := range map[string]struct{ public, private bool }{
		"5.1.0.7":       {true, true},
		"10.0.0.7":      {false, true},
		"100.64.0.1":    {false, true},
		"127.0.0.1":     {false, true},
		"fd00::7":       {false, true},
		"169.254.169.1": {false, false},
		"224.0.0.251":   {false, false},
		"0.0.0.0":       {false, false},
	} {
		ip := netip.MustParseAddr(addr)
		if got := (internetConfig{}).isPublic(ip); got != want.public {
			t.Errorf("%s is public: %v", addr, got)
		}
		if got := (internetConfig{Private: true}).isPublic(ip); got != want.private {
			t.Errorf("%s is public in a DHT of one's own: %v", addr, got)
		}
	}
}

// TestExcludedRepositories: what is taken is what the index names.
func TestExcludedRepositories(t *testing.T) {
	for arg, want := range map[string][]string{
		" a.example , b.example:8080/x/": {"a.example", "b.example:8080/x"},
		`a.example/one\,two`:             {"a.example/one,two"},
		"a.example/%2a%20b":              {"a.example/* b"},
		"[fd00::7]:8080/internal":        {"[fd00::7]:8080/internal"},
		"10.3.0.2/24":                    {"10.3.0.2/24"},
	} {
		if cfg, err := parseServe(t, "", "--dht-exclude="+arg); err != nil || !slices.Equal(cfg.Exclude, want) {
			t.Errorf("%q: got %q, %v, want %q", arg, cfg.Exclude, err, want)
		}
	}
	for body, advice := range map[string]string{
		`dht-exclude = [""]`:                  "the name is empty",
		`dht-exclude = ["a.example", "*.b"]`:  "is a pattern",
		`dht-exclude = ["a.example:70000/x"]`: "70000 is not a port",
	} {
		if _, err := parseServe(t, body); err == nil || !strings.Contains(err.Error(), advice) {
			t.Errorf("%s: %v, want advice with %q", body, err, advice)
		}
	}
	t.Setenv("APT_DHT_DHT_EXCLUDE", "a.example,b.example")
	cfg, err := parseServe(t, "", "--dht-exclude=c.example", "--dht-exclude=d.example")
	if err != nil || !slices.Equal(cfg.Exclude, []string{"c.example", "d.example"}) {
		t.Errorf("twice: got %q, %v", cfg.Exclude, err)
	}
	if cfg, err = parseServe(t, ""); err != nil || !slices.Equal(cfg.Exclude, []string{"a.example", "b.example"}) {
		t.Errorf("in the environment: got %q, %v", cfg.Exclude, err)
	}
}

func TestUploadLimit(t *testing.T) {
	for text, want := range map[string]int64{
		"2MB": 2e6, "2MB/s": 2e6, "500kB/s": 500e3, "1.5 MB/s ": 1_500_000, "1M": 1e6, "500k": 500e3, "1MiB/s": 1 << 20, "50000": 50_000,
	} {
		var rate bytesPerSec
		if err := rate.UnmarshalText([]byte(text)); err != nil || rate.bytes != want {
			t.Errorf("%q: got %d, %v, want %d", text, rate.bytes, err, want)
		}
	}
}
