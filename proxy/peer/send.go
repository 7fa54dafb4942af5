// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"time"

	"apt-dht/proxy/fetch"
	"apt-dht/store"
)

// ServeStored gives a stored blob, or the one range of it that is asked for, and
// the state of its hash where the range begins, which pieces tells
// (store.Store.Pieces). The error is why it cannot; the blob is given without.
func ServeStored(w *Sender, r *http.Request, d Digest, s *fetch.Shared, pieces func(Digest) ([]Digest, error)) error {
	from, _, err := ParseRange(r.Header.Get("Range"))
	if err != nil {
		r.Header.Del("Range")
	}
	state, err := stateAt(d, from, pieces)
	if state != nil {
		w.Header().Set(StateField, hex.EncodeToString(state[:]))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	var content io.ReadSeeker = s.File
	if s.Unchanged != nil {
		content = &watchedFile{s.File, s.Unchanged}
	}
	http.ServeContent(w, r, "", s.Modified, content)
	return err
}

// watchedFile is a file that others may write into: its bytes are looked at once
// they have been read, and are not sent from the kernel's pages. A body that breaks
// off harms nobody; wrong bytes would have their giver set aside.
type watchedFile struct {
	file      io.ReadSeeker
	unchanged func() error
}

func (f *watchedFile) Seek(offset int64, whence int) (int64, error) {
	return f.file.Seek(offset, whence)
}

func (f *watchedFile) Read(p []byte) (int, error) {
	n, err := f.file.Read(p)
	if changed := f.unchanged(); changed != nil {
		return 0, changed
	}
	return n, err
}

// stateAt is the chaining state of a blob's hash at the border of pieces at
// offset, nil if it is none, or 0, where the state is a constant.
func stateAt(d Digest, offset int64, pieces func(Digest) ([]Digest, error)) (*Digest, error) {
	if pieces == nil || offset == 0 || offset%store.PieceSize != 0 {
		return nil, nil
	}
	states, err := pieces(d)
	if i := offset/store.PieceSize - 1; err == nil && i < int64(len(states)) {
		return &states[i], nil
	}
	return nil, err
}

// A Pace says how fast a body is sent, and must be taken.
type Pace struct {
	// Step is how many bytes are sent at a time, at most. Required.
	Step int64
	// Stall is how long the other side may take for each step before it is cut
	// off. Required.
	Stall time.Duration
	// Wait waits until n bytes may be sent. An error ends the body. Nil: they may
	// be at once.
	Wait func(n int64) error
	// Sent is told how many were. Nil: nobody is.
	Sent func(n int64)
}

// A Sender writes a body to a node that must go on reading. It serves one
// goroutine.
type Sender struct {
	http.ResponseWriter
	conn *http.ResponseController
	pace Pace
}

// NewSender sends to w, with a write deadline that [Sender.End] must lift.
func NewSender(w http.ResponseWriter, pace Pace) *Sender {
	return &Sender{ResponseWriter: w, conn: http.NewResponseController(w), pace: pace}
}

// arm gives the node its time to take what is written next.
func (s *Sender) arm() { s.conn.SetWriteDeadline(time.Now().Add(s.pace.Stall)) }

// End sends what is left, and frees the connection's next answer from the
// deadline.
func (s *Sender) End() {
	s.Flush()
	s.conn.SetWriteDeadline(time.Time{})
}

// Flush sends what has been written. An error shows at the next write.
func (s *Sender) Flush() {
	s.arm()
	s.conn.Flush()
}

func (s *Sender) wait(n int64) error {
	if s.pace.Wait == nil {
		return nil
	}
	return s.pace.Wait(n)
}

func (s *Sender) sent(n int64) {
	if s.pace.Sent != nil {
		s.pace.Sent(n)
	}
}

// Write implements io.Writer.
func (s *Sender) Write(p []byte) (sent int, err error) {
	for len(p) > 0 && err == nil {
		step := p[:min(int64(len(p)), s.pace.Step)]
		if err := s.wait(int64(len(step))); err != nil {
			return sent, err
		}
		var n int
		s.arm()
		n, err = s.ResponseWriter.Write(step)
		s.sent(int64(n))
		sent += n
		p = p[n:]
	}
	return sent, err
}

// ReadFrom implements io.ReaderFrom: a file goes to the connection by sendfile,
// in steps that each have their time.
func (s *Sender) ReadFrom(src io.Reader) (sent int64, err error) {
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		return io.Copy(struct{ io.Writer }{s}, src)
	}
	if _, ok = limited.R.(*os.File); !ok {
		return io.Copy(struct{ io.Writer }{s}, src)
	}
	for limited.N > 0 {
		step := min(limited.N, s.pace.Step)
		if err := s.wait(step); err != nil {
			return sent, err
		}
		s.arm()
		n, err := io.CopyN(s.ResponseWriter, limited.R, step)
		limited.N -= n
		sent += n
		s.sent(n)
		if err == io.EOF {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}
