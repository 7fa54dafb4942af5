// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"apt-dht/proxy/fetch"
	"apt-dht/store"
)

// TestLimits holds the bound for all.
func TestLimits(t *testing.T) {
	l := NewLimits(2, 1)
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	if !l.Take(a) || l.Take(a) || !l.Take(b) || l.Take(c) {
		t.Error("not one each and two in all")
	}
	l.Put(a)
	if !l.Take(c) || l.Take(a) {
		t.Error("what was put back is not to be had once")
	}
}

// A reader that takes nothing is cut off; deadlines end with their answer.
func TestReaderThatDoesNotRead(t *testing.T) {
	const sendStep, readerStall = 1 << 20, 30 * time.Second
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	s := NewSender(w, Pace{Step: sendStep, Stall: readerStall})
	if _, err := s.ReadFrom(&io.LimitedReader{R: bytes.NewReader(make([]byte, 10)), N: 10}); err != nil || w.set == 0 {
		t.Errorf("a body was written with %d deadlines: %v", w.set, err)
	}
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteAt([]byte{1}, 5*sendStep-1)
	w.set = 0
	if n, err := s.ReadFrom(&io.LimitedReader{R: f, N: 5 * sendStep}); n != 5*sendStep || err != nil || w.set < 5 {
		t.Errorf("%d bytes were sent with %d deadlines: %v", n, w.set, err)
	}
	if left := time.Until(w.last); left > readerStall || left < readerStall/2 {
		t.Errorf("the last deadline is in %s", left)
	}
	s.End()
	if !w.last.IsZero() {
		t.Error("the deadline outlives the answer")
	}
}

// deadlines counts the write deadlines that are set.
type deadlines struct {
	*httptest.ResponseRecorder
	set  int
	last time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set++
	d.last = at
	return nil
}

// A stored blob comes whole or in one range, with the state where it begins.
func TestServeStored(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 2*store.PieceSize + 5
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	failing := errors.New("no states")
	for _, test := range []struct {
		field  string
		pieces func(Digest) ([]Digest, error)
		code   int
		length int
		state  string
		err    error
	}{
		{"", nil, 200, size, "", nil},
		{"bytes=1048576-", nil, 206, size - store.PieceSize, "", nil},
		{"bytes=1048576-", told, 206, size - store.PieceSize, strings.Repeat("01", 32), nil},
		{"bytes=2097152-2097153", told, 206, 2, strings.Repeat("02", 32), nil},
		{"bytes=0-9", told, 206, 10, "", nil},
		{"bytes=7-9", told, 206, 3, "", nil},
		{"bytes=0-1,5-6", told, 200, size, "", nil}, // several ranges are not for nodes
		{"bytes=-5", told, 200, size, "", nil},
		{"bytes=1048576-", func(Digest) ([]Digest, error) { return nil, failing }, 206, size - store.PieceSize, "", failing},
		{"bytes=1048576-", func(Digest) ([]Digest, error) { return nil, nil }, 206, size - store.PieceSize, "", nil},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		if test.field != "" {
			r.Header.Set("Range", test.field)
		}
		var waited, sent int64
		out := NewSender(w, Pace{
			Step: 80_000, Stall: time.Second,
			Wait: func(n int64) error { waited += n; return nil }, Sent: func(n int64) { sent += n },
		})
		err := ServeStored(out, r, Digest{}, &fetch.Shared{Size: size, File: f}, test.pieces)
		if w.Code != test.code || w.Body.Len() != test.length || w.Header().Get(StateField) != test.state || !errors.Is(err, test.err) {
			t.Errorf("%q: %d, %d bytes, state %q, %v", test.field, w.Code, w.Body.Len(), w.Header().Get(StateField), err)
		}
		if waited != int64(test.length) || sent != waited {
			t.Errorf("%q: it waited for %d bytes and counted %d of %d", test.field, waited, sent, test.length)
		}
	}
}

func told(Digest) ([]Digest, error) {
	return []Digest{Digest(bytes.Repeat([]byte{1}, 32)), Digest(bytes.Repeat([]byte{2}, 32))}, nil
}

// A body ends where its sender may not go on.
func TestSendersThatMayNotGoOn(t *testing.T) {
	w := httptest.NewRecorder()
	left := int64(100)
	out := NewSender(w, Pace{Step: 30, Stall: time.Second, Wait: func(n int64) error {
		if left -= n; left < 0 {
			return io.ErrClosedPipe
		}
		return nil
	}})
	if n, err := out.Write(make([]byte, 200)); n != 90 || !errors.Is(err, io.ErrClosedPipe) || w.Body.Len() != 90 {
		t.Errorf("%d bytes were written, %d went out: %v", n, w.Body.Len(), err)
	}
}

// Of a file that is written into, nothing is sent that was read afterwards.
func TestServeChangingFile(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 1 << 20
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, reads := range []int{0, 3, 1000} {
		left := reads
		unchanged := func() error {
			if left--; left < 0 {
				f.WriteAt([]byte{1}, 0)
				return errors.New("changed")
			}
			return nil
		}
		w := httptest.NewRecorder()
		out := NewSender(w, Pace{Step: 80_000, Stall: time.Second})
		ServeStored(out, httptest.NewRequest("GET", "/", nil), Digest{}, &fetch.Shared{Size: size, File: f, Unchanged: unchanged}, nil)
		if got := w.Body.Len(); (got == size) != (reads == 1000) || reads == 0 && got != 0 {
			t.Errorf("%d bytes are sent of a file that changes after %d reads", got, reads)
		}
		f.WriteAt([]byte{0}, 0)
	}
}
