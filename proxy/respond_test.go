// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"
)

const fileSize = 100_000

// respondCases are what apt and others ask of a file of fileSize bytes, with
// the part of it that they must get.
var respondCases = []struct {
	name     string
	fields   []string
	code     int
	from, to int // of the body; multi-part where to is -1
	cr       string
}{
	{"whole", nil, 200, 0, fileSize, ""},
	{"head", []string{"HEAD"}, 200, 0, 0, ""},
	{"resumed", []string{"Range: bytes=1000-", "If-Range: " + dated}, 206, 1000, fileSize, "bytes 1000-99999/100000"},
	{"range alone", []string{"Range: bytes=1000-1999"}, 206, 1000, 2000, "bytes 1000-1999/100000"},
	{"last bytes", []string{"Range: bytes=-100"}, 206, fileSize - 100, fileSize, "bytes 99900-99999/100000"},
	{"first byte", []string{"Range: bytes=0-0"}, 206, 0, 1, "bytes 0-0/100000"},
	{"file is newer", []string{"Range: bytes=1000-", "If-Range: Sat, 10 Feb 2024 12:34:55 GMT"}, 200, 0, fileSize, ""},
	{"file is older", []string{"Range: bytes=1000-", "If-Range: Sat, 10 Feb 2024 12:34:57 GMT"}, 200, 0, fileSize, ""},
	{"another tag", []string{"Range: bytes=1000-", `If-Range: "other"`}, 200, 0, fileSize, ""},
	{"beyond the end", []string{"Range: bytes=100000-", "If-Range: " + dated}, 416, 0, 0, "bytes */100000"},
	{"far beyond", []string{"Range: bytes=9000000000000000000-"}, 416, 0, 0, "bytes */100000"},
	{"two ranges", []string{"Range: bytes=0-9,99990-"}, 206, 0, -1, ""},
	{"unchanged", []string{"If-Modified-Since: " + dated}, 304, 0, 0, ""},
	{"unchanged later", []string{"If-Modified-Since: Sat, 10 Feb 2024 12:34:57 GMT"}, 304, 0, 0, ""},
	{"changed", []string{"If-Modified-Since: Sat, 10 Feb 2024 12:34:55 GMT"}, 200, 0, fileSize, ""},
	{"malformed date", []string{"If-Modified-Since: yesterday"}, 200, 0, fileSize, ""},
}

// wantPart checks an answer to one of the cases.
func wantPart(t *testing.T, got *answer, code, from, to int, cr, data string) {
	t.Helper()
	body := ""
	switch {
	case code == http.StatusRequestedRangeNotSatisfiable:
		body = got.body // apt does not look at it
	case to < 0:
		body = got.body
		wantParts(t, got, data[:10], data[99990:])
	default:
		body = data[from:to]
	}
	got.want(t, code, body)
	got.wantField(t, "Content-Range", cr)
	if code != http.StatusRequestedRangeNotSatisfiable && code != http.StatusNotModified {
		got.wantField(t, "Last-Modified", dated)
	}
	if length := int64(len(body)); got.Request.Method == http.MethodGet && code != 304 && got.ContentLength != length {
		t.Errorf("Content-Length: %d, the body has %d", got.ContentLength, length)
	}
	if got.Request.Method == http.MethodHead && got.ContentLength != int64(len(data)) {
		t.Errorf("HEAD: Content-Length %d, want %d", got.ContentLength, len(data))
	}
	if len(got.Header["Via"]) != 1 || got.Header.Get("X-Apt-Dht-Source") == "" {
		t.Errorf("Via %q, X-Apt-Dht-Source %q", got.Header["Via"], got.Header.Get("X-Apt-Dht-Source"))
	}
}

// wantParts checks a multi-part body.
func wantParts(t *testing.T, got *answer, parts ...string) {
	t.Helper()
	_, params, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
	check(t, err)
	r := multipart.NewReader(strings.NewReader(got.body), params["boundary"])
	for _, want := range parts {
		p, err := r.NextPart()
		check(t, err)
		if b, err := io.ReadAll(p); err != nil || string(b) != want {
			t.Errorf("part %q (%v), want %q", b, err, want)
		}
	}
}

// files of each kind, all with the same content.
func TestRespond(t *testing.T) {
	data := random(2, fileSize)
	a := newArchive(t, serving(data))
	n := newNode(t, setup{})
	r := &repo{date: july, pool: map[string]string{"pool/stored.deb": data}}
	n.learn(a, r)
	n.get(a.url("pool/stored.deb")).want(t, 200, data)
	n.transfers(0)
	kinds := []struct {
		name   string
		source string
		target func(i int) string
	}{
		{"stored blob", "store", func(int) string { return a.url("pool/stored.deb") }},
		{"unknown file", "mirror", func(i int) string { return a.url(fmt.Sprintf("unknown/%d", i)) }},
		{"unknown file again", "", func(i int) string { return a.url(fmt.Sprintf("unknown/%d", i)) }},
	}
	for _, kind := range kinds {
		for i, c := range respondCases {
			t.Run(kind.name+"/"+c.name, func(t *testing.T) {
				n.transfers(0)
				got := n.get(kind.target(i), c.fields...)
				wantPart(t, got, c.code, c.from, c.to, c.cr, data)
				if source := got.Header.Get("X-Apt-Dht-Source"); kind.source != "" && source != kind.source {
					t.Errorf("came from %s, not the %s", source, kind.source)
				}
			})
		}
	}
}

// While a transfer goes on, every kind of question about its file is answered
// from it, and the mirror is asked once.
func TestRespondFromAGrowingTransfer(t *testing.T) {
	for i, c := range respondCases {
		if c.name == "far beyond" {
			continue // this one asks the mirror for just what it needs
		}
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/known %v", c.name, known), func(t *testing.T) {
				data := random(byte(i), fileSize)
				g := newGate(t, data)
				a := newArchive(t, g.ServeHTTP)
				n := newNode(t, setup{})
				if known {
					n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": data}})
				}
				target := a.url("pool/x.deb")
				first, second := n.dial(), n.dial()
				first.send(aptRequest(target))
				n.transfers(1)
				eventually(t, "the transfer has begun", func() bool {
					tr := n.fetch.Transfers()
					return len(tr) == 1 && tr[0].Have == fileSize/2
				})
				raw := aptRequest(target, c.fields...)
				method, _, _ := strings.Cut(raw, " ")
				second.send(raw)
				conditional := strings.Contains(raw, "If-Modified-Since: ")
				switch {
				case conditional && !known: // the mirror alone can tell
					g.open()
				case c.to < 0 || c.to > fileSize/2:
					eventually(t, "the second reader has come", func() bool { return n.fetch.Transfers()[0].Readers == 2 })
					g.open()
				}
				wantPart(t, second.answer(method), c.code, c.from, c.to, c.cr, data)
				g.open()
				first.answer("GET").want(t, 200, data)
				if !conditional || known {
					a.wantRequests(t, 1)
				}
			})
		}
	}
}

// Last-Modified is the mirror's own, from whatever source; a malformed one
// would be a hard error in apt, so it is left out.
func TestLastModified(t *testing.T) {
	for _, c := range []struct{ sent, want string }{
		{dated, dated},
		{"Saturday, 10-Feb-24 12:34:56 GMT", dated},
		{"", ""},
		{"yesterday", ""},
		{"Sat, 10 Feb 2024 12:34:56 +0000", ""},
		{"Sat, 31 Feb 2024 12:34:56 GMT", ""},
	} {
		data := random(3, 1000)
		r := &repo{date: july, pool: map[string]string{"pool/x.deb": data}}
		files := r.files(t)
		a := newArchive(t, func(w http.ResponseWriter, req *http.Request) {
			if c.sent != "" {
				w.Header().Set("Last-Modified", c.sent)
			}
			io.WriteString(w, files[strings.TrimPrefix(req.URL.Path, "/debian/")]+"")
		})
		n := newNode(t, setup{})
		n.learn(a, r)
		for _, path := range []string{"pool/x.deb", "unknown", "dists/stable/InRelease"} {
			for range 2 {
				got := n.get(a.url(path))
				if got.StatusCode != 200 || got.Header.Get("Last-Modified") != c.want {
					t.Errorf("%s with %q: %s, Last-Modified %q, want %q", path, c.sent, got.Status, got.Header.Get("Last-Modified"), c.want)
				}
				n.transfers(0)
			}
		}
		// Without a date apt sends the present one, and must get the whole.
		now := time.Now().UTC().Format(http.TimeFormat)
		got := n.get(a.url("pool/x.deb"), "Range: bytes=10-", "If-Range: "+now)
		got.want(t, 200, data)
	}
}

// What is not known to have an end is passed on in chunks, and never ends as
// if complete when it broke.
func TestUnknownLength(t *testing.T) {
	breaks := false
	a := newArchive(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", dated)
		for range 10 {
			io.WriteString(w, strings.Repeat("0123456789", 1000))
			http.NewResponseController(w).Flush()
		}
		if breaks {
			panic(http.ErrAbortHandler)
		}
	})
	n := newNode(t, setup{})
	whole := strings.Repeat("0123456789", 10_000)
	got := n.get(a.url("a"))
	got.want(t, 200, whole)
	got.wantField(t, "Last-Modified", dated)
	n.get(a.url("b"), "Range: bytes=10-").want(t, 200, whole)
	n.get(a.url("c"), "HEAD").want(t, 200, "")
	n.transfers(0)
	breaks = true
	if got := n.get(a.url("d"), "Authorization: Basic eDp5"); got.cut == nil {
		t.Errorf("a broken answer looks complete: %d bytes", len(got.body))
	}
}

// Wrong bytes of the right length never arrive whole, are not kept, and what a
// client has of them is not joined to right ones.
func TestWrongBytesAreCut(t *testing.T) {
	data := random(4, fileSize)
	g := newGate(t, random(5, fileSize))
	a := newArchive(t, g.ServeHTTP)
	n := newNode(t, setup{})
	n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": data}})
	c := n.dial()
	c.send(aptRequest(a.url("pool/x.deb")))
	_, err := c.r.Peek(1)
	check(t, err)
	g.open()
	got := c.answer("GET")
	if got.cut == nil || got.ContentLength != fileSize {
		t.Fatalf("wrong bytes arrived whole: %s, %d of %d", got.Status, len(got.body), got.ContentLength)
	}
	if _, ok := n.store.Stat(digestOf(data)); ok {
		t.Error("wrong bytes are in the store")
	}
	a.answer(serving(data))
	n.get(a.url("pool/x.deb"), "Range: bytes=50000-", "If-Range: "+dated).want(t, 200, data)
}

// Where the right bytes are to be had nowhere, the mirror's go through as they
// would without a proxy, for apt to judge; but never as a part of the right ones.
func TestWrongBytesAreTheMirrorsWord(t *testing.T) {
	data, wrong := random(4, 1000), random(5, 1000)
	a := newArchive(t, serving(wrong))
	n := newNode(t, setup{})
	n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": data}})
	for range 3 {
		got := n.get(a.url("pool/x.deb"), "Range: bytes=500-", "If-Range: "+dated)
		if got.cut == nil {
			got.want(t, 200, wrong)
		}
	}
	if blobs, _, _ := n.store.Usage(); blobs != 0 {
		t.Error("wrong bytes are in the store")
	}
}

// A file of another size than the index says goes through unchanged, as it
// would without a proxy; it must not pass for the one that was expected.
func TestAnotherFileThanTheIndexNames(t *testing.T) {
	data, other := random(6, 1000), random(7, 999)
	a := newArchive(t, serving(other))
	n := newNode(t, setup{})
	n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": data}})
	got := n.get(a.url("pool/x.deb"))
	got.want(t, 200, other)
	if tag := got.Header.Get("Etag"); strings.Contains(tag, fmt.Sprintf("%x", digestOf(data))) {
		t.Errorf("the ETag %s is that of other bytes", tag)
	}
	if _, ok := n.store.Stat(digestOf(other)); ok {
		t.Error("the other file is in the store")
	}
}

// An empty file, and one that is smaller than what is held back, are whole.
func TestSmallFiles(t *testing.T) {
	for _, size := range []int{0, 1, 4096, 16 << 10, 16<<10 + 1} {
		data := random(8, size)
		a := newArchive(t, serving(data))
		n := newNode(t, setup{})
		n.learn(a, &repo{date: july, pool: map[string]string{"pool/x.deb": data}})
		for _, path := range []string{"pool/x.deb", "pool/x.deb", "unknown", "unknown"} {
			got := n.get(a.url(path))
			got.want(t, 200, data)
			if got.ContentLength != int64(size) {
				t.Errorf("%s of %d bytes: Content-Length %d", path, size, got.ContentLength)
			}
			n.transfers(0)
		}
	}
}
