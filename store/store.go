// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"
)

// A Store is a directory of blobs. All methods may be called from several goroutines.
type Store struct {
	cfg    Config
	log    *slog.Logger
	lock   *os.File
	mark   stopMark
	table  *table
	rows   *rows
	free   func() (int64, error) // bytes free on the disk
	closed atomic.Bool

	verifying singleflight.Group
	scrub     chan Digest // blobs that Run is to verify
	urlPuts   atomic.Int64

	// publishMu lets one goroutine at a time rename into or unlink from blobs. It is held for these
	// calls alone, never while bytes are read or written.
	publishMu sync.Mutex
	// metaMu: whoever writes what is known of a blob has looked at what was known before.
	metaMu sync.Mutex

	evictMu   sync.Mutex // one eviction at a time; guards following
	fullUntil time.Time  // the disk is full and nothing can be evicted for it

	writersMu sync.Mutex // guards following
	writers   map[Digest]struct{}
}

// Open opens the store in cfg.Dir, making it if it is not there. The error is ErrLocked when another
// process has it. The caller ends with Close; Run does the work that comes up meanwhile.
func Open(cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errNoDir
	}
	if err := makeDirs(cfg.Dir); err != nil {
		return nil, err
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg:     cfg,
		log:     cfg.Log,
		lock:    lock,
		mark:    stopMark{filepath.Join(cfg.Dir, markFile)},
		table:   newTable(),
		free:    func() (int64, error) { return diskFree(cfg.Dir) },
		scrub:   make(chan Digest, 256),
		writers: make(map[Digest]struct{}),
	}
	if err := s.load(); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

func makeDirs(dir string) error {
	for _, d := range []string{dir, filepath.Join(dir, "blobs"), filepath.Join(dir, "partial")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("store: %w (the directory must be writable for this user)", err)
		}
		if err := unix.Access(d, unix.W_OK|unix.X_OK); err != nil {
			return fmt.Errorf("store: %s is not writable for this user: %w", d, err)
		}
	}
	return nil
}

// load reads what the directory holds. The directory walk and the opening of the database take
// about the same time, so they run side by side.
func (s *Store) load() error {
	s.removeTemps()
	s.removeOrphans()
	opened := make(chan *rows, 1)
	go func() { opened <- openRows(filepath.Join(s.cfg.Dir, "badger"), s.log, s.free) }()
	found, err := walkBlobs(filepath.Join(s.cfg.Dir, "blobs"), s.log)
	s.rows = <-opened
	if err == nil {
		s.adopt(found)
		err = s.mark.set("running")
	}
	if err != nil {
		return errors.Join(err, s.rows.close())
	}
	return nil
}

// Close writes down what is known and gives the directory free. Growing blobs must have been ended
// and Run must have returned. Further calls do nothing.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.publishMu.Lock() // no publish is under way from here on
	defer s.publishMu.Unlock()
	flushed := s.flush()
	err := s.rows.close()
	if errors.Is(err, ErrNoSpace) {
		s.log.Warn("store: no disk space to close the database; its log is kept", "error", err)
		err = nil
	}
	if flushed == nil {
		err = errors.Join(err, s.mark.set("closed"))
	}
	return errors.Join(err, s.lock.Close())
}

// flush writes last uses and verifications, which the table holds, to the database.
func (s *Store) flush() error {
	touched := s.table.takeTouched()
	batch := make([]row, 0, len(touched))
	for d, e := range touched {
		batch = append(batch, encodeTimes(d, e))
	}
	if err := s.rows.write(batch); err != nil {
		s.table.touch(touched)
		return err
	}
	return s.rows.flush()
}

// Stat returns the size in bytes of a blob that is here. It does no I/O.
func (s *Store) Stat(d Digest) (size int64, ok bool) {
	e, ok := s.table.get(d)
	return e.size, ok
}

// Usage returns how many blobs there are, their bytes, and how many bytes there may be.
func (s *Store) Usage() (blobs int, bytes, quota int64) {
	blobs, bytes = s.table.usage()
	return blobs, bytes, s.cfg.Quota
}

// blobPath is Dir/blobs/ab/abcd…
func (s *Store) blobPath(d Digest) string {
	const tail = len("/blobs/ab/") + 2*len(Digest{})
	b := make([]byte, 0, len(s.cfg.Dir)+tail)
	b = append(b, s.cfg.Dir...)
	b = append(b, "/blobs/"...)
	b = hex.AppendEncode(b, d[:1])
	b = append(b, '/')
	return string(hex.AppendEncode(b, d[:]))
}

func (s *Store) partialDir() string { return filepath.Join(s.cfg.Dir, "partial") }

func (s *Store) partialPath(d Digest) string {
	return filepath.Join(s.partialDir(), hex.EncodeToString(d[:]))
}

// tempPrefix begins the names of partial files that cannot be resumed.
const tempPrefix = "tmp-"

func (s *Store) tempPath() string { return filepath.Join(s.partialDir(), tempPrefix+rand.Text()) }
