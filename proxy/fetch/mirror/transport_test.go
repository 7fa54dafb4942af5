// SPDX-License-Identifier: GPL-2.0-or-later

package mirror

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestHTTPS(t *testing.T) {
	for _, http2 := range []bool{true, false} {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if len(r.Header) != 0 {
				t.Errorf("fields nobody asked for: %v", r.Header)
			}
			io.WriteString(w, r.Proto+" "+r.RequestURI)
		}))
		srv.EnableHTTP2 = http2
		srv.StartTLS()
		roots := x509.NewCertPool()
		roots.AddCert(srv.Certificate())
		cl := New(Config{TLS: &tls.Config{RootCAs: roots}})
		proto := map[bool]string{true: "HTTP/2.0 ", false: "HTTP/1.1 "}[http2]
		for _, target := range []string{"/a%2bb%7ec%253ad", "//twice//x", "/a?b=%2f"} {
			req := get(background, srv.URL)
			req.URL.Opaque = "//" + req.URL.Host + target
			if got, err := body2string(cl.RoundTrip(req)); err != nil || got != proto+target {
				t.Errorf("%s: %q, %v", target, got, err)
			}
		}
		cl.Close()
		srv.Close()
	}
}

func TestClassesShareNoTransport(t *testing.T) {
	cl := New(Config{})
	defer cl.Close()
	a := cl.transportFor(classOf(background))
	b := cl.transportFor(classOf(WithRealm(background, "loopback")))
	c := cl.transportFor(classOf(WithBackground(background)))
	if a == b || b == c || a == c || a != cl.transportFor(classOf(background)) {
		t.Error("a transport for each class, and one only")
	}
}
