// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func BenchmarkOpenBare(b *testing.B) {
	s := open(b, Config{})
	content, d := blob(1, 14_000)
	add(b, s, content, Meta{})
	path := s.blobPath(d)
	b.ReportAllocs()
	for b.Loop() {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b, Config{})
	content, d := blob(1, 14_000)
	add(b, s, content, Meta{})
	b.ReportAllocs()
	for b.Loop() {
		blob, err := s.Get(d)
		if err != nil {
			b.Fatal(err)
		}
		blob.Close()
	}
}

func BenchmarkStat(b *testing.B) {
	s := open(b, Config{})
	fillTable(s, 20_000)
	_, d := blob(7, 16)
	b.ReportAllocs()
	for b.Loop() {
		s.Stat(d)
	}
}

func fillTable(s *Store, n int) {
	for i := range n {
		_, d := blob(uint64(i), 16) // of one byte there are but 256
		s.table.put(d, entry{size: 1, verified: seconds(time.Now())})
	}
}

func BenchmarkStore14kB(b *testing.B) {
	s := open(b, Config{Quota: 1 << 30})
	b.SetBytes(14_000)
	content, _ := blob(1, 14_000)
	for i := 0; b.Loop(); i++ {
		copy(content, fmt.Sprint(i))
		if _, err := put(s, content, Meta{Origin: "http://deb.debian.org/debian/pool/main/h/hello/hello_2.10-3_amd64.deb"}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	s := open(b, Config{Quota: 1 << 40})
	g, err := s.Create(Digest{1}, -1)
	if err != nil {
		b.Fatal(err)
	}
	defer g.Discard(nil)
	buf := make([]byte, 32<<10)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if g.Len() > 256<<20 {
			b.StopTimer()
			g.Discard(nil)
			if g, err = s.Create(Digest{1}, -1); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		if _, err := g.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen20k measures a restart with 20,000 blobs.
func BenchmarkOpen20k(b *testing.B) {
	s := open(b, Config{})
	if err := populate(s, 20_000); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		s = open(b, s.cfg)
		b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "ms/Open")
	}
}

// populate makes n small blobs with the rows that Commit writes, at less cost.
func populate(s *Store, n int) error {
	var batch []row
	for i := range n {
		content := fmt.Appendf(nil, "blob %d", i)
		c := newChain()
		c.Write(content)
		path := s.blobPath(c.sum())
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, fileMode)); err != nil {
			return err
		}
		e := entry{size: c.n, used: time.Now().UnixNano(), verified: seconds(time.Now())}
		s.table.put(c.sum(), e)
		m := Meta{Added: time.Now(), Modified: time.Now(), ContentType: packageType, Origin: "http://deb.debian.org/debian/pool/main/h/hello/hello_2.10-3_amd64.deb"}
		batch = append(batch, encodeMeta(c.sum(), m), encodeTimes(c.sum(), e))
	}
	return s.rows.write(batch)
}

// maxResident is what a process may take that holds a store of 20,000 blobs: measured were 19 MB, of
// which 9 are the Go runtime and the test binary's.
func maxResident() int {
	if raceEnabled {
		return 100 << 20 // the race detector's own memory
	}
	return 24 << 20
}

func TestMemory(t *testing.T) {
	s := open(t, Config{})
	if err := populate(s, 20_000); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := child(t, "memory", s.cfg.Dir).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

func memoryChild() error {
	before := resident()
	start := time.Now()
	s, err := Open(Config{Dir: os.Args[1], FreeFloor: 1})
	if err != nil {
		return err
	}
	took := time.Since(start)
	afterOpen := resident()
	for range 3 {
		s.tidy()
		runtime.GC()
	}
	n, _, _ := s.Usage()
	slog.Info("memory", "blobs", n, "before_kB", before>>10, "after_open_kB", afterOpen>>10, "idle_kB", resident()>>10, "open", took)
	if n != 20_000 || resident() > maxResident() {
		return fmt.Errorf("%d blobs take %d kB", n, resident()>>10)
	}
	return s.Close()
}

// resident returns the bytes of RAM this process has.
func resident() (bytes int) {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	return 0
}

// BenchmarkEachBlob65k measures what a change of the LAN's members asks for.
func BenchmarkEachBlob65k(b *testing.B) {
	s := open(b, Config{})
	fillTable(s, 65_000)
	if err := s.Announced(s.table.digests(), time.Now()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, at := range s.EachBlob {
			if at.IsZero() {
				b.Fatal("a blob counts as not announced")
			}
		}
	}
}

// A large blob that needs little memory: benchPieces times the same piece.
const benchPieces = 1 << 10

func largeBlob() (piece []byte, starts []Digest, d Digest) {
	piece, _ = blob(1, PieceSize)
	c := newChain()
	for range benchPieces {
		c.Write(piece)
	}
	return piece, append([]Digest{initialState}, c.inner()...), c.sum()
}

// benchLarge measures how a blob of 1 GiB gets in, up to its Commit.
func benchLarge(b *testing.B, fill func(g *Growing, piece []byte, starts []Digest) error) {
	s := open(b, Config{Quota: 4 << 30})
	piece, starts, d := largeBlob()
	b.SetBytes(benchPieces * PieceSize)
	for b.Loop() {
		g, err := s.Create(d, benchPieces*PieceSize)
		if err != nil {
			b.Fatal(err)
		}
		if err := fill(g, piece, starts); err != nil {
			b.Fatal(err)
		}
		if _, err := g.Commit(Meta{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		s.remove(d)
		b.StartTimer()
	}
}

// BenchmarkPieces puts and proves the pieces on all cores, as they come from several peers.
func BenchmarkPieces(b *testing.B) {
	benchLarge(b, func(g *Growing, piece []byte, starts []Digest) error {
		var group errgroup.Group
		group.SetLimit(runtime.GOMAXPROCS(0))
		put := make([]Piece, benchPieces)
		for i := range put {
			group.Go(func() (err error) {
				put[i], err = g.PutPiece(i, starts[i], bytes.NewReader(piece))
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for _, p := range slices.Backward(put) {
			if err := g.Prove(p); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkSequential writes the same bytes from the front.
func BenchmarkSequential(b *testing.B) {
	benchLarge(b, func(g *Growing, piece []byte, _ []Digest) error {
		for range benchPieces {
			for part := range slices.Chunk(piece, 64<<10) {
				if _, err := g.Write(part); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// BenchmarkVerify verifies the pieces on all cores, and writes nothing.
func BenchmarkVerify(b *testing.B) {
	piece, starts, d := largeBlob()
	b.SetBytes(benchPieces * PieceSize)
	for b.Loop() {
		var group errgroup.Group
		group.SetLimit(runtime.GOMAXPROCS(0))
		ends := make([]Digest, benchPieces)
		for i := range ends {
			group.Go(func() error {
				h := hashFrom(starts[i], int64(i)*PieceSize)
				h.Write(piece)
				ends[i] = endOf(h, i == benchPieces-1)
				return nil
			})
		}
		group.Wait()
		p := newProof(benchPieces, d)
		for i, end := range slices.Backward(ends) {
			if err := p.prove(i, starts[i], end); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkHash is SHA-256 of as many bytes, alone.
func BenchmarkHash(b *testing.B) {
	piece, _ := blob(1, PieceSize)
	b.SetBytes(benchPieces * PieceSize)
	for b.Loop() {
		h := sha256.New()
		for range benchPieces {
			h.Write(piece)
		}
	}
}
