// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"apt-dht/store"
)

// BenchmarkMemory loads the records of a million files in 25,000 directories from a cache, finds them all
// present, and measures what is kept, watches included.
func BenchmarkMemory(b *testing.B) {
	const files, dirs = 1_000_000, 25_000
	cfg := Config{Dir: b.TempDir(), Cache: b.TempDir(), Log: slog.New(slog.DiscardHandler)}
	s := must(Open(cfg))
	for i := range files {
		r := fakeRecord(i)
		must(s.journal.append(&r, nil))
	}
	size := s.journal.end
	check(b, s.Close())
	s = nil
	for b.Loop() {
		before := heap()
		start := time.Now()
		s = must(Open(cfg))
		b.ReportMetric(time.Since(start).Seconds(), "s/load")
		for i := range files {
			r := fakeRecord(i)
			if !s.see(r.path, &meta{stamp: r.stamp}) {
				b.Fatal("not known")
			}
		}
		s.watch = must(newWatcher(s.box))
		for i := range int32(dirs) {
			s.watch.dirs[i] = watched{path: filepath.Dir(fakeRecord(int(i) * 40).path)}
		}
		b.ReportMetric((heap()-before)/files, "B/file")
		start = time.Now()
		n := 0
		for range s.Each {
			n++
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/each")
		if n != files {
			b.Fatalf("%d blobs", n)
		}
		s.watch.close()
		check(b, s.Close())
	}
	b.ReportMetric(float64(size)/files, "cacheB/file")
}

func fakeRecord(i int) record {
	var d Digest
	binary.BigEndian.PutUint64(d[:], uint64(i)*0x9e3779b97f4a7c15)
	return record{
		path:   fmt.Sprintf("pool/main/libr/libreoffice-%d/libreoffice-core-nogui_%d_amd64.deb", i/40, i),
		stamp:  stamp{size: 1000, mtime: int64(i), ctime: int64(i) + 1, ino: uint64(i) + 1},
		digest: d,
	}
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// benchSet offers n files of a size, 25 in a directory, and runs until the benchmark ends.
func benchSet(b *testing.B, n, size int) (*Set, []Digest) {
	b.Helper()
	dir := b.TempDir()
	check(b, os.Chmod(dir, 0o755))
	digests := make([]Digest, n)
	for i := range n {
		data := random(size)
		digests[i] = sha256.Sum256(data)
		path := filepath.Join(dir, fmt.Sprintf("pool/main/p/package-%d/file-%d.deb", i/25, i))
		check(b, os.MkdirAll(filepath.Dir(path), 0o755))
		check(b, os.WriteFile(path, data, 0o644))
	}
	s := must(Open(Config{Dir: dir, Cache: b.TempDir(), Rate: 1 << 40, Rest: testRest, Log: slog.New(slog.DiscardHandler)}))
	time.Sleep(2 * testRest) // so that all has rested
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for s.Stats().Files < n {
		time.Sleep(time.Millisecond)
	}
	b.Cleanup(func() {
		cancel()
		check(b, <-done)
		check(b, s.Close())
	})
	return s, digests
}

func BenchmarkGet(b *testing.B) {
	s, digests := benchSet(b, 1000, 100)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		must(s.Get(digests[i%len(digests)])).Close()
		i++
	}
}

func BenchmarkGetUnknown(b *testing.B) {
	s, _ := benchSet(b, 1000, 100)
	b.ReportAllocs()
	var d Digest
	for b.Loop() {
		d[7]++
		if _, err := s.Get(d); err == nil {
			b.Fatal("found")
		}
	}
}

func BenchmarkStat(b *testing.B) {
	s, digests := benchSet(b, 1000, 100)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, ok := s.Stat(digests[i%len(digests)]); !ok {
			b.Fatal("not found")
		}
		i++
	}
}

func BenchmarkPieces(b *testing.B) {
	s, digests := benchSet(b, 1, 64*store.PieceSize)
	for b.Loop() {
		must(s.Pieces(digests[0]))
	}
}

// BenchmarkScan scans 100,000 files of which all are known.
func BenchmarkScan(b *testing.B) {
	const n = 100_000
	dir := b.TempDir()
	check(b, os.Chmod(dir, 0o755))
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("pool/main/p/package-%d/file-%d.deb", i/25, i))
		check(b, os.MkdirAll(filepath.Dir(path), 0o755))
		check(b, os.WriteFile(path, binary.BigEndian.AppendUint64(nil, uint64(i)), 0o644))
	}
	s := must(Open(Config{Dir: dir, Cache: b.TempDir(), Rate: 1 << 40, Rest: time.Nanosecond, Log: slog.New(slog.DiscardHandler)}))
	defer s.Close()
	s.scan(b.Context())
	s.ticked = time.Now().Add(time.Hour)
	start := time.Now()
	check(b, s.hashWaiting(b.Context()))
	hashing := time.Since(start)
	for b.Loop() {
		s.scan(b.Context())
	}
	if s.table.present != n {
		b.Fatalf("%d present", s.table.present)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/n, "µs/file")
	b.ReportMetric(float64(hashing.Microseconds())/n, "µs/small-file-hashed")
}

// BenchmarkHash hashes a file of 256 MiB that is in the page cache.
func BenchmarkHash(b *testing.B) {
	const size = 256 << 20
	dir := b.TempDir()
	check(b, os.WriteFile(filepath.Join(dir, "file"), make([]byte, size), 0o644))
	s := must(Open(Config{Dir: dir, Cache: b.TempDir(), Rate: 1 << 50, Log: slog.New(slog.DiscardHandler)}))
	defer s.Close()
	f := must(os.Open(filepath.Join(dir, "file")))
	defer f.Close()
	s.ticked = time.Now().Add(time.Hour)
	b.SetBytes(size)
	for b.Loop() {
		if _, _, err := s.sum(b.Context(), f, size); err != nil {
			b.Fatal(err)
		}
	}
}
