// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	// keepNotes is how long what was found out is believed, keepNothing how long
	// that there is no proxy: it may have been too slow just then. One that has
	// gone is noticed at once all the same, because it is asked each time.
	keepNotes   = 30 * time.Second
	keepNothing = 10 * time.Second

	// maxNotes bounds the file, in bytes, and maxVerdicts the URLs in it.
	maxNotes    = 64 << 10
	maxVerdicts = 100

	notesFile = "notes.json"
)

// notes are what a detect leaves to the next: apt runs one for each host.
type notes struct {
	// Network is where they hold: see discovery.Links.
	Network string `json:"network"`
	// Searched is when Proxies, HOST:PORT, were found to be all there are.
	Searched time.Time `json:"searched"`
	Proxies  []string  `json:"proxies"`
	// Verdicts says by proxy and host whether the one serves the other.
	Verdicts map[string]verdict `json:"verdicts"`

	changed bool
}

type verdict struct {
	Serves bool      `json:"serves"`
	At     time.Time `json:"at"`
}

// isFresh reports whether what was noted at a time and is kept so long holds now.
func isFresh(at, now time.Time, kept time.Duration) bool {
	age := now.Sub(at)
	return 0 <= age && age < kept
}

// forget drops what is too old.
func (n *notes) forget(now time.Time) {
	kept := keepNotes
	if len(n.Proxies) == 0 {
		kept = keepNothing
	}
	if !isFresh(n.Searched, now, kept) {
		n.Searched, n.Proxies = time.Time{}, nil
	}
	maps.DeleteFunc(n.Verdicts, func(_ string, v verdict) bool { return !isFresh(v.At, now, keepNotes) })
}

// found notes what a search found.
func (n *notes) found(proxies []greeted, now time.Time) {
	n.Searched, n.Proxies, n.changed = now, nil, true
	for _, o := range proxies {
		n.Proxies = append(n.Proxies, o.addr)
	}
}

// judge notes whether the proxy at addr serves a target.
func (n *notes) judge(addr string, t target, serves bool, now time.Time) {
	if n.Verdicts == nil {
		n.Verdicts = make(map[string]verdict)
	}
	if len(n.Verdicts) < maxVerdicts {
		n.Verdicts[verdictKey(addr, t)] = verdict{serves, now}
		n.changed = true
	}
}

func (n *notes) verdict(addr string, t target) (serves, known bool) {
	v, known := n.Verdicts[verdictKey(addr, t)]
	return v.Serves, known
}

func verdictKey(addr string, t target) string {
	return fmt.Sprintf("%s %v %s", addr, t.secure, t.authority())
}

// notebook keeps the notes of one user in a directory of theirs. Without one,
// dir is nil, nothing is kept.
type notebook struct {
	dir *os.Root
	log *slog.Logger
}

// openNotebook takes the first directory that will do: in that of the session or
// the system for what lasts no longer than they, else in /tmp, where anybody can
// be first and keep us from having one.
func openNotebook(log *slog.Logger) *notebook {
	dir := cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), "/run")
	places := []string{filepath.Join(dir, "apt-dht-detect"),
		filepath.Join(os.TempDir(), "apt-dht-detect-"+strconv.Itoa(os.Geteuid()))}
	for _, place := range places {
		dir, err := openPrivate(place)
		if err == nil {
			return &notebook{dir, log}
		}
		log.Debug("notes cannot be kept in a directory", "err", err)
	}
	return &notebook{nil, log}
}

// openPrivate opens a directory, which it makes if need be, that nobody else
// can write to. A symbolic link is no such directory, whoever made it.
func openPrivate(path string) (*os.Root, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	seen, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	owner, ok := seen.Sys().(*syscall.Stat_t)
	if !ok || !seen.IsDir() || seen.Mode().Perm() != 0o700 || int(owner.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s is not a directory of this user alone", path)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	opened, err := root.Stat(".")
	if err != nil || !os.SameFile(seen, opened) {
		root.Close()
		return nil, fmt.Errorf("%s was exchanged for something else", path)
	}
	return root, nil
}

// read returns the notes for a network; none if there are none that are of use.
func (b *notebook) read(network string, now time.Time) *notes {
	if b.dir != nil {
		n, err := b.load()
		if err == nil && n.Network == network {
			n.forget(now)
			return n
		}
		b.log.Debug("no notes from before are used", "err", err)
	}
	return &notes{Network: network}
}

func (b *notebook) load() (*notes, error) {
	// A pipe of that name, say, must not block.
	f, err := b.dir.OpenFile(notesFile, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxNotes))
	if err != nil {
		return nil, err
	}
	n := new(notes)
	return n, json.Unmarshal(body, n)
}

// write replaces the notes. That it failed, on a full disk say, is no reason to
// answer apt differently.
func (b *notebook) write(n *notes) {
	if b.dir == nil || !n.changed {
		return
	}
	body, err := json.Marshal(n)
	if err == nil {
		err = b.replace(body)
	}
	if err != nil {
		b.log.Debug("the notes were not kept", "err", err)
	}
}

func (b *notebook) replace(body []byte) error {
	draft := notesFile + "." + strconv.Itoa(os.Getpid())
	err := b.dir.WriteFile(draft, body, 0o600)
	if err == nil {
		err = b.dir.Rename(draft, notesFile)
	}
	if err != nil {
		b.dir.Remove(draft)
	}
	return err
}
