// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestRefusedRequests(t *testing.T) {
	cl := New(Config{Dial: (&origin{}).dial})
	defer cl.Close()
	for name, spoil := range map[string]func(*http.Request){
		"no URL":             func(r *http.Request) { r.URL = nil },
		"method":             func(r *http.Request) { r.Method = http.MethodHead },
		"body":               func(r *http.Request) { r.Body = http.NoBody; r.Body = closed{} },
		"scheme":             func(r *http.Request) { r.URL.Scheme = "ftp" },
		"no host":            func(r *http.Request) { r.URL.Host = "" },
		"line break in host": func(r *http.Request) { r.Host = "x\r\nX-Y: z" },
		"blank in target":    func(r *http.Request) { r.URL.Opaque = "//x/a b" },
		"line break":         func(r *http.Request) { r.URL.Opaque = "//x/a\r\nX-Y: z" },
		"break in query":     func(r *http.Request) { r.URL.RawQuery = "a\nb" },
		"target without /":   func(r *http.Request) { r.URL.Opaque = "x" },
		"field name":         func(r *http.Request) { r.Header.Set("a b", "c") },
		"CR in a field":      func(r *http.Request) { r.Header.Set("A", "b\rc") },
		"LF in a field":      func(r *http.Request) { r.Header.Set("A", "b\n") },
	} {
		t.Run(name, func(t *testing.T) {
			req := get(background, host+"/x")
			spoil(req)
			_, err := cl.RoundTrip(req)
			if err == nil || !strings.HasPrefix(err.Error(), "mirror: request: ") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// closed is a body that must be closed, not read.
type closed struct{}

func (closed) Read([]byte) (int, error) { panic("the body was read") }
func (closed) Close() error             { return nil }

func TestTarget(t *testing.T) {
	for _, tt := range []struct{ opaque, path, query, want string }{
		{"//h/a%2b%7e", "", "", "/a%2b%7e"},
		{"//h/a?b", "", "b", "/a?b"},
		{"//h/a", "", "b", "/a?b"},
		{"//h?b", "", "", "/?b"},
		{"//h", "", "", "/"},
		{"/a%2b", "", "", "/a%2b"},
		{"", "/a b", "c", "/a%20b?c"},
		{"", "", "", "/"},
	} {
		u := &url.URL{Scheme: "http", Host: "h", Opaque: tt.opaque, Path: tt.path, RawQuery: tt.query}
		if got := target(u); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"http://Deb.Debian.org/x":     "deb.debian.org:80",
		"https://deb.debian.org":      "deb.debian.org:443",
		"http://[2001:DB8::1]:8080/x": "[2001:db8::1]:8080",
	} {
		if got := address(get(background, in).URL); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestKeepAliveParameters(t *testing.T) {
	for in, want := range map[string]struct {
		idle     time.Duration
		requests int
	}{
		"":                              {-1, -1},
		"timeout=5, max=100":            {5 * time.Second, 100},
		"Max=0":                         {-1, 0},
		"timeout=-1, max=x, other, =,,": {-1, -1},
		"timeout=99999999999999999999":  {-1, -1},
	} {
		idle, requests := keepAlive(http.Header{"Keep-Alive": {in}})
		if idle != want.idle || requests != want.requests {
			t.Errorf("%q: %v, %d", in, idle, requests)
		}
	}
}

func TestHostsAreForgotten(t *testing.T) {
	h, now := make(hosts), time.Now()
	for i := range 2 * maxHosts {
		h.note(strings.Repeat("x", i), pipelines, now)
	}
	if len(h) > maxHosts {
		t.Errorf("%d hosts", len(h))
	}
	h.note("a", alone, now)
	if h.manner("a", now) != alone || h.manner("a", now.Add(mannerAge)) != unknown {
		t.Error("a manner lasts an hour, not more or less")
	}
}

func TestErrorsShowNoPassword(t *testing.T) {
	u, _ := url.Parse("http://user:secret@mirror.test/x")
	if got := failure("dial", u, ErrStalled).Error(); strings.Contains(got, "secret") || !strings.Contains(got, "mirror.test/x") {
		t.Error(got)
	}
}
