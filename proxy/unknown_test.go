// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A file without a known hash is kept by its URL, as HTTP allows (RFC 9111).
func TestKeepingUnknownFiles(t *testing.T) {
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for _, c := range []struct {
		name   string
		fields []string // of the mirror's answer
		client []string // of the second request
		source string   // of the second answer
		asked  string   // how the mirror was asked the second time: "", "plain" or "conditional"
	}{
		{"nothing said", nil, nil, "store", "conditional"},
		{"fresh for a while", []string{"Cache-Control: public, max-age=3600"}, nil, "store", ""},
		{"fresh until", []string{"Expires: " + in(time.Hour)}, nil, "store", ""},
		{"fresh, but the client will know", []string{"Cache-Control: max-age=3600"}, []string{"Cache-Control: max-age=0"}, "store", "conditional"},
		{"fresh, but not for this client", []string{"Cache-Control: max-age=3600"}, []string{"Cache-Control: no-cache"}, "store", "conditional"},
		{"fresh, but not for an old client", []string{"Cache-Control: max-age=3600"}, []string{"Pragma: no-cache"}, "store", "conditional"},
		{"not fresh", []string{"Cache-Control: max-age=0"}, nil, "store", "conditional"},
		{"age wins over Expires", []string{"Cache-Control: max-age=0", "Expires: " + in(time.Hour)}, nil, "store", "conditional"},
		{"expired", []string{"Expires: 0"}, nil, "store", "conditional"},
		{"malformed age", []string{"Cache-Control: max-age=soon"}, nil, "store", "conditional"},
		{"fresh, but to be asked for", []string{"Cache-Control: no-cache, max-age=3600"}, nil, "store", "conditional"},
		{"to be asked for, in another line", []string{"Cache-Control: max-age=3600", "Cache-Control: no-cache"}, nil, "store", "conditional"},
		{"not to be stored", []string{"Cache-Control: no-store"}, nil, "mirror", "plain"},
		{"not to be stored, loudly", []string{"Cache-Control: max-age=3600", "Cache-Control: NO-STORE"}, nil, "mirror", "plain"},
		{"somebody's own", []string{"Cache-Control: private"}, nil, "mirror", "plain"},
		{"varying by everything", []string{"Vary: *"}, nil, "mirror", "plain"},
		{"varying by everything, in a list", []string{"Vary: Accept-Encoding, *"}, nil, "mirror", "plain"},
		{"varying by what we never send", []string{"Vary: Accept-Encoding"}, nil, "store", "conditional"},
		{"varying by what differs", []string{"Vary: Accept", "Cache-Control: max-age=3600"}, []string{"Accept: text/*"}, "mirror", "plain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := random(1, 5000)
			a := newArchive(t, func(w http.ResponseWriter, r *http.Request) {
				for _, f := range c.fields {
					name, value, _ := strings.Cut(f, ": ")
					w.Header().Add(name, value)
				}
				w.Header().Set("ETag", `"tag"`)
				serving(data)(w, r)
			})
			n := newNode(t, setup{})
			first := n.get(a.url("file"))
			first.want(t, 200, data)
			first.wantField(t, "X-Apt-Dht-Source", "mirror")
			n.transfers(0)
			a.wantRequests(t, 1)
			second := n.get(a.url("file"), c.client...)
			second.want(t, 200, data)
			second.wantField(t, "X-Apt-Dht-Source", c.source)
			second.wantField(t, "Last-Modified", dated)
			asked := ""
			if len(a.requests()) > 1 {
				asked = "plain"
				if h := a.last().Header; h.Get("If-None-Match") == `"tag"` && h.Get("If-Modified-Since") == dated {
					asked = "conditional"
				}
			}
			if asked != c.asked {
				t.Errorf("the mirror was asked %q, want %q", asked, c.asked)
			}
		})
	}
}

// An answer of 304 makes the kept copy fresh again (RFC 9111 §4.3.4).
func TestConfirmationRenewsFreshness(t *testing.T) {
	a := newArchive(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		serving("data")(w, r)
	})
	n := newNode(t, setup{})
	n.get(a.url("file"))
	n.transfers(0)
	rec, err := n.store.GetURL(a.url("file"))
	check(t, err)
	rec.FreshUntil = time.Now().Add(-time.Minute)
	check(t, n.store.PutURL(a.url("file"), rec))
	for range 3 {
		n.get(a.url("file")).want(t, 200, "data")
	}
	a.wantRequests(t, 2)
}

func TestChangedUnknownFileIsTaken(t *testing.T) {
	a := newArchive(t, serving("old"))
	n := newNode(t, setup{})
	n.get(a.url("file")).want(t, 200, "old")
	n.transfers(0)
	a.answer(answering(200, "new", "Last-Modified: "+modified.Add(time.Hour).Format(http.TimeFormat)))
	got := n.get(a.url("file"), "If-Modified-Since: "+dated)
	got.want(t, 200, "new")
	n.transfers(0)
	a.answer(answering(404, "gone"))
	n.get(a.url("file")).want(t, 404, "gone")
}

// While the mirror cannot be asked, its last word counts, unless it forbade that.
func TestStaleUnknownFiles(t *testing.T) {
	for _, c := range []struct {
		control string
		stale   bool
	}{{"", true}, {"max-age=0", true}, {"must-revalidate", false}, {"proxy-revalidate", false}, {"no-cache", false}} {
		for what, down := range map[string]http.HandlerFunc{
			"busy": answering(503, "busy"),
			"gone": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		} {
			t.Run(fmt.Sprintf("%q %s", c.control, what), func(t *testing.T) {
				t.Parallel()
				a := newArchive(t, func(w http.ResponseWriter, r *http.Request) {
					if c.control != "" {
						w.Header().Set("Cache-Control", c.control)
					}
					serving("data")(w, r)
				})
				n := newNode(t, setup{})
				n.get(a.url("file")).want(t, 200, "data")
				n.transfers(0)
				a.answer(down)
				got := n.get(a.url("file"))
				if c.stale {
					got.want(t, 200, "data")
					got.wantField(t, "Warning", staleWarning)
				} else if got.StatusCode < 500 {
					t.Errorf("answered %s: %q", got.Status, got.body)
				}
			})
		}
	}
}

// What was asked with credentials is passed through: neither kept nor shared,
// be its hash known or not.
func TestCredentials(t *testing.T) {
	secret := "for your eyes only"
	a := newArchive(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" && r.Header.Get("Cookie") == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="us"`)
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Cache-Control", "max-age=3600")
		serving(secret)(w, r)
	})
	for _, credential := range []string{"Authorization: Basic eDp5", "Cookie: a=b"} {
		n := newNode(t, setup{})
		n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": secret}})
		for _, path := range []string{"file", "pool/x.deb"} {
			before := len(a.requests())
			n.get(a.url(path), credential).want(t, 200, secret)
			n.get(a.url(path), credential, "Range: bytes=4-", "If-Range: "+dated).want(t, 206, secret[4:])
			n.get(a.url(path), credential, "If-Modified-Since: "+dated).want(t, 304, "")
			if got := len(a.requests()) - before; got != 3 {
				t.Errorf("%s was asked for %d times", path, got)
			}
			if blobs, _, _ := n.store.Usage(); blobs != 0 {
				t.Errorf("%s is stored", path)
			}
			got := n.get(a.url(path))
			got.want(t, 401, "who are you\n")
			got.wantField(t, "WWW-Authenticate", `Basic realm="us"`)
		}
	}
}

// apt leaves a password that is in a line of sources.list in the URI. It reaches the
// mirror as a field, in nobody's log, and what came for it is nobody else's.
func TestPasswordInTheURI(t *testing.T) {
	a := newArchive(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		io.WriteString(w, user+" "+password+" "+r.RequestURI)
	})
	for uri, want := range map[string]string{
		"http://me:p%40ss@": "me p@ss /debian/file",
		"http://me@":        "me  /debian/file",
		"http://a:b@c:d@":   "a b@c:d /debian/file", // as apt's own parser and Go's have it
	} {
		n := newNode(t, setup{})
		host := strings.TrimPrefix(a.url("file"), "http://")
		n.get(uri+host).want(t, 200, want)
		n.get(a.url("file")).want(t, 200, "  /debian/file")
		n.get(uri+host, "Authorization: Basic eDp5").want(t, 200, "x y /debian/file")
	}
	n := newNode(t, setup{})
	for _, uri := range []string{"/me:secret@h/x", "http://HTTPS///me:secret@h/x"} {
		if got := n.get(uri); got.StatusCode != http.StatusBadRequest || strings.Contains(got.Status, "secret") {
			t.Errorf("%s: %s", uri, got.Status)
		}
	}
}

// Two who show who they are never share an answer, even at the same moment.
func TestCredentialsAreNotShared(t *testing.T) {
	a := newArchive(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("Authorization")) })
	n := newNode(t, setup{})
	conns := map[string]*client{}
	for _, who := range []string{"Basic eDp5", "Basic eTp6"} {
		conns[who] = n.dial()
		conns[who].send(aptRequest(a.url("me"), "Authorization: "+who))
	}
	for who, c := range conns {
		c.answer("GET").want(t, 200, who)
	}
}

// What is one asker's own is not given to another who asks meanwhile.
func TestPrivateAnswersAreNotShared(t *testing.T) {
	var count atomic.Int32
	g := newGate(t, "")
	a := newArchive(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "private")
		fmt.Fprintf(w, "for asker %d", count.Add(1))
		http.NewResponseController(w).Flush()
		g.ServeHTTP(w, r)
	})
	n := newNode(t, setup{})
	first, second := n.dial(), n.dial()
	first.send(aptRequest(a.url("me")))
	eventually(t, "the answer has begun", func() bool { tr := n.fetch.Transfers(); return len(tr) == 1 && tr[0].Have > 0 })
	second.send(aptRequest(a.url("me")))
	eventually(t, "the second asker has come", func() bool {
		tr := n.fetch.Transfers()
		return count.Load() > 1 || len(tr) == 1 && tr[0].Readers == 2
	})
	g.open()
	one, other := first.answer("GET"), second.answer("GET")
	if one.body == other.body || one.cut != nil || other.cut != nil {
		t.Errorf("two askers were answered %q and %q", one.body, other.body)
	}
}

// The mirror is asked as apt asks: nothing is added but what a proxy must add.
func TestWhatTheMirrorIsAsked(t *testing.T) {
	a := newArchive(t, serving("data"))
	n := newNode(t, setup{})
	for _, path := range []string{"file", inRelease} {
		n.get(a.url(path), "Accept: text/*", "Cache-Control: max-age=0", "Via: 1.0 fred, 1.1 office", "Via: 1.1 other",
			"Proxy-Authorization: Basic eDp5", "Proxy-Connection: keep-alive", "X-Forwarded-For: 192.0.2.1", "Connection: X-Own", "X-Own: 1")
		h := a.last().Header.Clone()
		want := map[string]string{"User-Agent": "Debian APT-HTTP/1.3 (2.6.1)", "Accept": "text/*", "Cache-Control": "max-age=0",
			"Via": "1.0 fred, 1.1 office|1.1 other|" + n.via}
		for name, value := range want {
			if got := strings.Join(h[name], "|"); got != value {
				t.Errorf("%s: %q, want %q", name, got, value)
			}
			h.Del(name)
		}
		if len(h) > 0 || a.last().Host != a.host() {
			t.Errorf("the mirror %s was told more: %v", a.last().Host, h)
		}
	}
}

// Bytes go through as they are: apt decodes no Content-Encoding, and asks for none.
func TestContentEncodingIsNotDecoded(t *testing.T) {
	packed := "\x1f\x8b\x08 not even gzip"
	a := newArchive(t, answering(200, packed, "Content-Encoding: gzip", "Content-Type: application/x-test"))
	n := newNode(t, setup{})
	for range 2 {
		got := n.get(a.url("file"))
		got.want(t, 200, packed)
		got.wantField(t, "Content-Type", "application/x-test")
		n.transfers(0)
	}
}

// Redirects are followed here: through apt and back the hash would be lost.
func TestRedirects(t *testing.T) {
	data := random(1, 1000)
	target := newArchive(t, serving(data))
	a := newArchive(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/debian/pool/x.deb", "/debian/away":
			http.Redirect(w, r, target.URL+"/else%2bwhere", http.StatusFound)
		case "/debian/near":
			http.Redirect(w, r, "there?x=1", http.StatusTemporaryRedirect)
		case "/debian/loop":
			http.Redirect(w, r, "loop", http.StatusMovedPermanently)
		default:
			serving(r.URL.RawQuery)(w, r)
		}
	})
	n := newNode(t, setup{})
	n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": data}})
	n.get(a.url("pool/x.deb")).want(t, 200, data)
	n.get(a.url("near")).want(t, 200, "x=1")
	n.get(a.url("away"), "Authorization: Basic eDp5").want(t, 200, data)
	if got := target.last(); got.RequestURI != "/else%2bwhere" || got.Header.Get("Authorization") != "" {
		t.Errorf("after the redirect %s was asked for with %v", got.RequestURI, got.Header)
	}
	n.get(a.url("loop"), "Authorization: Basic eDp5").wantRefusal(t, 502, "redirects")
}
