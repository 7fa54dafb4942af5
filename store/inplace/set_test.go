// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"crypto/sha256"
	"encoding"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"apt-dht/store"
)

func TestOffersWhatIsThere(t *testing.T) {
	b := newBench(t)
	small := b.write("pool/a.deb", random(10))
	same := b.write("dists/by-hash/SHA256/x", random(3000))
	data, err := os.ReadFile(b.path("dists/by-hash/SHA256/x"))
	check(t, err)
	b.write("dists/Packages", data)
	when := time.Unix(1_700_000_000, 0)
	check(t, os.Chtimes(b.path("pool/a.deb"), when, when))
	b.start().comes(small, same)
	b.eventually("all files are known", func() bool { return b.Stats() == Stats{Files: 3, Blobs: 2, Bytes: 3010, Scanned: true} })
	if size, ok := b.Stat(same); !ok || size != 3000 {
		t.Errorf("Stat = %d, %v", size, ok)
	}
	blob, err := b.Get(small)
	check(t, err)
	defer blob.Close()
	if at, err := b.Modified(small); err != nil || !at.Equal(when) {
		t.Errorf("Modified = %v, %v", at, err)
	}
	if !blob.Modified.Equal(when) || !blob.Shareable {
		t.Errorf("blob is %+v", blob)
	}
	got := make(map[Digest]int64)
	b.Each(func(d Digest, size int64) bool { got[d] += size; return true })
	if len(got) != 2 || got[small] != 10 || got[same] != 3000 {
		t.Errorf("Each yields %v", got)
	}
	for range b.Each {
		break
	}
	unknown := Digest{1}
	if _, err := b.Get(unknown); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of an unknown digest: %v", err)
	}
	if _, err := b.Modified(unknown); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Modified of an unknown digest: %v", err)
	}
}

func TestPieces(t *testing.T) {
	b := newBench(t)
	const size = 3*store.PieceSize + 5
	data := random(size)
	whole := b.write("whole", data[:2*store.PieceSize])
	d := b.write("odd", data)
	one := b.write("one", data[:store.PieceSize])
	b.start().comes(d, whole, one)
	for _, c := range []struct {
		d Digest
		n int
	}{{d, 3}, {whole, 1}, {one, 0}} {
		states, err := b.Pieces(c.d)
		check(t, err)
		var want []Digest
		h := sha256.New()
		for i := range c.n {
			h.Write(data[i*store.PieceSize : (i+1)*store.PieceSize])
			state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
			check(t, err)
			want = append(want, Digest(state[4:]))
		}
		if !slices.Equal(states, want) {
			t.Errorf("%d states, want %d, or other ones", len(states), c.n)
		}
	}
	if _, err := b.Pieces(Digest{1}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Pieces of an unknown digest: %v", err)
	}
}

func TestNothingIsHashedTwice(t *testing.T) {
	b := newBench(t)
	d := b.write("pool/a", random(5000))
	big := b.write("pool/big", random(2*store.PieceSize+1))
	b.start().comes(d, big)
	states, err := b.Pieces(big)
	check(t, err)
	b.stop()
	b.cfg.Rate = 1 // one byte a second: hashing would take for ever
	b.start().comes(d, big)
	again, err := b.Pieces(big)
	check(t, err)
	if !slices.Equal(states, again) {
		t.Error("other states after a new start")
	}
	b.rename("pool", "moved") // the inodes are known
	b.eventually("directory is found again", func() bool {
		return b.read(big) != nil && b.read(d) != nil && b.watching("moved")
	})
	b.remove("moved/big")
	b.goes(big)
}

func (b *bench) watching(rel string) bool {
	b.Set.watch.mu.Lock()
	defer b.Set.watch.mu.Unlock()
	for _, dir := range b.Set.watch.dirs {
		if dir.path == rel {
			return true
		}
	}
	return false
}

func TestCacheIsRebuilt(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"torn":      func(b []byte) []byte { return b[:len(b)-20] },
		"a byte":    func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"header":    func(b []byte) []byte { b[0] ^= 1; return b },
		"empty":     func(b []byte) []byte { return nil },
		"zeros":     func(b []byte) []byte { clear(b[100:]); return b },
		"more":      func(b []byte) []byte { return append(b, random(5000)...) },
		"misplaced": func(b []byte) []byte { return append(b[:16], append(make([]byte, 32), b[16:]...)...) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			digests := []Digest{b.write("a", random(100)), b.write("b", random(200)), b.write("c", random(300))}
			b.start().comes(digests...)
			b.stop()
			file := filepath.Join(b.cfg.Cache, "files")
			data, err := os.ReadFile(file)
			check(t, err)
			check(t, os.WriteFile(file, damage(data), 0o600))
			b.start().comes(digests...)
			if name != "empty" && b.log.count("the cache was damaged") != 1 {
				t.Error("damage was not logged")
			}
			b.stop()
			b.start().comes(digests...)
			if b.log.count("the cache was damaged") > 1 {
				t.Error("damage stays")
			}
		})
	}
}

func TestDamageWhileRunning(t *testing.T) {
	b := newBench(t)
	digests := []Digest{b.write("a", random(100)), b.write("b", random(2*store.PieceSize)), b.write("c", random(300))}
	b.start().comes(digests...)
	b.mu.Lock()
	clear(b.blobs) // of what is lost it cannot be told that it is gone
	b.mu.Unlock()
	data, err := os.ReadFile(filepath.Join(b.cfg.Cache, "files"))
	check(t, err)
	f, err := os.OpenFile(filepath.Join(b.cfg.Cache, "files"), os.O_WRONLY, 0)
	check(t, err)
	defer f.Close()
	_, err = f.WriteAt(random(len(data)-16), 16)
	check(t, err)
	for _, d := range digests {
		if b.read(d) != nil {
			t.Error("given out by a damaged record")
		}
	}
	b.comes(digests...)
	if got := b.Stats(); got.Blobs != 3 || got.Bytes != 400+2*store.PieceSize {
		t.Errorf("stats %+v", got)
	}
}

func TestOpenErrors(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	check(t, os.Symlink(dir, filepath.Join(cache, "link")))
	for name, cfg := range map[string]Config{
		"nothing":              {},
		"no cache":             {Dir: dir},
		"no such directory":    {Dir: filepath.Join(dir, "none"), Cache: cache},
		"a file":               {Dir: filepath.Join(dir, "file"), Cache: cache},
		"cache within":         {Dir: dir, Cache: filepath.Join(dir, "new", "cache")},
		"cache is it":          {Dir: dir, Cache: dir},
		"cache within by link": {Dir: dir, Cache: filepath.Join(cache, "link", "cache")},
		"within the root":      {Dir: "/", Cache: cache},
		"negative":             {Dir: dir, Cache: cache, Rate: -1},
		"too many":             {Dir: dir, Cache: cache, MaxFiles: maxEntries + 1},
	} {
		if s, err := Open(cfg); err == nil {
			t.Errorf("%s: no error", name)
			s.Close()
		}
	}
	s, err := Open(Config{Dir: dir, Cache: cache})
	check(t, err)
	if _, err := Open(Config{Dir: dir, Cache: cache}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("second Open: %v", err)
	}
	check(t, s.Close())
	check(t, s.Close())
	if _, err := s.Get(Digest{}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
	for range s.Each {
		t.Error("Each after Close")
	}
	entries, err := os.ReadDir(dir)
	check(t, err)
	if len(entries) != 1 {
		t.Errorf("something was written to the directory: %v", entries)
	}
}

func TestMaxFiles(t *testing.T) {
	b := newBench(t)
	b.cfg.MaxFiles = 2
	for _, name := range []string{"a", "b", "c", "d"} {
		b.write(name, random(100))
	}
	b.start()
	b.eventually("the bound is met", func() bool { return b.log.count("too many files") == 1 })
	b.eventually("all were seen", func() bool { s := b.Stats(); return s.Waiting == 0 && s.Blobs == 2 })
}

func TestStopsInTheMiddle(t *testing.T) {
	b := newBench(t)
	b.cfg.Rate = 1000
	d := b.write("a", random(1<<20))
	b.start()
	b.eventually("it waits", func() bool { return b.Stats().Waiting == 1 && b.Stats().WaitingBytes == 1<<20 })
	b.stop()
	b.cfg.Rate = 1 << 40
	b.start().comes(d)
}
