// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// fault makes a mirror misbehave: it either answers itself and returns true,
// or sets the answer's tap and returns false.
type fault func(a *answer, r *http.Request) bool

// answer counts what goes out and lets a fault do things to it.
type answer struct {
	http.ResponseWriter
	m       *mirror
	r       *http.Request
	request *request
	at      int64 // bytes of the body so far

	// tap is given each part of the body, which begins at byte at, before it
	// goes out. An error breaks the connection. nil: nothing happens.
	tap func(at int64, part []byte) error
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) {
	a.m.mu.Lock()
	a.request.status = code
	a.m.mu.Unlock()
	a.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.tap != nil {
		p = append([]byte(nil), p...)
		if err := a.tap(a.at, p); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	n, err := a.ResponseWriter.Write(p)
	a.at += int64(n)
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	a.request.sent += int64(n)
	return n, err
}

func (a *answer) flush() { http.NewResponseController(a.ResponseWriter).Flush() }

var errBroken = errors.New("the mirror breaks off, as told")

// onlyFor restricts a fault to requests whose URI contains part.
func onlyFor(part string, f fault) fault {
	return func(a *answer, r *http.Request) bool {
		return strings.Contains(r.RequestURI, part) && f(a, r)
	}
}

// times restricts a fault to the first n requests that reach it.
func times(n int32, f fault) fault {
	var left atomic.Int32
	left.Store(n)
	return func(a *answer, r *http.Request) bool {
		return left.Add(-1) >= 0 && f(a, r)
	}
}

// wrongByte inverts the first byte of the body.
func wrongByte(a *answer, _ *http.Request) bool {
	a.tap = func(at int64, part []byte) error {
		if at == 0 {
			part[0] ^= 0xff
		}
		return nil
	}
	return false
}

// shorten sends the right length, but closes the connection in good order
// before all of the body is sent.
func shorten(a *answer, _ *http.Request) bool {
	a.tap = func(at int64, part []byte) error {
		if at > 0 {
			return errBroken
		}
		return nil
	}
	return false
}

// reset breaks the connection with a TCP reset after the body's first part.
func reset(a *answer, r *http.Request) bool {
	a.tap = func(at int64, _ []byte) error {
		if at == 0 {
			return nil
		}
		a.flush()
		r.Context().Value(connKey{}).(*net.TCPConn).SetLinger(0)
		return errBroken
	}
	return false
}

// stall sends the body's first part and then nothing for ever.
func stall(a *answer, r *http.Request) bool {
	a.tap = func(at int64, _ []byte) error {
		if at == 0 {
			return nil
		}
		a.flush()
		<-r.Context().Done()
		return errBroken
	}
	return false
}

// mute accepts the request and never answers.
func mute(_ *answer, r *http.Request) bool {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// failWith answers with an error status.
func failWith(code int) fault {
	return func(a *answer, _ *http.Request) bool {
		http.Error(a, "told to fail", code)
		return true
	}
}

const portalPage = "<html><body>Welcome to the hotel. Please log in.</body></html>\n"

// portal answers everything with a login page, as hotels' networks do.
func portal(a *answer, _ *http.Request) bool {
	a.Header().Set("Content-Type", "text/html")
	a.Write([]byte(portalPage))
	return true
}

// redirectTo sends clients to another mirror.
func redirectTo(other *mirror) fault {
	return func(a *answer, r *http.Request) bool {
		a.Header().Set("Location", "http://"+other.addr+r.RequestURI)
		a.WriteHeader(http.StatusFound)
		return true
	}
}

// slow lets the body trickle, in bytes per second.
func slow(rate int64) fault {
	return func(a *answer, r *http.Request) bool {
		a.tap = func(_ int64, part []byte) error {
			a.flush()
			select {
			case <-time.After(time.Duration(len(part)) * time.Second / time.Duration(rate)):
				return nil
			case <-r.Context().Done():
				return errBroken
			}
		}
		return false
	}
}

// gate holds bodies back from a byte on until it is opened.
type gate struct {
	from    int64
	reached chan struct{} // closed when the first body waits at the gate
	opened  chan struct{}
	once    sync.Once
}

func newGate(from int64) *gate {
	return &gate{from: from, reached: make(chan struct{}), opened: make(chan struct{})}
}

func (g *gate) open() { close(g.opened) }

func (g *gate) fault(a *answer, r *http.Request) bool {
	a.tap = func(at int64, _ []byte) error {
		if at < g.from {
			return nil
		}
		a.flush()
		g.once.Do(func() { close(g.reached) })
		select {
		case <-g.opened:
			return nil
		case <-r.Context().Done():
			return errBroken
		}
	}
	return false
}
