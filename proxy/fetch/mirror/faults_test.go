// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestUnansweredRequestsAreSentAgain(t *testing.T) {
	for name, last := range map[string]string{
		"without notice": "HTTP/1.1 200 OK\r\n",
		"told":           "HTTP/1.1 200 OK\r\nConnection: close\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &origin{play: func(s *session) {
					for range 6 {
						req := s.next()
						if req == nil {
							return
						}
						s.answer(req.RequestURI)
					}
					if req := s.next(); req != nil {
						s.say("%sContent-Length: %d\r\n\r\n%s", last, len(req.RequestURI), req.RequestURI)
					}
				}}
				cl := newClient(t, o)
				ps := paths(70)
				wantBodies(t, startAll(background, cl, ps...), ps...)
				if n := o.dialled(); n < 10 || n > 12 {
					t.Errorf("%d connections for 70 requests, 7 on each", n)
				}
			})
		})
	}
}

func TestRequestThatEndsConnectionsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			for req := s.next(); req != nil && req.RequestURI != "/poison"; req = s.next() {
				s.answer(req.RequestURI)
			}
		}}
		cl := newClient(t, o)
		mustFetch(t, cl, "/first")
		results := startAll(background, cl, "/poison", "/0", "/1")
		got := <-results[0]
		wantError(t, got.err, "first byte", io.EOF)
		wantBodies(t, results[1:], "/0", "/1")
		if o.dialled() != maxTries+1 {
			t.Errorf("%d connections", o.dialled())
		}
	})
}

func TestStaleConnectionsCostNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stale sync.WaitGroup
		stale.Add(4)
		o := &origin{play: func(s *session) {
			req := s.next()
			if s.n < 4 { // all are open at the same time, and close when asked once more
				stale.Done()
				stale.Wait()
				s.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%s", req.RequestURI)
				s.next()
				return
			}
			s.answer(req.RequestURI)
			s.echo()
		}}
		cl := newClient(t, o)
		u := get(background, host).URL
		cl.Distrust(u) // so that there are several connections
		ps := paths(4)
		wantBodies(t, startAll(background, cl, ps...), ps...)
		mustFetch(t, cl, "/again")
		if o.dialled() != 5 {
			t.Errorf("%d connections", o.dialled())
		}
	})
}

func TestClosedIdleConnectionIsNoticed(t *testing.T) {
	for name, farewell := range map[string]string{
		"closed":      "",
		"unsolicited": "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
		"timeout":     "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &origin{play: func(s *session) {
					s.answer(s.next().RequestURI)
					if s.n > 0 {
						s.echo()
						return
					}
					time.Sleep(time.Second)
					s.say("%s", farewell)
				}}
				cl := newClient(t, o)
				mustFetch(t, cl, "/first")
				time.Sleep(2 * time.Second)
				if poolsOf(cl) != 0 {
					t.Error("the connection is still held")
				}
				mustFetch(t, cl, "/second")
			})
		})
	}
}

func TestLateTimeoutAnswerIsNotTakenForOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			s.answer(s.next().RequestURI)
			if s.n == 0 && s.next() != nil { // crossed our request on its way
				s.say("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				return
			}
			s.echo()
		}}
		cl := newClient(t, o)
		mustFetch(t, cl, "/first")
		mustFetch(t, cl, "/second")
	})
}

func TestBytesBehindABodyEndTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			if s.n > 0 {
				s.echo()
				return
			}
			s.next()
			s.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n/HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
		}}
		cl := newClient(t, o)
		mustFetch(t, cl, "/")
		mustFetch(t, cl, "/second")
	})
}

func TestSilentMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			for req := s.next(); req != nil && req.RequestURI != "/slow"; req = s.next() {
				s.answer(req.RequestURI)
			}
			io.Copy(io.Discard, s)
		}}
		cl := newClient(t, o)
		mustFetch(t, cl, "/first")
		start := time.Now()
		results := startAll(background, cl, "/slow", "/0", "/1")
		wantBodies(t, results[1:], "/0", "/1")
		if took := time.Since(start); took < slowMirror || took > slowMirror+watchEvery {
			t.Errorf("those behind a silent one waited %v", took)
		}
		got := <-results[0]
		wantError(t, got.err, "first byte", ErrStalled)
		if took := time.Since(start); took != 15*time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

func TestDeadMirrorFailsAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			if s.n == 0 {
				s.answer(s.next().RequestURI)
			}
			io.Copy(io.Discard, s)
		}}
		cl := newClient(t, o)
		mustFetch(t, cl, "/first")
		start := time.Now()
		for _, done := range startAll(background, cl, paths(50)...) {
			got := <-done
			wantError(t, got.err, "first byte", ErrStalled)
		}
		if took := time.Since(start); took > 25*time.Second {
			t.Errorf("the last was given up after %v", took)
		}
	})
}

func TestStalledBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			for req := s.next(); req != nil; req = s.next() {
				if req.RequestURI != "/slow" {
					s.answer(req.RequestURI)
					continue
				}
				s.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
				for range 3 {
					time.Sleep(14 * time.Second) // slow, but alive
					s.say("abc")
				}
				io.Copy(io.Discard, s)
			}
		}}
		cl := newClient(t, o)
		mustFetch(t, cl, "/first")
		start := time.Now()
		results := startAll(background, cl, "/slow", "/0")
		wantBodies(t, results[1:], "/0")
		if took := time.Since(start); took > slowMirror+watchEvery {
			t.Errorf("the one behind waited %v", took)
		}
		got := <-results[0]
		wantError(t, got.err, "body", ErrStalled)
		if took := time.Since(start); got.body != "abcabcabc" || took != 57*time.Second {
			t.Errorf("%q after %v", got.body, took)
		}
	})
}

func TestSlowReaderHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: (*session).echo}
		cl := newClient(t, o)
		mustFetch(t, cl, "/first")
		slow, err := cl.RoundTrip(get(background, host+"/slow"))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		wantBodies(t, startAll(background, cl, "/0", "/1"), "/0", "/1")
		if took := time.Since(start); took < slowReader || took > slowReader+watchEvery {
			t.Errorf("waited %v", took)
		}
		if got, err := body2string(slow, nil); err != nil || got != "/slow" {
			t.Errorf("the slow reader got %q, %v", got, err)
		}
		synctest.Wait()
		if cl.CloseIdleConnections(); o.dialled() != 2 {
			t.Errorf("%d connections", o.dialled())
		}
	})
}

func TestDialErrors(t *testing.T) {
	refused := errors.New("refused")
	synctest.Test(t, func(t *testing.T) {
		cl := New(Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			time.Sleep(time.Second)
			return nil, refused
		}})
		defer cl.Close()
		for _, done := range startAll(background, cl, paths(20)...) {
			got := <-done
			wantError(t, got.err, "dial", refused)
		}
	})
}

func TestDialHasTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := New(Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		defer cl.Close()
		start := time.Now()
		_, err := fetch(cl, "/")
		wantError(t, err, "dial", context.DeadlineExceeded)
		if took := time.Since(start); took != dialTimeout {
			t.Errorf("took %v", took)
		}
	})
}

func TestDialKnowsTheRealm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: (*session).echo}
		var realm string
		cl := New(Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			realm = Realm(ctx) + " " + network + " " + addr
			return o.dial(ctx, network, addr)
		}})
		defer cl.Close()
		wantBodies(t, startAll(WithRealm(background, "loopback"), cl, "/x"), "/x")
		if realm != "loopback tcp mirror.test:80" {
			t.Errorf("dialled for %q", realm)
		}
	})
}

func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			for req := s.next(); req != nil; req = s.next() {
				switch req.RequestURI {
				case "/body":
					s.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
					io.Copy(io.Discard, s)
				case "/header":
					io.Copy(io.Discard, s)
				default:
					s.answer(req.RequestURI)
				}
			}
		}}
		cl := New(Config{MaxConns: 2, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasPrefix(addr, "dark") {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return o.dial(ctx, network, addr)
		}})
		mustFetch(t, cl, "/first")
		unread, err := cl.RoundTrip(get(background, host+"/body"))
		if err != nil {
			t.Fatal(err)
		}
		results := startAll(background, cl, "/header", "/waiting")
		done := make(chan error)
		go func() {
			_, err := cl.RoundTrip(get(background, "http://dark.test/"))
			done <- err
		}()
		time.Sleep(time.Second)
		cl.Close()
		cl.Close()
		for _, r := range results {
			if got := <-r; !errors.Is(got.err, ErrClosed) {
				t.Errorf("error %v", got.err)
			}
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("while dialling: %v", err)
		}
		if _, err := body2string(unread, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("body: %v", err)
		}
		if _, err := fetch(cl, "/late"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if _, err := cl.RoundTrip(get(background, "https://mirror.test/")); !errors.Is(err, ErrClosed) {
			t.Errorf("https after Close: %v", err)
		}
	})
}

// TestResetInABody is over TCP: a pipe cannot be reset.
func TestResetInABody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	read := make(chan bool)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		s := &session{Conn: nc}
		nc.Read(make([]byte, 4096))
		s.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
		<-read
		nc.(*net.TCPConn).SetLinger(0)
		nc.Close()
	}()
	cl := New(Config{})
	defer cl.Close()
	resp, err := cl.RoundTrip(get(background, "http://"+l.Addr().String()+"/"))
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(resp.Body, make([]byte, 3))
	close(read)
	_, err = io.ReadAll(resp.Body)
	wantError(t, err, "body", io.ErrUnexpectedEOF)
	if resp.Body.Close(); err == nil {
		t.Error("no error")
	}
	if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("read after Close: %v", err)
	}
}
