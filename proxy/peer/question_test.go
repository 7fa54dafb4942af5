// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		code int
		body string
		want string
	}{
		"right":    {200, "12345", ""},
		"too long": {200, "123456", "more than 5 bytes"},
		"busy":     {429, "", ErrBusy.Error()},
		"error":    {500, "", "Internal Server Error"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, _ := answering(test.code, test.body)(nil)
			body, err := ReadAnswer(resp, 5)
			if test.want == "" && (err != nil || string(body) != test.body) ||
				test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%q is read: %v", body, err)
			}
		})
	}
}

// A question can be sent once more as it is.
func TestQuestionsMayBeRepeated(t *testing.T) {
	r, err := NewQuestion(t.Context(), someAddr, "/have", map[string]int{"v": 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != `{"v":1}` || r.ContentLength != int64(len(body)) {
			t.Errorf("the body is %q of %d: %v", body, r.ContentLength, err)
		}
		if r.Body, err = r.GetBody(); err != nil {
			t.Fatal(err)
		}
	}
	if r.URL.String() != "http://5.6.7.8:9978/have" || r.Method != http.MethodPost {
		t.Errorf("it goes to %s %s", r.Method, r.URL)
	}
}

func TestQuestionsAreBounded(t *testing.T) {
	for body, want := range map[string]int{"12345": 200, "123456": 413} {
		w := httptest.NewRecorder()
		got, ok := ReadQuestion(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)), 5)
		if ok != (want == 200) || ok && string(got) != body || w.Code != want {
			t.Errorf("%q is read as %q, %t, %d", body, got, ok, w.Code)
		}
	}
	w := httptest.NewRecorder()
	if TooMany(w, 90*time.Second); w.Code != 429 || w.Header().Get("Retry-After") != "90" {
		t.Errorf("it is refused with %d until %q", w.Code, w.Header().Get("Retry-After"))
	}
}

// Who asks is who the connection comes from.
func TestSourceOf(t *testing.T) {
	for remote, want := range map[string]string{
		"10.0.0.1:5": "10.0.0.1", "[::ffff:10.0.0.1]:5": "10.0.0.1", "[fe80::1%eth0]:5": "fe80::1%eth0", "@": "invalid IP",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = remote
		if got := SourceOf(r); got.String() != want {
			t.Errorf("%s comes from %s", remote, got)
		}
	}
}

// Who asks and does not take the answers holds nothing up for long.
func TestAnswerThatIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asker, conn := net.Pipe()
		ended := make(chan struct{})
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			defer close(ended)
			Answer(w, strings.Repeat("x", 1<<20))
		})}
		served := make(chan error)
		go func() { served <- server.Serve(&oneConn{conn: conn}) }()
		began := time.Now()
		io.WriteString(asker, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		<-ended
		if took := time.Since(began); took > 2*takeTimeout {
			t.Errorf("an answer waited %s", took)
		}
		asker.Close()
		server.Close()
		<-served
	})
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn   net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn, l.closed = nil, make(chan struct{})
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { close(l.closed); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// A GET with a body is refused: the answer would wait for the body.
func TestNoBody(t *testing.T) {
	for length, want := range map[int64]int{0: 204, 1: 400, -1: 400} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
		r.ContentLength = length
		NoBody(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })).ServeHTTP(w, r)
		if w.Code != want || (want == 400) != (w.Header().Get("Connection") == "close") {
			t.Errorf("with a body of %d: %d %v", length, w.Code, w.Header())
		}
	}
}
