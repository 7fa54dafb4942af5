// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"apt-dht/proxy/fetch"
	"apt-dht/store"
)

func findRequest(query string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/~/v1/find?"+query, nil)
	r.Host = "127.0.0.1:9977"
	return r
}

// find asks a node who has a file.
func find(t *testing.T, s *Server, query string, header ...string) (Found, *httptest.ResponseRecorder) {
	t.Helper()
	r := findRequest(query)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	newFinder(s).ServeHTTP(w, r)
	var f Found
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &f); err != nil {
			t.Fatal(err)
		}
	}
	return f, w
}

// put stores a blob.
func put(t *testing.T, s *store.Store, body string) string {
	t.Helper()
	return putAs(t, s, body, store.Meta{})
}

func putAs(t *testing.T, s *store.Store, body string, meta store.Meta) string {
	t.Helper()
	d := sha256.Sum256([]byte(body))
	g, err := s.Create(d, int64(len(body)))
	check(t, err)
	_, err = g.Write([]byte(body))
	check(t, err)
	_, err = g.Commit(meta)
	check(t, err)
	return hex.EncodeToString(d[:])
}

func TestFindInStore(t *testing.T) {
	n := newNode(t, setup{})
	hash := put(t, n.store, "hello")
	f, _ := find(t, n.Server, "sha256="+strings.ToUpper(hash))
	if f.SHA256 != hash || f.Size != 5 || len(f.Places) != 1 || f.Places[0].Where != fetch.FromStore || !f.Places[0].Used || f.Places[0].Addr.IsValid() {
		t.Errorf("got %+v", f)
	}
	if !strings.HasPrefix(f.LAN, "not asked") || !strings.HasPrefix(f.Internet, "not asked") {
		t.Errorf("got %+v", f)
	}
	f, _ = find(t, n.Server, "sha256="+strings.Repeat("1", 64))
	if f.Places == nil || len(f.Places) != 0 || f.Size != -1 {
		t.Errorf("of what nobody has: %+v", f)
	}
}

// A URL stands for the hash that the index names; where it names none, the answer
// says why.
func TestFindByURL(t *testing.T) {
	n := newNode(t, setup{})
	root, err := hex.DecodeString(put(t, n.store, "a stored root file"))
	check(t, err)
	check(t, n.store.PutURL("http://deb.example/debian/dists/old/InRelease", store.URLRecord{Digest: store.Digest(root)}))
	for url, why := range map[string]string{
		"http://deb.example/debian/dists/old/InRelease":      "it is a root file",
		"http://deb.example/debian/pool/a.deb":               "no index that this node has read names it",
		"http://deb.example/debian/dists/stable/InRelease":   "it is a root file",
		"https://user:secret@deb.example/debian/pool/b.deb?": "no index",
	} {
		f, w := find(t, n.Server, "url="+strings.ReplaceAll(url, "?", "%3f"))
		if w.Code != http.StatusOK || f.SHA256 != "" || !strings.Contains(f.Why, why) || f.LAN != "not asked" {
			t.Errorf("%s: %d, %+v", url, w.Code, f)
		}
	}
	hash := put(t, n.store, "stored by its URL")
	raw, err := hex.DecodeString(hash)
	check(t, err)
	check(t, n.store.PutURL("http://deb.example/key.asc", store.URLRecord{Digest: store.Digest(raw)}))
	if f, _ := find(t, n.Server, "url=http://deb.example/key.asc"); f.SHA256 != hash || len(f.Places) != 1 {
		t.Errorf("got %+v", f)
	}
}

func TestFindRefuses(t *testing.T) {
	n := newNode(t, setup{})
	for _, query := range []string{"", "sha256=", "sha256=abc", "sha256=" + strings.Repeat("g", 64), "url=", "url=deb.example", "url=ftp://a/b", "sha256=" + strings.Repeat("00", 33), "sha256=" + strings.Repeat("0", 64)} {
		if _, w := find(t, n.Server, query); w.Code != http.StatusBadRequest {
			t.Errorf("%q: got %d", query, w.Code)
		}
	}
	hash := strings.Repeat("1", 64)
	if _, w := find(t, n.Server, "sha256="+hash, "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden {
		t.Errorf("a web page got %d", w.Code)
	}
	for host, code := range map[string]int{"evil.example:9977": 403, "evil.example": 403, "": 403, "localhost:9977": 200, "192.0.2.1": 200, "[::1]:9977": 200} {
		r, w := findRequest("sha256="+hash), httptest.NewRecorder()
		r.Host = host
		if newFinder(n.Server).ServeHTTP(w, r); w.Code != code {
			t.Errorf("asked as %q it answered %d", host, w.Code)
		}
	}
	f := newFinder(n.Server)
	for range maxFinds {
		f.tokens <- struct{}{}
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, findRequest("sha256="+hash))
	if w.Code != http.StatusTooManyRequests {
		t.Errorf("beyond the bound it answered %d", w.Code)
	}
}

// Only the lowest rung that has the file is used, and comes first.
func TestFindRanks(t *testing.T) {
	place := func(where string) FoundPlace {
		return FoundPlace{Where: where, Addr: netip.MustParseAddrPort("192.0.2.1:9978")}
	}
	for name, tt := range map[string]struct{ places, want string }{
		"nobody":        {"", ""},
		"wan":           {"wan wan", "wan+ wan+"},
		"lan first":     {"wan lan wan lan", "lan+ lan+ wan wan"},
		"store first":   {"wan lan store", "store+ wan lan"},
		"store and wan": {"store wan", "store+ wan"},
	} {
		q := new(search)
		for _, where := range strings.Fields(tt.places) {
			q.found.Places = append(q.found.Places, place(where))
		}
		q.rank()
		var got []string
		for _, p := range q.found.Places {
			text := p.Where
			if p.Used {
				text += "+"
			} else if !strings.HasPrefix(p.Note, "not needed: ") {
				t.Errorf("%s: it does not say why not: %+v", name, p)
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %v, want %s", name, got, tt.want)
		}
	}
}

// Nobody makes the answer grow without bound.
func TestFindBoundsPlaces(t *testing.T) {
	q := new(search)
	for range 2 * maxPlaces {
		q.add(FoundPlace{Where: fetch.FromWAN})
	}
	if len(q.found.Places) != maxPlaces {
		t.Errorf("it told of %d places", len(q.found.Places))
	}
}

// What is known not to be everybody's is not looked for on the internet, however
// it is named.
func TestFindKeepsPrivate(t *testing.T) {
	n := newNode(t, setup{})
	n.cfg.Internet = &Internet{Origins: &Origins{
		Public:  func(netip.Addr) bool { return true },
		Exclude: []string{"closed.example/debian"},
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("5.1.0.7")}, nil
		},
	}}
	index := func(host, body string) string {
		d := sha256.Sum256([]byte(body))
		release := fmt.Sprintf("Suite: stable\nDate: %s\nSHA256:\n %x %d main/by-hash\n", time.Now().UTC().Format(time.RFC1123), d, len(body))
		_, err := n.index.AddRoot(host+"/debian/dists/stable/Release", []byte(release))
		check(t, err)
		return hex.EncodeToString(d[:])
	}
	stored := func(body string, m store.Meta) string {
		return putAs(t, n.store, body, m)
	}
	for name, tt := range map[string]struct {
		hash   string
		shared bool
	}{
		"unknown":               {strings.Repeat("1", 64), true},
		"stored":                {stored("private", store.Meta{}), false},
		"stored, everybody's":   {stored("public", store.Meta{Shareable: true, Origin: "http://open.example/debian/a"}), true},
		"stored, then excluded": {stored("closed", store.Meta{Shareable: true, Origin: "http://closed.example:8080/debian//a"}), false},
		"named":                 {index("open.example", "named"), true},
		"named by an excluded":  {index("closed.example", "closed and named"), false},
	} {
		q, err := n.newSearch(findRequest("sha256=" + tt.hash))
		check(t, err)
		if got := q.shares(t.Context()); got != tt.shared {
			t.Errorf("%s: the internet may be asked: %v", name, got)
		}
	}
}

// A root file that is asked for by its hash is not said to be of a repository that
// keeps its files to itself.
func TestFindRootByHash(t *testing.T) {
	n := newNode(t, setup{})
	n.cfg.Internet = &Internet{Origins: &Origins{}}
	for origin, why := range map[string]string{
		"http://deb.example/debian/dists/stable/InRelease": "it is a root file",
		"http://deb.example/debian/key.asc":                "of no public repository",
	} {
		hash := putAs(t, n.store, origin, store.Meta{Origin: origin})
		if f, _ := find(t, n.Server, "sha256="+hash); !strings.Contains(f.Internet, why) {
			t.Errorf("%s: %q", origin, f.Internet)
		}
	}
}

// The server has the route, for those alone whom it serves.
func TestFindRoute(t *testing.T) {
	n := newNode(t, setup{})
	hash := put(t, n.store, "hello")
	w := httptest.NewRecorder()
	r := findRequest("sha256=" + hash)
	n.ServeHTTP(w, r)
	if w.Code != http.StatusOK || !bytes.Contains(w.Body.Bytes(), []byte(hash)) {
		t.Errorf("got %d: %s", w.Code, w.Body)
	}
	refusing := newNode(t, setup{allows: func(netip.Addr) bool { return false }})
	w = httptest.NewRecorder()
	refusing.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("a stranger got %d", w.Code)
	}
}
