// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"bytes"
	"io"
	"net/http/httptest"
	"net/netip"
	"os"
	"testing"
	"time"
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
