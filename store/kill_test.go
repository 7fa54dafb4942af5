// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestKill kills a process that uses a store at random moments, and looks at what it left.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	seed := uint64(20_240_601)
	random := rand.New(rand.NewPCG(seed, seed))
	kept := 0
	for round := range 12 {
		cmd := child(t, "scribbler", dir, strconv.Itoa(round))
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+random.IntN(300)) * time.Millisecond) // the moment is the test's input
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("round %d: the child ended by itself: %v", round, err)
		}
		kept = inspect(t, dir)
	}
	if kept == 0 {
		t.Error("no round stored anything")
	}
}

// inspect opens the store, and checks that everything it gives is right and that it works on.
func inspect(t *testing.T, dir string) (blobs int) {
	t.Helper()
	s := open(t, Config{Dir: dir, Quota: 64 << 20})
	digests := s.table.digests()
	for _, d := range digests {
		wantBlob(t, s, d)
		if _, err := s.Pieces(d); err != nil {
			t.Errorf("Pieces: %v", err)
		}
		if m, err := s.Meta(d); err != nil || m.ContentType != "" && m.Origin != fmt.Sprintf("http://a/%x", d) {
			t.Errorf("Meta = %+v, %v", m, err)
		}
	}
	for url, rec := range s.Roots {
		if url != fmt.Sprintf("http://a/%x", rec.Digest) {
			t.Errorf("record of %s names %x", url, rec.Digest)
		}
	}
	if n := len(files(t, s, "blobs")); n != len(digests) {
		t.Errorf("%d files, %d blobs", n, len(digests))
	}
	for _, f := range s.suspendedFiles() {
		g := resumed(t, s, f)
		if err := g.Suspend(); err != nil {
			t.Error(err)
		}
	}
	b, _ := blob(4711, 1000)
	add(t, s, b, Meta{})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return len(digests)
}

// scribbleSeeds is how many blobs the scribbler knows.
const scribbleSeeds = 4000

// resumed resumes a suspended file, which is right as far as it says that it is there.
func resumed(t *testing.T, s *Store, f suspended) *Growing {
	t.Helper()
	if !strings.HasSuffix(f.path, holesSuffix) {
		wantBeginning(t, f)
		g, err := s.Create(f.digest, -1)
		if err != nil || g.Len() != f.size {
			t.Fatalf("resume: %v", err)
		}
		return g
	}
	n, err := s.readNote(f.digest)
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.Create(f.digest, n.Size)
	if err == nil {
		err = g.Resume()
	}
	// The digest has proven the tail, and where the two meet the front.
	if err != nil || g.Tail() != n.tail() || g.Len() != n.Front {
		t.Fatalf("resume: %v, Len = %d, Tail = %d of %+v", err, g.Len(), g.Tail(), n)
	}
	return g
}

// wantBeginning checks that a suspended file is the beginning of a blob, and has no holes.
func wantBeginning(t *testing.T, f suspended) {
	t.Helper()
	got, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(scribbleSeeds) {
		if head, _ := blob(seed, min(16, len(got))); bytes.Equal(head, got[:len(head)]) {
			if want, _ := blob(seed, len(got)); bytes.Equal(want, got) {
				return
			}
		}
	}
	t.Errorf("%s, of %d bytes, is the beginning of nothing", f.path, len(got))
}

// scribblerChild does all that changes a store, in a random order, until it is killed.
func scribblerChild() error {
	s, err := Open(Config{Dir: os.Args[1], Quota: 64 << 20, FreeFloor: 1})
	if err != nil {
		return err
	}
	round, err := strconv.ParseUint(os.Args[2], 10, 64)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(round, 1))
	for {
		b, d := blob(random.Uint64N(scribbleSeeds), 1+random.IntN(4<<20))
		if err := scribble(s, random, b, d); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
}

func scribble(s *Store, random *rand.Rand, b []byte, d Digest) error {
	g, err := s.Create(d, int64(len(b)))
	if err != nil {
		return err
	}
	if random.IntN(2) == 0 {
		if err := scribbleTail(g, random, b); err != nil {
			return err
		}
	}
	for rest := b[g.Len():]; len(rest) > 0; {
		n, err := g.Write(rest[:min(len(rest), 1+random.IntN(300_000))])
		if err == ErrMet {
			break
		}
		if err != nil {
			return err
		}
		rest = rest[n:]
		if random.IntN(10) == 0 {
			return g.Suspend()
		}
	}
	url := fmt.Sprintf("http://a/%x", d)
	if _, err := g.Commit(Meta{Modified: time.Unix(1e9, 0), ContentType: "x", Origin: url}); err != nil {
		return err
	}
	if err := s.PutURL(url, URLRecord{Digest: d, Root: true}); err != nil {
		return err
	}
	if random.IntN(5) == 0 {
		_, err := s.remove(d)
		return err
	}
	s.tidy()
	return nil
}

// scribbleTail puts some pieces, some of them wrong ones.
func scribbleTail(g *Growing, random *rand.Rand, b []byte) error {
	if err := g.Resume(); err != nil {
		return err
	}
	starts := startsOf(b)
	for i := int(g.Tail()+PieceSize-1)/PieceSize - 1; i > 0 && int64(i)*PieceSize >= g.Len() && random.IntN(4) > 0; i-- {
		if random.IntN(4) == 0 {
			if _, err := g.PutPiece(i-1, starts[i], bytes.NewReader(b)); err != nil && !errors.Is(err, ErrTaken) {
				return err
			}
		}
		p, err := g.PutPiece(i, starts[i], bytes.NewReader(pieceOf(b, i)))
		if err == nil {
			err = g.Prove(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
