// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"apt-dht/store"
)

// A Digest is a blob's name: the SHA-256 of its bytes.
type Digest = store.Digest

const (
	// defaultRate takes a terabyte in about four hours, and a fifth of what a hard disk can do.
	defaultRate = 64 << 20
	// defaultRest is longer than any file system's or server's grain of time, and than the pauses of
	// a download that is alive.
	defaultRest = 5 * time.Second
	// defaultVerify reads a terabyte at 400 kB/s.
	defaultVerify = 30 * 24 * time.Hour
	// defaultFiles takes about 250 MB of memory, and holds all of Debian, Ubuntu and their archives.
	defaultFiles = 4 << 20

	// rescanWatched is how often a directory is scanned of which the kernel tells every change.
	rescanWatched = 24 * time.Hour
	// rescanUnwatched is how often one is scanned that is on a network file system or too large to watch.
	rescanUnwatched = time.Hour
)

// Config says which directory is offered, and what that may cost.
type Config struct {
	// Dir is the directory whose files are the blobs. It may be a symbolic link, which is followed
	// anew at each use. Nothing is ever written to it. Required.
	Dir string
	// Cache is a directory of this Set alone, made if missing, where what was hashed is kept between
	// starts: about 200 bytes a file, and 32 bytes for each MiB. It must not be within Dir. Required.
	Cache string
	// Changed is told which blobs there are now that were not there before, and which are gone; at
	// first there are none. It is called from within Run, without locks, with at most 512 of each and
	// none twice; the slices are its own only until it returns. Nil: nobody is told.
	Changed func(added, gone []Digest)
	// Rate bounds the bytes read per second for hashing. Zero: 64 MiB.
	Rate int64
	// Rest is for how long a file must have been left alone before it is hashed. Zero: 5 s.
	Rest time.Duration
	// Rescan is how often the whole directory is looked through. Zero: once a day where the kernel
	// tells of changes, else once an hour.
	Rescan time.Duration
	// Verify is the time in which every file is read once more, in case it has gone bad on disk.
	// Zero: 30 days. Negative: never.
	Verify time.Duration
	// MaxFiles bounds the files, each of which takes about 55 bytes of memory; others are left out. Zero:
	// 4,194,304.
	MaxFiles int
	// Log gets what the operator should know. Nil: slog.Default.
	Log *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" || c.Cache == "" {
		return c, errors.New("inplace: a directory to offer and one for the cache are needed")
	}
	if c.Rate < 0 || c.Rest < 0 || c.Rescan < 0 || c.MaxFiles < 0 || c.MaxFiles > maxEntries {
		return c, fmt.Errorf("inplace: rate %d, rest %v and rescan %v must not be negative, nor files %d, which are at most %d",
			c.Rate, c.Rest, c.Rescan, c.MaxFiles, maxEntries)
	}
	c.Rate = or(c.Rate, defaultRate)
	c.Rest = or(c.Rest, defaultRest)
	c.Verify = or(c.Verify, defaultVerify)
	c.MaxFiles = or(c.MaxFiles, defaultFiles)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, c.absolute()
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// absolute makes both paths absolute, and sees to it that the cache is not written into Dir.
func (c *Config) absolute() (err error) {
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return fmt.Errorf("inplace: %w", err)
	}
	if c.Cache, err = filepath.Abs(c.Cache); err != nil {
		return fmt.Errorf("inplace: %w", err)
	}
	info, err := os.Stat(c.Dir)
	if err != nil {
		return fmt.Errorf("inplace: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("inplace: %s is not a directory", c.Dir)
	}
	dir, err := filepath.EvalSymlinks(c.Dir)
	if err != nil {
		return fmt.Errorf("inplace: %w", err)
	}
	cache := existing(c.Cache)
	if cache == dir || strings.HasPrefix(cache, strings.TrimSuffix(dir, "/")+"/") {
		return fmt.Errorf("inplace: the cache %s must not be within %s, which is never written to: choose another directory for it",
			c.Cache, c.Dir)
	}
	return nil
}

// existing returns where the deepest directory of path that exists really is.
func existing(path string) string {
	for {
		real, err := filepath.EvalSymlinks(path)
		if err == nil || path == filepath.Dir(path) {
			return real
		}
		path = filepath.Dir(path)
	}
}
