// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var background = context.Background()

func TestRequestsArePipelinedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			s.answer(s.next().RequestURI)
			var asked []string
			for range 10 { // all are there before one is answered
				asked = append(asked, s.next().RequestURI)
			}
			for _, p := range asked {
				s.answer(p)
			}
			s.echo()
		}}
		cl := newClient(t, o)
		mustFetch(t, cl, "/first")
		ps := paths(10)
		wantBodies(t, startAll(background, cl, ps...), ps...)
		if o.dialled() != 1 {
			t.Errorf("%d connections", o.dialled())
		}
	})
}

func TestRequestsOfAKnownHostGoOutWithOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			if s.n == 0 {
				s.echo()
				return
			}
			buf := make([]byte, 64<<10)
			n, _ := s.Read(buf) // a pipe hands over what was written with one call
			if got := strings.Count(string(buf[:n]), "GET "); got != 5 {
				t.Errorf("%d requests in the first write", got)
			}
			for i := range 5 {
				s.answer(fmt.Sprintf("/%d", i))
			}
		}}
		cl := newClient(t, o)
		mustFetch(t, cl, "/first")
		cl.CloseIdleConnections()
		synctest.Wait()
		ps := paths(5)
		wantBodies(t, startAll(background, cl, ps...), ps...)
	})
}

func TestNothingIsPipelinedBeforeTheHostIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			first := s.next()
			time.Sleep(100 * time.Millisecond)
			if s.br.Buffered() > 0 {
				t.Error("a second request came before the first answer")
			}
			s.answer(first.RequestURI)
			s.echo()
		}}
		cl := newClient(t, o)
		ps := paths(20)
		wantBodies(t, startAll(background, cl, ps...), ps...)
		if o.dialled() != ordinaryConns {
			t.Errorf("%d connections", o.dialled())
		}
	})
}

func TestHostsThatCloseAreAskedOneByOne(t *testing.T) {
	for name, head := range map[string]string{
		"HTTP/1.0":            "HTTP/1.0 200 OK\r\n",
		"HTTP/1.0 keep-alive": "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n",
		"Connection: close":   "HTTP/1.1 200 OK\r\nConnection: close\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var pipelining bool
				o := &origin{}
				o.play = func(s *session) {
					if pipelining {
						s.echo()
						return
					}
					p := s.next().RequestURI
					time.Sleep(10 * time.Millisecond)
					s.say("%sContent-Length: %d\r\n\r\n%s", head, len(p), p)
				}
				cl := newClient(t, o)
				mustFetch(t, cl, "/first")
				start := time.Now()
				ps := paths(12)
				wantBodies(t, startAll(background, cl, ps...), ps...)
				if o.dialled() != 13 || time.Since(start) > 25*time.Millisecond {
					t.Errorf("%d connections, %v: want 6 at a time", o.dialled(), time.Since(start))
				}
				time.Sleep(mannerAge)
				pipelining = true
				for range 3 {
					mustFetch(t, cl, "/later")
				}
				if o.dialled() != 14 {
					t.Errorf("not tried again after an hour: %d connections", o.dialled())
				}
			})
		})
	}
}

func TestDistrustedHostIsNotPipelined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan bool)
		o := &origin{play: func(s *session) {
			if s.n > 0 {
				for req := s.next(); req != nil; req = s.next() {
					time.Sleep(time.Millisecond)
					if s.br.Buffered() > 0 {
						t.Error("pipelined to a distrusted host")
					}
					s.answer(req.RequestURI)
				}
				return
			}
			s.answer(s.next().RequestURI)
			<-open // the second request waits, the others behind it
			s.answer("/0")
		}}
		cl := newClient(t, o)
		mustFetch(t, cl, "/first")
		ps := paths(10)
		waits := startAll(background, cl, ps...)
		synctest.Wait()
		u, _ := url.Parse(host + "/0")
		cl.Distrust(u)
		wantBodies(t, waits[1:], ps[1:]...)
		close(open)
		wantBodies(t, waits[:1], ps[0])
	})
}

func TestLargeBodyHoldsNobodyUp(t *testing.T) {
	const large = 100 << 20
	for name, hint := range map[string]int64{"known": large, "not known": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &origin{play: func(s *session) {
					for req := s.next(); req != nil; req = s.next() {
						if req.RequestURI != "/large" {
							s.answer(req.RequestURI)
							continue
						}
						s.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", large)
						<-t.Context().Done()
						return
					}
				}}
				cl := newClient(t, o)
				mustFetch(t, cl, "/first")
				ctx, cancel := context.WithCancel(WithSize(background, hint))
				defer cancel()
				start := time.Now()
				startAll(ctx, cl, "/large")
				ps := paths(10)
				wantBodies(t, startAll(background, cl, ps...), ps...)
				if took := time.Since(start); took > 0 {
					t.Errorf("waited %v", took)
				}
				if o.dialled() != 2 {
					t.Errorf("%d connections", o.dialled())
				}
			})
		})
	}
}

func TestDepthIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			s.answer(s.next().RequestURI)
			for req := s.next(); req != nil; req = s.next() {
				time.Sleep(time.Millisecond)
				if n := s.br.Buffered() / len("GET /0 HTTP/1.1\r\nHost: mirror.test\r\n\r\n"); n > 3 {
					t.Errorf("%d requests behind one", n)
				}
				s.answer(req.RequestURI)
			}
		}}
		cl := newClient(t, o, func(c *Config) { c.MaxDepth, c.MaxConns = 4, 1 })
		mustFetch(t, cl, "/first")
		ps := paths(10)
		wantBodies(t, startAll(background, cl, ps...), ps...)
	})
}

func TestFlowsShareTheMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, open := make(chan string, 22), make(chan bool)
		o := &origin{play: func(s *session) {
			<-open
			for req := s.next(); req != nil; req = s.next() {
				asked <- req.RequestURI
				s.answer(req.RequestURI)
			}
		}}
		cl := newClient(t, o, func(c *Config) { c.MaxDepth, c.MaxConns = 1, 1 })
		many := paths(20)
		waits := startAll(WithFlow(background, "a"), cl, many...)
		waits = append(waits, startAll(WithFlow(background, "b"), cl, "/x", "/y")...)
		close(open)
		wantBodies(t, waits, append(many, "/x", "/y")...)
		close(asked)
		var order []string
		for p := range asked {
			order = append(order, p)
		}
		if slices.Index(order, "/y") > 4 {
			t.Errorf("the second flow had to wait: %v", order)
		}
		if order = slices.DeleteFunc(order, func(p string) bool { return p > "/9" }); !slices.Equal(order, many) {
			t.Errorf("the first flow lost its order: %v", order)
		}
	})
}

func TestClassesShareNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: (*session).echo}
		cl := newClient(t, o)
		realm := WithRealm(background, "loopback")
		for _, ctx := range []context.Context{background, realm, WithBackground(background), WithBackground(realm)} {
			for range 3 {
				wantBodies(t, startAll(ctx, cl, "/x"), "/x")
			}
		}
		if o.dialled() != 4 {
			t.Errorf("%d connections for 4 classes", o.dialled())
		}
		if Realm(realm) != "loopback" || Realm(background) != "" {
			t.Error("Realm does not return what WithRealm set")
		}
	})
}

func TestKeepAliveField(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{play: func(s *session) {
			for left := 4; left >= 0; left-- {
				req := s.next()
				if req == nil {
					return
				}
				s.say("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=%d\r\nContent-Length: %d\r\n\r\n%s",
					left, len(req.RequestURI), req.RequestURI)
			}
			if s.next() != nil {
				t.Error("more requests than the mirror allows")
			}
		}}
		cl := newClient(t, o)
		mustFetch(t, cl, "/first")
		ps := paths(14)
		wantBodies(t, startAll(background, cl, ps...), ps...)
		if o.dialled() != 3 {
			t.Errorf("%d connections for 15 requests, 5 on each", o.dialled())
		}
		mustFetch(t, cl, "/again")
		time.Sleep(6 * time.Second)
		mustFetch(t, cl, "/again")
		if o.dialled() != 5 {
			t.Errorf("%d connections: an idle one outlived the mirror's timeout", o.dialled())
		}
	})
}

func TestIdleConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Time, 1)
		o := &origin{play: func(s *session) {
			s.echo()
			ended <- time.Now()
		}}
		cl := newClient(t, o)
		mustFetch(t, cl, "/x")
		idle := time.Now()
		if took := (<-ended).Sub(idle); took != time.Minute {
			t.Errorf("closed after %v", took)
		}
		synctest.Wait()
		if poolsOf(cl) != 0 {
			t.Error("a pool without connections is kept")
		}
	})
}
