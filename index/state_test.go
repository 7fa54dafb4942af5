// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// kept makes an index with one parsed list, and returns its directory.
func kept(t *testing.T) (cfg Config, r *repo) {
	t.Helper()
	cfg = Config{Dir: t.TempDir(), Trust: loadTrust(t)}
	x := openIndex(t, cfg)
	r = stable(july, "pool/a.deb", "a")
	r.publish(t, x, dists)
	x.Lookup(dists+"/"+list, alice)
	r.parse(t, x, dists, list)
	x.tidy()
	return cfg, r
}

func glob(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	check(t, err)
	if len(found) != 1 {
		t.Fatalf("%d files %s, want one", len(found), pattern)
	}
	return found[0]
}

func TestOpenAsItWas(t *testing.T) {
	cfg, r := kept(t)
	x := openIndex(t, cfg)
	e := x.Lookup(base+"/pool/a.deb", alice)
	wantEntry(t, e, KindFile, "a")
	if !e.Trusted || x.Lookup(dists+"/"+list, alice).Parse {
		t.Errorf("got %+v", e)
	}
	if !x.suites[dists].asked[list].Load() {
		t.Error("forgot that a client used the list")
	}
	info, err := x.AddRoot(dists+"/InRelease", clearsigned(t, r.release(), archiveKey()))
	check(t, err)
	if info.New && len(x.suites[dists].generations) != 2 {
		t.Errorf("got %+v", info)
	}
}

func TestOrderOutlivesRestart(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Trust: loadTrust(t)}
	x := openIndex(t, cfg)
	for _, content := range []string{"one", "two", "three"} {
		_, err := x.AddRoot(dists+"/Release", []byte(stable(july, "pool/a.deb", content).release()))
		check(t, err)
		x = openIndex(t, cfg)
	}
	want := string(stable(july, "pool/a.deb", "three").files[list])
	wantEntry(t, x.Lookup(dists+"/"+list, alice), KindIndex, want)
}

func TestOpenWithDamage(t *testing.T) {
	tests := []struct {
		name, file    string
		suites, known int
	}{
		{"catalogue", "*.cat", 1, 0},
		{"Release", "*.release", 0, 0},
		{"state", stateFile, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, r := kept(t)
			path := glob(t, cfg.Dir, tt.file)
			data, err := os.ReadFile(path)
			check(t, err)
			data[len(data)/2] ^= 0x80
			write(t, path, data[:len(data)-1])
			x := openIndex(t, cfg)
			if len(x.suites) != tt.suites || len(x.catalogues) != tt.known {
				t.Errorf("%d suites and %d catalogues are known", len(x.suites), len(x.catalogues))
			}
			r.publish(t, x, dists)
			if !x.Lookup(dists+"/"+list, alice).Parse {
				t.Error("the list is not wanted")
			}
			r.parse(t, x, dists, list)
			x.tidy()
			wantEntry(t, openIndex(t, cfg).Lookup(base+"/pool/a.deb", alice), KindFile, "a")
		})
	}
}

func TestOpenNeeds(t *testing.T) {
	if _, err := Open(Config{Dir: t.TempDir()}); err == nil {
		t.Error("opened without Trust")
	}
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	if _, err := Open(Config{Dir: file, Trust: loadTrust(t)}); err == nil {
		t.Error("opened a file as directory")
	}
}

func TestTidySweepsItsOwnFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Dir: t.TempDir(), Trust: loadTrust(t)}
		x := openIndex(t, cfg)
		for range keepGenerations + 2 {
			time.Sleep(time.Hour)
			r := stable(time.Now(), "pool/a.deb", time.Now().String())
			r.publish(t, x, dists)
			r.parse(t, x, dists, list)
		}
		write(t, filepath.Join(cfg.Dir, tempPrefix+"1"), []byte("cut short"))
		write(t, filepath.Join(cfg.Dir, "README"), []byte("not ours"))
		x.tidy()
		entries, err := os.ReadDir(cfg.Dir)
		check(t, err)
		if want := 2*keepGenerations + 2; len(entries) != want {
			t.Errorf("%d files are left, want %d: %v", len(entries), want, entries)
		}
	})
}

func TestBrokenCatalogueIsWantedAgain(t *testing.T) {
	cfg, _ := kept(t)
	x := openIndex(t, cfg)
	check(t, os.Truncate(glob(t, cfg.Dir, "*.cat"), 0))
	if e := x.Lookup(base+"/pool/a.deb", alice); e.Kind != KindUnknown {
		t.Errorf("got %+v", e)
	}
	x.tidy()
	if !x.Lookup(dists+"/"+list, alice).Parse {
		t.Error("not wanted")
	}
}

func TestRunSavesAndTidies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Dir: t.TempDir(), Trust: loadTrust(t)}
		x := openIndex(t, cfg)
		ctx, stop := contextWithStop(t)
		done := make(chan error)
		go func() { done <- x.Run(ctx) }()
		root := stable(time.Now(), "pool/a.deb", "a").publish(t, x, dists)
		time.Sleep(3 * time.Hour)
		x.GaveRoot(dists+"/InRelease", root, alice)
		given := time.Now()
		time.Sleep(2 * saveTime)
		if used := openIndex(t, cfg).suites[dists].lastUsed(); !used.Equal(given) {
			t.Errorf("saved that it was used at %v, want %v", used, given)
		}
		x.GaveRoot(dists+"/InRelease", root, alice)
		given = time.Now()
		stop()
		check(t, <-done)
		if used := openIndex(t, cfg).suites[dists].lastUsed(); !used.Equal(given) {
			t.Errorf("saved at the end that it was used at %v, want %v", used, given)
		}
	})
}

func TestStateIsOnePlainFile(t *testing.T) {
	cfg, r := kept(t)
	raw, err := os.ReadFile(filepath.Join(cfg.Dir, stateFile))
	check(t, err)
	for _, want := range []string{dists, `"trusted":true`, `"asked":["` + list + `"]`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%s is missing in %s", want, raw)
		}
	}
	text, err := os.ReadFile(glob(t, cfg.Dir, "*.release"))
	check(t, err)
	if !bytes.Equal(bytes.TrimSpace(text), []byte(strings.TrimSpace(r.release()))) {
		t.Error("the signed text was not kept")
	}
}
