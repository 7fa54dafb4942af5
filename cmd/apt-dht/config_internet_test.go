// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"net/netip"
	"reflect"
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
		"--wan-listen=9978":                    ":9977",
		"--wan-listen=:80":                     "below 1024",
		"--dht-bootstrap=dht.example":          "HOST:PORT",
		"--dht-bootstrap=dht.example:53":       "from 1024 up",
		"--dht-bootstrap=:9978":                "HOST:PORT",
		"--upload-limit=10kB":                  "50kB or more",
		"--upload-limit=fast":                  "not a size",
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
