// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestChaos has clients that give up and a mirror that breaks off, closes, stalls and lies about keeping
// connections, all at random. Each request must end, within bounds, in its own body or an error.
func TestChaos(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, seed) })
		})
	}
}

func chaos(t *testing.T, seed uint64) {
	o := &origin{play: func(s *session) {
		rnd := rand.New(rand.NewPCG(seed, uint64(s.n)))
		for req := s.next(); req != nil; req = s.next() {
			if !misbehave(s, rnd, req.RequestURI) {
				return
			}
		}
	}}
	cl := newClient(t, o)
	rnd := rand.New(rand.NewPCG(seed, 1<<40))
	start := time.Now()
	var results []chan result
	for i := range 100 {
		ctx, cancel := context.WithCancelCause(background)
		t.Cleanup(func() { cancel(nil) })
		if rnd.IntN(5) == 0 {
			time.AfterFunc(time.Duration(rnd.IntN(3000))*time.Millisecond, func() { cancel(errEnough) })
		}
		size := int64(rnd.IntN(1 << 20))
		results = append(results, startAll(WithSize(ctx, size), cl, fmt.Sprintf("/%d", i))...)
		if rnd.IntN(10) == 0 {
			time.Sleep(time.Duration(rnd.IntN(1000)) * time.Millisecond)
		}
	}
	for i, done := range results {
		got := <-done
		var e *Error
		if got.err == nil && got.body != bodyFor(fmt.Sprintf("/%d", i)) {
			t.Errorf("request %d got another's body %.20q", i, got.body)
		}
		if got.err != nil && !errors.As(got.err, &e) {
			t.Errorf("request %d: bare error %v", i, got.err)
		}
	}
	if took := time.Since(start); took > 5*time.Minute {
		t.Errorf("took %v", took)
	}
}

// bodyFor is a body that names its path and is longer than what is drained, now and then.
func bodyFor(path string) string {
	if strings.HasSuffix(path, "7") {
		return strings.Repeat(path+" ", drainMax/len(path))
	}
	return path
}

// misbehave answers in one of many ways, and returns false if the connection is to end.
func misbehave(s *session, rnd *rand.Rand, path string) bool {
	body := bodyFor(path)
	switch rnd.IntN(20) {
	case 0:
		return false
	case 1:
		s.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:len(body)/2])
		return false
	case 2:
		s.say("HTTP/1.0 200 OK\r\n\r\n%s", body)
		return false
	case 3:
		s.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		return false
	case 4:
		s.answer(body)
		return false
	case 5:
		io.Copy(io.Discard, s)
		return false
	case 6:
		time.Sleep(time.Duration(rnd.IntN(16000)) * time.Millisecond)
	case 7:
		s.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:1])
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
		return s.say("%s", body[1:])
	case 8:
		return s.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	}
	return s.answer(body)
}
