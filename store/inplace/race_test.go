// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"apt-dht/store"
)

// A vandal changes a directory in all ways there are.
type vandal struct {
	b   *bench
	rng *rand.Rand

	inPlace sync.RWMutex // held for writing while bytes change under a reader's eyes

	mu   sync.Mutex // guards following
	ever []Digest   // of all bytes that any file ever had
}

func (v *vandal) note(data []byte) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ever = append(v.ever, sha256.Sum256(data))
	return data
}

func (v *vandal) any() Digest {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ever[rand.IntN(len(v.ever))]
}

// file and dir return paths of which there are few, so that they meet again and again.
func (v *vandal) dir() string {
	return []string{"dists", "pool", "pool/a", "pool/b", ".v1", ".v2", "pool/a/deep"}[v.rng.IntN(7)]
}
func (v *vandal) file() string { return fmt.Sprintf("%s/f%d", v.dir(), v.rng.IntN(6)) }

// data has few sizes, so that changes do not show by size.
func (v *vandal) data() []byte {
	return v.note(random([]int{100, 100, 5000, 1_100_000}[v.rng.IntN(4)]))
}

// act does one thing. Errors are part of the game: paths are not always there, or of another kind.
func (v *vandal) act() {
	at, to := v.b.path(v.file()), v.b.path(v.file())
	switch v.rng.IntN(13) {
	case 0, 1, 2: // as a download
		os.MkdirAll(filepath.Dir(at), 0o755)
		os.WriteFile(at+".tmp", v.data(), 0o644)
		os.Rename(at+".tmp", at)
	case 3:
		os.MkdirAll(filepath.Dir(at), 0o755)
		v.overwrite(at, os.O_CREATE|os.O_TRUNC)
	case 4:
		v.overwrite(at, 0) // of the same size perhaps, and with the same mtime
	case 5:
		os.Remove(at)
	case 6:
		os.Rename(at, to)
	case 7:
		os.Link(at, to)
	case 8:
		os.Rename(v.b.path(v.dir()), v.b.path(v.dir()))
	case 9:
		os.Symlink(fmt.Sprintf(".v%d", 1+v.rng.IntN(2)), v.b.path("current.tmp"))
		os.Rename(v.b.path("current.tmp"), v.b.path("current"))
	case 10:
		os.Chmod(at, []os.FileMode{0o600, 0o644, 0o755}[v.rng.IntN(3)])
	case 11:
		os.RemoveAll(v.b.path(v.dir()))
	case 12:
		os.Chmod(v.b.path(v.dir()), []os.FileMode{0o700, 0o755, 0o755}[v.rng.IntN(3)])
	}
}

func (v *vandal) overwrite(path string, flags int) {
	v.inPlace.Lock()
	defer v.inPlace.Unlock()
	info, err := os.Stat(path)
	f, openErr := os.OpenFile(path, os.O_WRONLY|flags, 0o644)
	if openErr != nil {
		return
	}
	defer f.Close()
	f.Write(v.data())
	if err == nil {
		os.Chtimes(path, info.ModTime(), info.ModTime())
	}
	data, err := os.ReadFile(path)
	check(v.b.t, err)
	v.note(data)
}

// offered returns what a directory ought to offer.
func (v *vandal) offered() map[Digest]bool {
	out := make(map[Digest]bool)
	walk := func(top string) {
		check(v.b.t, filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			check(v.b.t, err)
			info, err := e.Info()
			check(v.b.t, err)
			hidden := path != top && strings.HasPrefix(e.Name(), ".")
			if e.IsDir() && (hidden || info.Mode()&0o005 != 0o005) {
				return filepath.SkipDir
			}
			if e.Type().IsRegular() && info.Mode()&0o004 != 0 && !strings.HasSuffix(path, ".tmp") {
				data, err := os.ReadFile(path)
				check(v.b.t, err)
				out[sha256.Sum256(data)] = true
			}
			return nil
		}))
	}
	walk(v.b.dir)
	if target, err := os.Readlink(v.b.path("current")); err == nil {
		if _, err := os.Stat(v.b.path(target)); err == nil {
			walk(v.b.path(target))
		}
	}
	return out
}

// TestAnything changes files at random while they are scanned, hashed and read. Whatever is given out
// hashes to its digest, and in the end just what is there is offered.
func TestAnything(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	b := newBench(t)
	v := &vandal{b: b, rng: rand.New(rand.NewPCG(seed, 0))}
	v.data()
	b.cfg.Verify = time.Second
	b.start()
	for round := range 3 {
		stop := make(chan struct{})
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() { v.read(stop) })
		}
		for range 300 {
			v.act()
			time.Sleep(time.Duration(v.rng.IntN(4)) * time.Millisecond) // so that some is hashed meanwhile
		}
		close(stop)
		readers.Wait()
		want := v.offered()
		t.Logf("round %d: %d blobs", round, len(want))
		b.eventually(fmt.Sprintf("round %d: just what is there (seed %d)", round, seed), func() bool {
			return b.offers(want)
		})
		if round == 1 {
			b.stop()
			b.start()
		}
	}
}

// offers reports whether just these blobs are told of, yielded and given out.
func (b *bench) offers(want map[Digest]bool) bool {
	b.mu.Lock()
	told := maps.Equal(b.blobs, want)
	b.mu.Unlock()
	yielded := make(map[Digest]bool)
	for d := range b.Each {
		yielded[d] = true
	}
	if !told || !maps.Equal(yielded, want) || b.Stats().Blobs != len(want) {
		return false
	}
	for d := range want {
		if b.read(d) == nil {
			return false
		}
	}
	return true
}

// read reads blobs at random, and one piece's state of each, until stop.
func (v *vandal) read(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
		d := v.any()
		v.inPlace.RLock()
		data := v.b.read(d) // which checks it
		v.inPlace.RUnlock()
		states, err := v.b.Pieces(d)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			v.b.t.Error(err)
		}
		if data != nil && err == nil && len(states) != (len(data)-1)/store.PieceSize {
			v.b.t.Errorf("%d states of %d bytes", len(states), len(data))
		}
	}
}

// TestCompactWhileReading rewrites the journal again and again under readers.
func TestCompactWhileReading(t *testing.T) {
	b := newBench(t)
	var digests []Digest
	for i := range 50 {
		digests = append(digests, b.write(fmt.Sprint(i), random(1000)))
	}
	b.start().comes(digests...)
	b.stop()
	s, err := Open(b.cfg)
	check(t, err)
	defer s.Close()
	b.Set, b.blobs = s, make(map[Digest]bool)
	s.scan(t.Context())
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if b.read(digests[rand.IntN(len(digests))]) == nil {
					t.Error("not given out")
				}
				n := 0
				for range s.Each {
					n++
				}
				if n != len(digests) {
					t.Errorf("Each yields %d", n)
				}
			}
		})
	}
	for range 100 {
		check(t, s.compact())
	}
	close(stop)
	readers.Wait()
	// 88 bytes and a path of one or two make 96.
	want := int64(len(journalHeader) + 96*len(digests))
	if info, err := os.Stat(s.journalPath()); err != nil || info.Size() != want || s.garbage != 0 {
		t.Errorf("journal: %v %v", info, err)
	}
}
