// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzAnswers has a mirror answer three pipelined requests with arbitrary bytes, in pieces, and close. Every
// request must come to an end within the limits, and the first answer must be the one that net/http reads from
// the same bytes.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.0 200 OK\r\n\r\nrest",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nKeep-Alive: max=1\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nx",
		"garbage\r\n\r\n",
	} {
		f.Add([]byte(seed), uint8(7))
	}
	f.Fuzz(func(t *testing.T, answers []byte, piece uint8) {
		synctest.Test(t, func(t *testing.T) {
			o := &origin{play: func(s *session) {
				go io.Copy(io.Discard, s)
				time.Sleep(time.Millisecond) // for the requests
				for part := range slicesOf(answers, int(piece)+1) {
					if _, err := s.Write(part); err != nil {
						return
					}
				}
			}}
			cl := newClient(t, o)
			cl.hosts.note("mirror.test:80", pipelines, time.Now())
			start := time.Now()
			results := startAll(background, cl, "/0", "/1", "/2")
			want, ok := firstAnswer(answers)
			for i, done := range results {
				got := <-done
				if i == 0 && ok && (got.err != nil || got.body != want) {
					t.Errorf("first answer %q, %v; want %q", got.body, got.err, want)
				}
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("took %v", took)
			}
		})
	})
}

func slicesOf(b []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			part := b[:min(n, len(b))]
			b = b[len(part):]
			if !yield(part) {
				return
			}
		}
	}
}

// firstAnswer reads the bytes as net/http does; ok if they begin with a whole final answer.
func firstAnswer(b []byte) (body string, ok bool) {
	if len(b) > maxHeader {
		return "", false
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), &http.Request{Method: http.MethodGet})
	if err != nil || resp.StatusCode < 200 || resp.Close {
		return "", false
	}
	read, err := io.ReadAll(resp.Body)
	return string(read), err == nil
}
