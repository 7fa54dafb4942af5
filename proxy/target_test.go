// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bufio"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"apt-dht/index"
	"apt-dht/proxy/fetch/mirror"
)

// parseTarget reads a request line as the server does.
func parseTarget(target string) (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: proxy.example\r\n\r\n")))
}

var targets = []struct{ target, url string }{
	// Absolute form.
	{"http://deb.debian.org/debian/dists/stable/InRelease", "http://deb.debian.org/debian/dists/stable/InRelease"},
	{"https://deb.debian.org/x", "https://deb.debian.org/x"},
	{"HTTP://Deb.Debian.ORG/Debian/X", "http://deb.debian.org/Debian/X"},
	{"HttpS://Deb.Debian.ORG/X", "https://deb.debian.org/X"},
	{"http://h:8080/x", "http://h:8080/x"},
	{"http://192.0.2.7/x", "http://192.0.2.7/x"},
	{"http://[2001:DB8::1]/x", "http://[2001:db8::1]/x"},
	{"http://[2001:db8::1]:3142/x", "http://[2001:db8::1]:3142/x"},
	{"http://h", "http://h/"},
	{"http://h_h/x", "http://h_h/x"},
	{"http://xn--bcher-kva.example/x", "http://xn--bcher-kva.example/x"},

	// Prefix form, and apt-cacher-ng's for https.
	{"/deb.debian.org/debian/dists/stable/InRelease", "http://deb.debian.org/debian/dists/stable/InRelease"},
	{"/Deb.Debian.ORG:80/X", "http://deb.debian.org:80/X"},
	{"/h/", "http://h/"},
	{"/HTTPS///deb.debian.org/debian/x", "https://deb.debian.org/debian/x"},
	{"/HTTPS/deb.debian.org/debian/x", "https://deb.debian.org/debian/x"},
	{"http://HTTPS///deb.debian.org/debian/x", "https://deb.debian.org/debian/x"},
	{"/HTTPS///h:444/x", "https://h:444/x"},

	// What goes upstream is byte for byte what apt sent.
	{"http://h/pool/libstdc%2b%2b_1%3a2%7ebeta.deb", "http://h/pool/libstdc%2b%2b_1%3a2%7ebeta.deb"},
	{"http://h/pool/a_1%253a2.deb", "http://h/pool/a_1%253a2.deb"},
	{"/h/pool/a%2Bb%2bc_1%253a2.deb", "http://h/pool/a%2Bb%2bc_1%253a2.deb"},
	{"http://h/a//b/./c", "http://h/a//b/./c"},
	{"/h//a///b", "http://h//a///b"},
	{"/HTTPS///h//a//b", "https://h//a//b"},
	{"http://h/x?a=b&c=%20/?#", "http://h/x?a=b&c=%20/?"},
	{"/h/x?a=b", "http://h/x?a=b"},
	{"http://h?a=b", "http://h?a=b"},
	{"http://h/x#part", "http://h/x"},
	{"http://h/x?a=b#part", "http://h/x?a=b"},

	// A path that is ours names a file of another host, if one is named.
	{"http://evil/~/v1/status", "http://evil/~/v1/status"},
	{"http://evil/metrics", "http://evil/metrics"},

	// No file at an origin.
	{"/", ""},
	{"/?x", ""},
	{"//h/x", ""},
	{"/favicon.ico", ""},
	{"/robots.txt", ""},
	{"/metrics", ""},
	{"/~/v1/nothing", ""},
	{"/.well-known/x", ""},
	{"/-/x", ""},
	{"/HTTPS///", ""},
	{"http://user@h/x", ""},
	{"http://user:secret@h/x", ""},
	{"/user@h/x", ""},
	{"/HTTPS///user:secret@h/x", ""},
	{"http:///x", ""},
	{"ftp://h/x", ""},
	{"file:///etc/passwd", ""},
	{"/h%2fevil/x", ""},
	{"/h%00/x", ""},
	{"/" + strings.Repeat("h", 300) + "/x", ""},
	{"*", ""},
}

func TestTargetOf(t *testing.T) {
	for _, c := range targets {
		r, err := parseTarget(c.target)
		check(t, err)
		got, err := targetOf(r)
		switch {
		case got != c.url:
			t.Errorf("%s: %q, %v; want %q", c.target, got, err, c.url)
		case c.url == "" && !errors.Is(err, errNotAFile):
			t.Errorf("%s: error %v, want errNotAFile", c.target, err)
		}
	}
}

// FuzzTargetOf: whatever a request line says, its URL is one that is safe to
// log and to send, names a host and nobody's password, holds the path as it
// was sent, and means itself.
func FuzzTargetOf(f *testing.F) {
	for _, c := range targets {
		f.Add(c.target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		r, err := parseTarget(target)
		if err != nil {
			return
		}
		got, err := targetOf(r)
		if err != nil {
			if got != "" {
				t.Fatalf("%q and the error %v", got, err)
			}
			return
		}
		if strings.ContainsAny(got, " \r\n\t\x00#") {
			t.Fatalf("%q: a character that no URL has", got)
		}
		if _, err := index.NameOf(got); err != nil {
			return // refused later, with 400
		}
		u, err := url.Parse(got)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			t.Fatalf("%q: %v: no URL of a file", got, err)
		}
		_, rest, _ := strings.Cut(got, "://")
		if i := strings.IndexAny(rest, "/?"); i >= 0 && rest[i:] != "/" && !strings.Contains(r.RequestURI, rest[i:]) {
			t.Fatalf("%q is not what was sent, %q", rest[i:], r.RequestURI)
		}
		again, err := parseTarget(got)
		if err != nil {
			t.Fatalf("%q cannot be asked for: %v", got, err)
		}
		if same, err := targetOf(again); same != got {
			t.Fatalf("%q means %q, %v", got, same, err)
		}
	})
}

// What a mirror is asked is what apt wrote; what is looked up is decoded once.
func TestTargetReachesTheMirrorVerbatim(t *testing.T) {
	data := random(1, 100)
	a := newArchive(t, serving(data))
	n := newNode(t, setup{})
	n.learn(a, &repo{date: july, pool: map[string]string{
		"pool/c++_1:2~x.deb": data,
		"pool/a_1%3a2.deb":   data,
	}})
	for _, path := range []string{
		"/debian/pool/c%2b%2b_1%3a2%7ex.deb", "/debian/pool/c++_1:2~x.deb", "/debian/pool/a_1%253a2.deb",
		"/debian//pool/./x%20y", "/debian/x?a=b&c=%2F", "/~/v1/status", "/metrics", "/",
	} {
		for _, form := range []string{"http://", "/"} {
			n.transfers(0)
			target := form + a.host() + path
			before := len(a.requests())
			n.get(target).want(t, http.StatusOK, data)
			name, err := index.NameOf("http://" + a.host() + path)
			check(t, err)
			known := n.index.Lookup(name, addrOf("127.0.0.1:1")).Digest == digestOf(data)
			if strings.Contains(path, "pool/a_1") && !known {
				t.Errorf("%s is not known by its hash", path)
			}
			if asked := a.requests()[before:]; len(asked) == 1 && asked[0].RequestURI != path || len(asked) == 0 && !known {
				t.Errorf("%s: the mirror was asked %d times: %v", target, len(asked), asked)
			}
		}
	}
}

// An https origin is named by prefix: apt's own TLS would go through CONNECT.
func TestHTTPSOrigins(t *testing.T) {
	a := newTLSArchive(t, serving("over TLS"))
	n := newNode(t, setup{mirror: mirror.Config{TLS: tlsOf(a.server)}})
	for _, form := range []string{"/HTTPS///", "http://HTTPS///", "https://"} {
		n.get(form+a.host()+"/debian/"+"a%2bb").want(t, http.StatusOK, "over TLS")
		if got := a.last(); got.RequestURI != "/debian/a%2bb" || got.Host != a.host() {
			t.Errorf("%s: asked for %s at %s", form, got.RequestURI, got.Host)
		}
	}
}
