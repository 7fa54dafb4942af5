// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errEnough = errors.New("seen enough")

// TestUnwantedAnswers has one request given up in each state it can be in, with others behind it.
func TestUnwantedAnswers(t *testing.T) {
	small, large := strings.Repeat("s", drainMax), strings.Repeat("l", drainMax+1)
	tests := []struct {
		name    string
		body    string
		begun   bool // the answer's header and some of its body have come
		closed  bool // by Body.Close, else by the context
		dialled int
	}{
		{"unanswered, small", small, false, false, 1},
		{"unanswered, large", large, false, false, 2},
		{"small body, context", small, true, false, 1},
		{"large body, context", large + "!!!", true, false, 2},
		{"small body, closed", small, true, true, 1},
		{"large body, closed", large + "!!!", true, true, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open := make(chan bool)
				o := &origin{play: func(s *session) {
					for req := s.next(); req != nil; req = s.next() {
						if req.RequestURI != "/unwanted" {
							s.answer(req.RequestURI)
							continue
						}
						if !tt.begun {
							<-open
						}
						s.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(tt.body))
						s.say("%s", tt.body[:3])
						<-open
						s.say("%s", tt.body[3:])
					}
				}}
				cl := newClient(t, o)
				mustFetch(t, cl, "/first")
				ctx, cancel := context.WithCancelCause(background)
				wait := cl.Start(get(ctx, host+"/unwanted"))
				behind := startAll(background, cl, "/0", "/1")
				synctest.Wait()
				if tt.begun {
					leaveBody(t, wait, tt.closed, func() { cancel(errEnough) })
				} else {
					cancel(errEnough)
					_, err := wait()
					wantError(t, err, "first byte", errEnough)
				}
				close(open)
				wantBodies(t, behind, "/0", "/1")
				mustFetch(t, cl, "/last")
				if o.dialled() != tt.dialled {
					t.Errorf("%d connections, want %d", o.dialled(), tt.dialled)
				}
				cancel(nil)
			})
		})
	}
}

// leaveBody reads three bytes and leaves the rest, by closing it or by ending its context while it is read.
func leaveBody(t *testing.T, wait func() (*http.Response, error), closed bool, cancel func()) {
	t.Helper()
	resp, err := wait()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if closed {
		resp.Body.Close()
		if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("read after Close: %v", err)
		}
		return
	}
	time.AfterFunc(time.Millisecond, cancel)
	_, err = resp.Body.Read(make([]byte, 1))
	wantError(t, err, "body", errEnough)
}

func TestCloseEndsAReadThatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			s.next()
			s.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
			io.Copy(io.Discard, s)
		}}
		cl := newClient(t, o)
		resp, err := cl.RoundTrip(get(background, host+"/"))
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { resp.Body.Close() })
		_, err = io.ReadAll(resp.Body)
		wantError(t, err, "body", http.ErrBodyReadAfterClose)
	})
}

func TestSlowDrainIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			for req := s.next(); req != nil; req = s.next() {
				if req.RequestURI != "/slow" {
					s.answer(req.RequestURI)
					continue
				}
				s.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
				for s.say("x") {
					time.Sleep(100 * time.Millisecond)
				}
			}
		}}
		cl := newClient(t, o)
		mustFetch(t, cl, "/first")
		resp, err := cl.RoundTrip(get(background, host+"/slow"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		start := time.Now()
		mustFetch(t, cl, "/second")
		if took := time.Since(start); took > drainWithin {
			t.Errorf("waited %v for what nobody wanted", took)
		}
	})
}

func TestWithdrawnBeforeItWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			for req := s.next(); req != nil; req = s.next() {
				if req.RequestURI == "/unwanted" {
					t.Error("a withdrawn request was sent")
				}
				time.Sleep(time.Second)
				s.answer(req.RequestURI)
			}
		}}
		cl := newClient(t, o, func(c *Config) { c.MaxConns = 1 })
		results := startAll(background, cl, "/0")
		ctx, cancel := context.WithTimeout(background, 100*time.Millisecond)
		defer cancel()
		unwanted := startAll(ctx, cl, "/unwanted")
		results = append(results, startAll(background, cl, "/1")...)
		got := <-unwanted[0]
		wantError(t, got.err, "first byte", context.DeadlineExceeded)
		wantBodies(t, results, "/0", "/1")
	})
}
