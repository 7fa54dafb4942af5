// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// parseServe returns what `apt-dht serve args` is configured to, the file's
// text given.
func parseServe(t *testing.T, file string, args ...string) (serveConfig, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "apt-dht.toml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	var grammar commands
	args = append([]string{"serve", "--config", path}, args...)
	if _, err := parse(&grammar, args, io.Discard, io.Discard); err != nil {
		return serveConfig{}, err
	}
	return grammar.Serve.settings.config()
}

func TestDefaults(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/state/one:/state/two")
	cfg, err := parseServe(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cfg.Listen, []string{":9977"}) || cfg.DataDir != "/state/one" || cfg.Quota != 0 {
		t.Errorf("got %+v", cfg)
	}
	if cfg.AptLists != "/var/lib/apt/lists" || cfg.AptEtc != "/etc/apt" || cfg.Import != "/var/cache/apt/archives" {
		t.Errorf("got %+v", cfg)
	}
	if cfg.Clients.lan != nil || len(cfg.OriginHosts)+len(cfg.OriginNets) != 0 || cfg.Proxy == nil {
		t.Errorf("got %+v", cfg)
	}
}

// TestPrecedence sets the same things in more and more places.
func TestPrecedence(t *testing.T) {
	file := `
listen = ["127.0.0.1:1", "127.0.0.1:2"]
quota = "1GB"
import = ""`
	check := func(step string, cfg serveConfig, err error, quota int64, listen ...string) {
		t.Helper()
		if err != nil || cfg.Quota != quota || !slices.Equal(cfg.Listen, listen) || cfg.Import != "" {
			t.Errorf("%s: got %+v, %v", step, cfg, err)
		}
	}
	cfg, err := parseServe(t, file)
	check("file", cfg, err, 1e9, "127.0.0.1:1", "127.0.0.1:2")

	t.Setenv("APT_DHT_QUOTA", "2GB")
	t.Setenv("APT_DHT_LISTEN", ":3,:4")
	cfg, err = parseServe(t, file)
	check("environment", cfg, err, 2e9, ":3", ":4")

	cfg, err = parseServe(t, file, "--quota=3GB", "--listen=:5", "--listen", ":6")
	check("flags", cfg, err, 3e9, ":5", ":6")
}

func TestAllowed(t *testing.T) {
	cfg, err := parseServe(t, `allow-origin = ["Mirror.example", "10.0.0.0/8"]`, "--allow=lan", "--allow=192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.Clients.Allows(netip.MustParseAddr("192.0.2.9")) || cfg.Clients.lan == nil {
		t.Errorf("clients: got %+v", cfg.Clients)
	}
	if !slices.Equal(cfg.OriginHosts, []string{"mirror.example"}) || !slices.Equal(cfg.OriginNets, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}) {
		t.Errorf("origins: got %v, %v", cfg.OriginHosts, cfg.OriginNets)
	}
}

func TestPathsAreAbsolute(t *testing.T) {
	cfg, err := parseServe(t, `apt-lists = "lists"`, "--data-dir=data")
	if err != nil || !filepath.IsAbs(cfg.DataDir) || !filepath.IsAbs(cfg.AptLists) {
		t.Errorf("got %q and %q, %v", cfg.DataDir, cfg.AptLists, err)
	}
}

func TestDefaultDataDir(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "")
	t.Setenv("XDG_CACHE_HOME", "/cache")
	want := "/cache/apt-dht"
	if os.Geteuid() == 0 {
		want = "/var/lib/apt-dht"
	}
	if got := defaultDataDir(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUnusableSettings(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{`data-dir = ""`, "data-dir: this user has no home directory"},
		{`listen = []`, "listen: the list is empty"},
	} {
		if _, err := parseServe(t, tt.file); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.file, err, tt.want)
		}
	}
}
