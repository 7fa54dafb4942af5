// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"apt-dht/proxy/fetch"
	"apt-dht/proxy/wan"
	"apt-dht/store"
	"apt-dht/store/inplace"
)

type shareCmd struct {
	configFlag
	internetSettings
	placeSettings
	logSettings

	BaseURI baseURI `name:"base-uri" env:"-" placeholder:"URL" help:"Where DIR is served by HTTP too: it is checked whether it is, and told what users are to write."`
	Dir     string  `arg:"" type:"existingdir" help:"A repository, a mirror, a cache: any directory with packages beneath it."`
}

// Help is printed by kong after the flags' summary.
func (shareCmd) Help() string {
	return `The files stay where they are; nothing is copied, and nothing is written to DIR. Each is read once to
learn its SHA-256, by which nodes on the internet then find it and fetch it from here, at --upload-limit
in all. New and changed files are noticed, and removed ones are not given any more.

Only what every user of this machine may read is given: regular files in directories that everybody
may enter, none of them hidden. Of more than 32768 files the newest are announced; the others, too,
are given to nodes that ask.

Nodes of the local network find these files by the DHT alone; what serves them is 'apt-dht serve'.`
}

// shareConfig is what share needs, validated.
type shareConfig struct {
	Internet internetConfig
	// DataDir is where the hashes are kept. Absolute.
	DataDir string
	// Dir is what is offered. Absolute.
	Dir string
	// Base is where Dir is served by HTTP too. The zero value: nowhere.
	Base baseURI
}

// Run offers the directory until ctx ends.
func (c *shareCmd) Run(ctx context.Context, io *streams) error {
	cfg := shareConfig{Dir: c.Dir, Base: c.BaseURI}
	var err error
	if cfg.Internet, err = c.internetSettings.config(); err != nil {
		return err
	}
	if cfg.DataDir, err = c.placeSettings.config(); err != nil {
		return err
	}
	return share(ctx, cfg, c.logger(io.err), io.out)
}

// sharer is what share runs.
type sharer struct {
	cfg      shareConfig
	set      *inplace.Set
	internet *internet
	log      *slog.Logger
}

// share offers a directory until ctx ends; out is told what users are to write.
func share(ctx context.Context, cfg shareConfig, log *slog.Logger, out io.Writer) error {
	slog.SetDefault(log) // for libraries that log by themselves
	s := &sharer{cfg: cfg, log: log}
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.close()
	log.Info("sharing a directory", "dir", cfg.Dir, "hashes", s.cacheDir())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.set.Run(ctx) })
	group.Go(func() error { return s.internet.run(ctx, nil) })
	group.Go(func() error { return s.report(ctx) })
	if cfg.Base.url != nil {
		group.Go(func() error { return tellUsers(ctx, cfg, log, out) })
	}
	notify(log, ready)
	err := group.Wait()
	notify(log, stopping)
	s.summarise()
	return err
}

// open makes the parts; close undoes it.
func (s *sharer) open(ctx context.Context) error {
	if err := s.makeDataDir(); err != nil {
		return err
	}
	if err := s.openSet(); err != nil {
		return err
	}
	err := s.join(ctx)
	if err != nil {
		s.set.Close()
	}
	return err
}

// makeDataDir makes the directory for the hashes, and turns root into its owner:
// who answers strangers needs no rights, and only what everybody may read is given.
func (s *sharer) makeDataDir() error {
	if err := os.MkdirAll(s.cfg.DataDir, 0o755); err != nil {
		return fmt.Errorf("data-dir: %w", err)
	}
	return becomeOwner(s.cfg.DataDir)
}

// cacheDir is the directory of this share alone.
func (s *sharer) cacheDir() string {
	sum := sha256.Sum256([]byte(s.cfg.Dir))
	return filepath.Join(s.cfg.DataDir, fmt.Sprintf("share-%x", sum[:8]))
}

func (s *sharer) openSet() (err error) {
	root, err := os.OpenRoot(s.cfg.Dir) // else the first scan would be the one to complain
	if err == nil {
		root.Close()
		s.set, err = inplace.Open(inplace.Config{Dir: s.cfg.Dir, Cache: s.cacheDir(), Changed: s.changed, Log: s.log})
	}
	switch {
	case errors.Is(err, store.ErrLocked):
		return fmt.Errorf("%s is being shared already: stop the other 'apt-dht share' first: %w", s.cfg.Dir, store.ErrLocked)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: share runs as the owner of %s, who may not get there", err, s.cfg.DataDir)
	}
	return err
}

// join builds the part in the internet. A taken port is an error: without it
// there is nothing to do.
func (s *sharer) join(ctx context.Context) error {
	open, err := openSockets(ctx, s.cfg.Internet.Listen, true)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w; where 'apt-dht serve' has it, give share a port of its own, as --wan-listen :9979", err)
	}
	if err != nil {
		return err
	}
	s.internet, err = newInternet(s.cfg.Internet, open, wan.Config{Open: s.give, Pieces: s.set.Pieces},
		filepath.Join(s.cacheDir(), "dht-nodes"), nil, s.log)
	if err != nil {
		open.close()
	}
	return err
}

func (s *sharer) close() {
	s.internet.sockets.close() // if run has not
	if err := s.set.Close(); err != nil {
		s.log.Error("closing the hashes", "err", err)
	}
}

// give opens a file for another node.
func (s *sharer) give(d store.Digest) (*fetch.Shared, error) {
	blob, err := s.set.Get(d)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fetch.ErrNotHere
	}
	if err != nil {
		return nil, err
	}
	return &fetch.Shared{
		Size: blob.Size, Modified: blob.Modified, File: blob.File,
		Unchanged: blob.Unchanged, Release: func() { blob.Close() },
	}, nil
}

// changed tells others what has come and gone. What was published last is
// announced first: it is what will be wanted.
func (s *sharer) changed(added, gone []store.Digest) {
	now := time.Now()
	for _, d := range added {
		published, err := s.set.Modified(d)
		if err != nil || published.After(now) {
			published = now
		}
		s.internet.wan.Have(d, published)
	}
	for _, d := range gone {
		s.internet.wan.Gone(d)
	}
}
