// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"
)

func TestSpoiledBlobIsNoticed(t *testing.T) {
	day := 25 * time.Hour
	tests := []struct {
		name  string
		stop  func(testing.TB, *Store) *Store // how the store is stopped and opened again
		age   time.Duration
		found bool // whether the damage is found by Get
	}{
		{"clean stop, verified lately", reopen, 0, false},
		{"clean stop, verified yesterday", reopen, day, true},
		{"crash", crash, 0, true},
		{"lost database", loseDatabase, 0, true},
		{"reboot", reboot, 0, true},
		{"still open, verified yesterday", func(_ testing.TB, s *Store) *Store { return s }, day, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, Config{})
			good, goodDigest := blob(1, 5000)
			bad, badDigest := blob(2, 5000)
			add(t, s, good, Meta{})
			add(t, s, bad, Meta{})
			spoil(t, s, badDigest)
			age(s, goodDigest, test.age)
			age(s, badDigest, test.age)
			s = test.stop(t, s)
			wantBlob(t, s, goodDigest)
			if !test.found {
				if read(t, s, badDigest) == nil {
					t.Error("verified although nothing asked for it")
				}
				return
			}
			wantNoBlob(t, s, badDigest)
			if _, err := os.Lstat(s.blobPath(badDigest)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the bad file is still there: %v", err)
			}
			add(t, s, bad, Meta{})
			wantBlob(t, s, badDigest)
		})
	}
}

func loseDatabase(t testing.TB, s *Store) *Store {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.rows.dir); err != nil {
		t.Fatal(err)
	}
	return open(t, s.cfg)
}

// reboot stops the store in order and pretends that the kernel was started anew.
func reboot(t testing.TB, s *Store) *Store {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.mark.path, []byte("closed  another boot\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, s.cfg)
}

// After a crash only what was written near the end is suspect, and it stays so until it is verified,
// however often the store is opened.
func TestSuspectsLast(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 5000)
	add(t, s, b, Meta{})
	s = crash(t, s)
	if e, _ := s.table.get(d); e.verified != 0 {
		t.Error("not suspect after a crash")
	}
	s = reopen(t, s)
	if e, _ := s.table.get(d); e.verified != 0 {
		t.Error("not suspect after a clean stop that followed the crash")
	}
	wantBlob(t, s, d)
	s = reopen(t, s)
	if e, _ := s.table.get(d); !e.fresh(time.Now()) {
		t.Error("still suspect after it was verified")
	}
}

func TestSuspectWindow(t *testing.T) {
	s := open(t, Config{})
	_, old := blob(1, 1)
	_, young := blob(2, 1)
	now := time.Now()
	found := map[Digest]foundBlob{
		old:   {entry{size: 1}, now.Add(-suspectWindow - time.Second).UnixNano()},
		young: {entry{size: 1}, now.Add(-suspectWindow + time.Second).UnixNano()},
		{9}:   {entry{size: 1}, now.UnixNano()},
	}
	for _, d := range []Digest{old, young} {
		if err := s.rows.write([]row{encodeTimes(d, entry{size: 1, verified: 7})}); err != nil {
			t.Fatal(err)
		}
	}
	s.adopt(found) // the mark says 'running'
	if e, _ := s.table.get(old); e.verified != 7 {
		t.Error("a blob from before the window is suspect")
	}
	if e, _ := s.table.get(young); e.verified != 0 {
		t.Error("a blob in the window is not suspect")
	}
}

// Large blobs are given out first and verified by Run.
func TestLargeIsVerifiedInBackground(t *testing.T) {
	dropped := make(signal)
	s := open(t, Config{Log: testLog(dropped)})
	b, d := blob(1, verifyFirst+1)
	add(t, s, b, Meta{})
	spoil(t, s, d)
	// By a clock that was wrong: neither recent nor before the file's last change.
	s.table.change(d, func(e *entry) { e.verified = seconds(time.Now().Add(time.Hour)) })
	if read(t, s, d) == nil {
		t.Fatal("a large blob was verified before it was given out")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error)
	go func() { ran <- s.Run(ctx) }()
	<-dropped
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	wantNoBlob(t, s, d)
}

// A signal is a log that tells when a blob has gone bad.
type signal chan struct{}

func (s signal) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("gone bad")) {
		close(s)
	}
	return len(line), nil
}

func TestVerify(t *testing.T) {
	s := open(t, Config{})
	digests := make([]Digest, 6)
	for i := range digests {
		var b []byte
		b, digests[i] = blob(uint64(i), 1000)
		add(t, s, b, Meta{})
	}
	spoil(t, s, digests[0])
	if err := errors.Join(os.Remove(s.blobPath(digests[1])), os.Truncate(s.blobPath(digests[2]), 10)); err != nil {
		t.Fatal(err)
	}
	got := make(map[Digest]error)
	if err := s.Verify(t.Context(), func(d Digest, err error) { got[d] = err }); err != nil {
		t.Fatal(err)
	}
	for i, d := range digests {
		err, reported := got[d]
		if !reported || (err != nil) != (i < 3) {
			t.Errorf("blob %d: reported %v, %v", i, reported, err)
		}
		if _, ok := s.Stat(d); ok != (i >= 3) {
			t.Errorf("blob %d: there is %v", i, ok)
		}
	}
	mismatch := (*MismatchError)(nil)
	if !errors.As(got[digests[0]], &mismatch) || !errors.As(got[digests[2]], &mismatch) || !errors.Is(got[digests[1]], os.ErrNotExist) {
		t.Errorf("errors are %v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, s.Verify(ctx, func(Digest, error) { t.Error("reported after the end") }), context.Canceled)
	if n, _, _ := s.Usage(); n != 3 {
		t.Errorf("a cancelled Verify dropped blobs: %d left", n)
	}
}

// Many clients that ask for one suspect blob share its verification, and all get it.
func TestVerifyTogether(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 8<<20)
	add(t, s, b, Meta{})
	age(s, d, 100*time.Hour)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			b, err := s.Get(d)
			if err != nil {
				t.Error(err)
				return
			}
			b.Close()
		})
	}
	group.Wait()
	if e, _ := s.table.get(d); !e.fresh(time.Now()) {
		t.Error("not verified")
	}
}

// What is dropped as bad must not take a good file with it that was published meanwhile.
func TestDropBadSparesItsSuccessor(t *testing.T) {
	s := open(t, Config{})
	b, d := blob(1, 5000)
	add(t, s, b, Meta{})
	spoil(t, s, d)
	bad, _, err := openRegular(s.blobPath(d))
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	add(t, s, b, Meta{})
	s.dropBad(d, bad, errors.New("bad"))
	wantBlob(t, s, d)
}

func TestFresh(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for verified, want := range map[uint32]bool{
		1_000_000: true, 1_000_000 - 86_399: true, 1_000_000 - 86_400: false, 0: false,
		1_000_001: false, // the clock was wrong
	} {
		if (entry{verified: verified}).fresh(now) != want {
			t.Errorf("verified %d: fresh is not %v", verified, want)
		}
	}
}

// Whoever writes into a blob is noticed at once, however recently it was verified.
func TestChangedBlobIsVerified(t *testing.T) {
	s := open(t, Config{})
	for _, size := range []int{1000, verifyFirst + 1} {
		b, d := blob(uint64(size), size)
		add(t, s, b, Meta{})
		age(s, d, time.Hour)
		spoil(t, s, d)
		if got := read(t, s, d); got != nil {
			t.Errorf("a blob of %d bytes was given out after it was changed", size)
		}
	}
}

// A blob that is spoiled while its store is closed is noticed, though it was verified the moment before.
func TestSpoiledWhileClosed(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"cut": func(path string) error { return os.Truncate(path, 1000) },
		"written": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("other bytes")
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{})
			b, d := blob(1, 300_000)
			add(t, s, b, Meta{Modified: time.Now().Add(-time.Hour)})
			path := s.blobPath(d)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			wantNoBlob(t, open(t, Config{Dir: s.cfg.Dir}), d)
		})
	}
}
