// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Config says where apt's configuration is.
type Config struct {
	// EtcDir is apt's configuration directory. "" means /etc/apt, which may be missing.
	EtcDir string
	// KeyringDirs hold the keyrings that, beside all others, may judge repositories which are not
	// in our sources. nil means EtcDir/keyrings and /usr/share/keyrings.
	KeyringDirs []string
	// Log gets a warning for everything that is skipped, and the reasons for verdicts. nil discards.
	Log *slog.Logger
}

// Trust is a snapshot of apt's sources and keys. It does not change and may be used from many
// goroutines; to follow changes on disk, Load another.
type Trust struct {
	log     *slog.Logger
	sources []Source
	hosts   map[string]bool
	sites   []site
	held    func() *policy // every key held; read at the first use
}

// Load reads the sources and keys. Whatever cannot be read or understood is
// skipped with a warning that names its file and line. The error is for a directory that cannot be read at all.
func Load(cfg Config) (*Trust, error) {
	etc, err := etcDir(cfg.EtcDir)
	if err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	files := reader{log: log}
	t := &Trust{log: log, sources: readSources(files, etc), hosts: make(map[string]bool)}
	for _, s := range t.sources {
		if host := s.Host(); host != "" {
			t.hosts[host] = true
		}
	}

	keys := newKeyrings(files, etc)
	t.sites = sitesOf(t.sources, keys)
	dirs := cfg.KeyringDirs
	if dirs == nil {
		dirs = []string{filepath.Join(etc, "keyrings"), "/usr/share/keyrings"}
	}
	t.held = sync.OnceValue(func() *policy { return keys.held(dirs) })
	return t, nil
}

func etcDir(dir string) (string, error) {
	configured := dir != ""
	if !configured {
		dir = "/etc/apt"
	}
	_, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && !configured {
		return dir, nil // a proxy need not run on a machine with apt
	}
	if err != nil {
		return "", fmt.Errorf("reading apt's configuration directory: %w", err)
	}
	return dir, nil
}

// Sources returns the enabled sources in the order in which apt reads them, one for each
// combination of type, URI and suite.
func (t *Trust) Sources() []Source { return slices.Clone(t.sources) }

// HasHost tells whether one of the sources is at host: as in a URL, with the port unless that
// is the scheme's own, brackets around an IPv6 address. "deb.debian.org", "localhost:8080".
func (t *Trust) HasHost(host string) bool { return t.hosts[strings.ToLower(host)] }
