// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

const inRelease = "dists/stable/InRelease"

// newRootNode is a node with a mirror of r in its apt's sources.
func newRootNode(t testing.TB, r *repo) (*node, *archive) {
	t.Helper()
	a := newArchive(t, mirroring(t, r))
	return newNode(t, setup{sources: []string{a.source()}}), a
}

// Whoever asks for a root file while it is being asked for shares the answer.
func TestConcurrentAskersOfARootShareARequest(t *testing.T) {
	const askers = 8
	r := &repo{date: july}
	body := r.inRelease(t)
	g := newGate(t, body)
	a := newArchive(t, g.ServeHTTP)
	n := newNode(t, setup{sources: []string{a.source()}})
	var conns []*client
	for range askers {
		c := n.dial()
		c.send(aptRequest(a.url(inRelease), "Cache-Control: max-age=0"))
		conns = append(conns, c)
	}
	eventually(t, "all are waiting", func() bool { return n.rootWaiters() == askers })
	conns[0].Close() // the first to leave does not end it for the others
	eventually(t, "one has left", func() bool { return n.rootWaiters() == askers-1 })
	g.open()
	for _, c := range conns[1:] {
		c.answer("GET").want(t, 200, body)
	}
	a.wantRequests(t, 1)
}

// rootWaiters counts who waits for root files.
func (n *node) rootWaiters() (count int) {
	n.roots.mu.Lock()
	defer n.roots.mu.Unlock()
	for _, run := range n.roots.runs {
		count += run.waiters
	}
	return count
}

// Each time the mirror is asked with what it said itself of the copy held.
func TestRootIsRevalidated(t *testing.T) {
	r := &repo{date: july}
	body := r.inRelease(t)
	a := newArchive(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("ETag", `"mirrors-own"`)
		http.ServeContent(w, req, "", modified, strings.NewReader(body))
	})
	n := newNode(t, setup{sources: []string{a.source()}})
	first := n.get(a.url(inRelease))
	first.want(t, 200, body)
	first.wantField(t, "Last-Modified", dated)
	if asked := a.last().Header; asked.Get("If-Modified-Since") != "" || asked.Get("Accept-Encoding") != "" {
		t.Errorf("the first question had %v", asked)
	}
	second := n.get(a.url(inRelease))
	second.want(t, 200, body)
	second.wantField(t, "Last-Modified", dated)
	second.wantField(t, "X-Apt-Dht-Source", "store")
	if asked := a.last().Header; asked.Get("If-Modified-Since") != dated || asked.Get("If-None-Match") != `"mirrors-own"` {
		t.Errorf("the second question had %v", asked)
	}
	n.get(a.url(inRelease), "If-Modified-Since: "+dated).want(t, 304, "")
	n.get(a.url(inRelease), "If-None-Match: "+second.Header.Get("Etag")).want(t, 304, "")
	n.get(a.url(inRelease), "HEAD").want(t, 200, "")
	n.get(a.url(inRelease), "Range: bytes=10-19", "If-Range: "+dated).want(t, 206, body[10:20])
	a.wantRequests(t, 6)
}

func TestChangedRootIsTaken(t *testing.T) {
	old, now := &repo{date: july}, &repo{date: august}
	n, a := newRootNode(t, old)
	n.get(a.url(inRelease))
	body := now.inRelease(t)
	later := modified.Add(time.Hour)
	a.answer(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", later, strings.NewReader(body))
	})
	got := n.get(a.url(inRelease), "If-Modified-Since: "+dated)
	got.want(t, 200, body)
	got.wantField(t, "Last-Modified", later.Format(http.TimeFormat))
	n.get(a.url(inRelease), "If-Modified-Since: "+later.Format(http.TimeFormat)).want(t, 304, "")
}

// Detached signatures, and a repository that has no InRelease.
func TestReleaseAndItsSignature(t *testing.T) {
	r := &repo{date: july}
	text := r.release()
	var sig bytes.Buffer
	check(t, openpgp.ArmoredDetachSign(&sig, []*openpgp.Entity{archiveKey()}, strings.NewReader(text), nil))
	files := map[string]string{"Release": text, "Release.gpg": sig.String() + "\n"}
	a := newArchive(t, func(w http.ResponseWriter, req *http.Request) {
		data, ok := files[req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]]
		if !ok {
			http.Error(w, "not here", http.StatusNotFound)
			return
		}
		http.ServeContent(w, req, "", modified, strings.NewReader(data))
	})
	n := newNode(t, setup{sources: []string{a.source()}})
	// 404 makes apt try Release: it must be the mirror's, not our own.
	n.get(a.url(inRelease)).want(t, 404, "not here\n")
	n.get(a.url("dists/stable/Release")).want(t, 200, files["Release"])
	n.get(a.url("dists/stable/Release.gpg")).want(t, 200, files["Release.gpg"])
	name := a.host() + "/debian/dists/stable/" + listPath
	if entry := n.index.Lookup(name, addrOf("127.0.0.1:1")); !entry.Trusted {
		t.Errorf("%s is not known as signed: %+v", name, entry)
	}
}

const portal = "<!DOCTYPE html><html><title>Hotel Wi-Fi</title></html>"

// badRoots are answers that must be neither given nor kept: apt would take
// them for the repository's.
func badRoots(t *testing.T) map[string]http.HandlerFunc {
	signed := (&repo{date: august}).inRelease(t)
	return map[string]http.HandlerFunc{
		"a portal's page": answering(200, portal, "Content-Type: text/html"),
		"a portal's redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/login" {
				http.Redirect(w, r, "/login", http.StatusFound)
				return
			}
			io.WriteString(w, portal)
		},
		"changed after signing":   answering(200, strings.Replace(signed, "Origin: Test", "Origin: Evil", 1)),
		"text before the message": answering(200, "Origin: Evil\n"+signed),
		"text after the message":  answering(200, signed+"Origin: Evil\n"),
		"empty":                   answering(200, ""),
		"cut":                     answering(200, signed[:len(signed)/2]),
		"cut by the connection": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(signed)))
			io.WriteString(w, signed[:len(signed)/2])
			panic(http.ErrAbortHandler)
		},
		"too large":      func(w http.ResponseWriter, _ *http.Request) { w.Write(bytes.Repeat([]byte("-"), maxRoot+1)) },
		"without an end": endless,
	}
}

func endless(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := w.Write(bytes.Repeat([]byte("-----BEGIN PGP SIGNED MESSAGE-----\n"), 1000)); err != nil {
			return
		}
	}
}

func TestBadRootIsNeitherGivenNorKept(t *testing.T) {
	r := &repo{date: july}
	for what, bad := range badRoots(t) {
		t.Run(what, func(t *testing.T) {
			n, a := newRootNode(t, r)
			a.answer(bad)
			got := n.get(a.url(inRelease))
			if got.StatusCode < 500 || got.cut != nil || got.body == "" || strings.Contains(got.body, "<html") {
				t.Errorf("answered %s: %q (%v)", got.Status, got.body, got.cut)
			}
			if blobs, _, _ := n.store.Usage(); blobs != 0 {
				t.Errorf("%d files are stored", blobs)
			}

			// The last good copy is better than that, and stays.
			a.answer(mirroring(t, r))
			good := n.get(a.url(inRelease))
			a.answer(bad)
			stale := n.get(a.url(inRelease))
			stale.want(t, 200, good.body)
			stale.wantField(t, "Warning", staleWarning)
			stale.wantField(t, "Last-Modified", dated)
			a.answer(mirroring(t, r))
			n.get(a.url(inRelease)).wantField(t, "Warning", "")
		})
	}
}

// What the mirror answers instead of a root file goes on as it is where it is
// about the file, and gives way to the last good copy where it is not.
func TestMirrorsErrorsAboutRoots(t *testing.T) {
	for _, c := range []struct {
		code  int
		stale bool
	}{{404, false}, {410, false}, {403, false}, {401, false}, {451, false}, {500, true}, {502, true}, {503, true}, {429, true}, {408, true}} {
		t.Run(fmt.Sprint(c.code), func(t *testing.T) {
			n, a := newRootNode(t, &repo{date: july})
			refusing := answering(c.code, "the mirror says no", "Retry-After: 120", "Content-Type: text/x-no")
			a.answer(refusing)
			got := n.get(a.url(inRelease))
			got.want(t, c.code, "the mirror says no")
			got.wantField(t, "Retry-After", "120")
			got.wantField(t, "Content-Type", "text/x-no")
			a.answer(mirroring(t, &repo{date: july}))
			good := n.get(a.url(inRelease))
			a.answer(refusing)
			if again := n.get(a.url(inRelease)); c.stale {
				again.want(t, 200, good.body)
				again.wantField(t, "Warning", staleWarning)
			} else {
				again.want(t, c.code, "the mirror says no")
			}
		})
	}
}

func TestMirrorDown(t *testing.T) {
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC1123) }
	for _, c := range []struct {
		name      string
		fields    string
		confirmed time.Duration // ago
		stale     bool
	}{
		{"valid", "Valid-Until: " + ago(-time.Hour) + "\n", 0, true},
		{"valid for long", "Valid-Until: " + ago(-1000*time.Hour) + "\n", 8 * 24 * time.Hour, true},
		{"expired", "Valid-Until: " + ago(time.Second) + "\n", 0, false},
		{"no Valid-Until", "", 6 * 24 * time.Hour, true},
		{"no Valid-Until, long ago", "", 8 * 24 * time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &repo{date: july, fields: c.fields}
			n, a := newRootNode(t, r)
			body := n.get(a.url(inRelease)).body
			rec, err := n.store.GetURL(a.url(inRelease))
			check(t, err)
			rec.Confirmed = time.Now().Add(-c.confirmed)
			check(t, n.store.PutURL(a.url(inRelease), rec))
			a.Close()
			got := n.get(a.url(inRelease))
			if !c.stale {
				got.wantRefusal(t, 502, "expired")
				return
			}
			got.want(t, 200, body)
			got.wantField(t, "Warning", `110 - "Response is Stale"`)
		})
	}
}

// A mirror that fails slowly is not waited for again at once.
func TestSilentMirrorIsLeftAlone(t *testing.T) {
	n, a := newRootNode(t, &repo{date: july})
	body := n.get(a.url(inRelease)).body
	a.answer(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(slowFailure)
		answering(503, "down")(w, r)
	})
	for range 3 {
		got := n.get(a.url(inRelease))
		got.want(t, 200, body)
		got.wantField(t, "Warning", `110 - "Response is Stale"`)
	}
	a.wantRequests(t, 2)
	n.get(a.url("dists/other/InRelease")).want(t, 503, "down") // of which there is no copy
}

// A root file that nobody has is an error to be tried again, never a 404.
func TestMirrorDownWithoutACopy(t *testing.T) {
	n, a := newRootNode(t, &repo{date: july})
	a.Close()
	n.get(a.url(inRelease)).wantRefusal(t, 502, a.host())
}

// A mirror of the same repository, by our sources, stands in for one that is down.
func TestAnotherMirrorStandsIn(t *testing.T) {
	r := &repo{date: july, pool: map[string]string{"pool/a%2b.deb": random(1, 1000)}}
	first, second := newArchive(t, nil), newArchive(t, nil)
	first.answer(mirroring(t, r))
	second.answer(first.handler) // the very same bytes
	n := newNode(t, setup{sources: []string{first.source(), second.source()}})
	body := n.get(first.url(inRelease)).body
	n.get(second.url(inRelease)).want(t, 200, body)
	n.get(first.url("dists/stable/"+listPath)).want(t, 200, r.packages())
	first.answer(answering(503, "down"))
	n.get(first.url(inRelease)).want(t, 200, body)
	eventually(t, "the list is indexed", func() bool {
		return n.index.Lookup(first.host()+"/debian/pool/a%2b.deb", addrOf("127.0.0.1:1")).Digest != [32]byte{}
	})
	first.Close()
	n.get(first.url("pool/a%252b.deb")).want(t, 200, r.pool["pool/a%2b.deb"])
	if got := second.last().RequestURI; got != "/debian/pool/a%252b.deb" {
		t.Errorf("the other mirror was asked for %s", got)
	}
}

// A plain index path is answered as the root says that its client was given.
func TestIndexesFollowTheClientsRoot(t *testing.T) {
	old := &repo{date: july, pool: map[string]string{"pool/old.deb": "old"}}
	now := &repo{date: august, pool: map[string]string{"pool/new.deb": "new"}}
	n, a := newRootNode(t, old)
	list := a.url("dists/stable/" + listPath)
	const behind, ahead = "127.0.0.1", "127.0.0.2"
	for _, client := range []string{behind, ahead} {
		n.getFrom(client, a.url(inRelease))
		n.getFrom(client, list).want(t, 200, old.packages())
	}
	later := mirroring(t, now)
	a.answer(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("If-Modified-Since")
		later(w, r)
	})
	n.getFrom(ahead, a.url(inRelease))
	n.getFrom(ahead, list).want(t, 200, now.packages())
	n.getFrom(behind, list).want(t, 200, old.packages())
	n.getFrom("127.0.0.3", list).want(t, 200, now.packages())
	n.getFrom(behind, a.url("dists/stable/"+byHash(old.packages()))).want(t, 200, old.packages())
	n.getFrom(behind, a.url(inRelease))
	n.getFrom(behind, list).want(t, 200, now.packages())
}

func byHash(list string) string {
	return fmt.Sprintf("main/binary-amd64/by-hash/SHA256/%x", digestOf(list))
}

// A list that is asked for by a hash by which the mirror names no files is had by
// its SHA-256.
func TestByHashOfAnotherKind(t *testing.T) {
	r := &repo{date: july, pool: map[string]string{"pool/x.deb": "x"}}
	list := r.packages()
	sum := sha512.Sum512([]byte(list))
	r.fields = fmt.Sprintf("SHA512:\n %x %d %s\n", sum, len(list), listPath)
	n, a := newRootNode(t, r)
	a.answer(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, byHash(list)) {
			req.URL.Path = "/debian/dists/stable/" + listPath
		}
		mirroring(t, r)(w, req)
	})
	n.get(a.url(inRelease))
	n.get(a.url(fmt.Sprintf("dists/stable/main/binary-amd64/by-hash/SHA512/%x", sum))).want(t, 200, list)
}

// From nothing: what the traffic shows is all that makes files known by hash.
func TestIndexIsLearntFromTheTraffic(t *testing.T) {
	data := random(9, 5000)
	r := &repo{date: july, pool: map[string]string{"pool/x.deb": data}}
	n, a := newRootNode(t, r)
	a.answer(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, byHash(r.packages())) {
			req.URL.Path = "/debian/dists/stable/" + listPath
		}
		mirroring(t, r)(w, req)
	})
	n.get(a.url(inRelease))
	n.get(a.url("dists/stable/"+byHash(r.packages()))).want(t, 200, r.packages())
	eventually(t, "the list is indexed", func() bool {
		return n.index.Lookup(a.host()+"/debian/pool/x.deb", addrOf("127.0.0.1:1")).Digest == digestOf(data)
	})
	n.get(a.url("pool/x.deb")).want(t, 200, data)
	a.Close()
	n.get(a.url("pool/x.deb")).wantField(t, "X-Apt-Dht-Source", "store")
}
