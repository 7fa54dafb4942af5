// SPDX-License-Identifier: GPL-2.0-or-later

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"apt-dht/proxy/fetch/mirror"
)

// Upstream sends requests to mirrors.
type Upstream interface {
	// Start queues the request at once and in order; the returned function,
	// called exactly once, waits for the answer, whose body the caller closes.
	Start(req *http.Request) (wait func() (*http.Response, error))
	// Distrust is told of a URL whose host has sent wrong bytes: it may have
	// mixed up the answers to pipelined requests.
	Distrust(u *url.URL)
}

// mirrorSource is one URL of a file at a mirror.
type mirrorSource struct {
	up  Upstream
	url string
	// patience is how long the mirror may be silent. 0: as long as the client lets it.
	patience time.Duration
}

func (m *mirrorSource) Kind() string   { return FromMirror }
func (m *mirrorSource) String() string { return m.url }

// Ask implements Source. It accepts a mirror that ignores ranges: the bytes
// before offset are read and dropped.
func (m *mirrorSource) Ask(ctx context.Context, want *Want, offset int64) func() (*Body, error) {
	header := want.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	ctx = mirror.WithPatience(ctx, m.patience)
	if want.Size >= 0 {
		ctx = mirror.WithSize(ctx, want.Size-offset)
	}
	wait := start(ctx, m.up, m.url, header, want)
	return func() (*Body, error) {
		resp, err := wait()
		if err != nil {
			return nil, err
		}
		return bodyOf(resp, want, offset)
	}
}

// start sends a GET for url with header to a mirror and follows redirects. The
// answer to a request that was redirected is read from where it led.
func start(ctx context.Context, up Upstream, url string, header http.Header, want *Want) func() (*http.Response, error) {
	ctx = mirror.WithFlow(mirror.WithRealm(ctx, want.Realm), want.Flow)
	if want.Background {
		ctx = mirror.WithBackground(ctx)
	}
	req, err := newRequest(ctx, url, header)
	if err != nil {
		return func() (*http.Response, error) { return nil, err }
	}
	wait := up.Start(req)
	return func() (*http.Response, error) {
		resp, err := wait()
		if err != nil {
			return nil, err
		}
		return followRedirects(ctx, up, req, resp)
	}
}

// newRequest builds a GET whose target goes out byte for byte as written.
func newRequest(ctx context.Context, raw string, header http.Header) (*http.Request, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return nil, fmt.Errorf("%s: not an http or https URL", raw)
	}
	host, path := rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	if host == "" {
		return nil, fmt.Errorf("%s: no host in the URL", raw)
	}
	req := &http.Request{
		Method:     http.MethodGet,
		URL:        &url.URL{Scheme: scheme, Host: host, Opaque: "//" + host + path},
		Host:       host,
		Header:     header,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
	}
	return req.WithContext(ctx), nil
}

// maxRedirects bounds a chain of redirects, as curl and apt do roughly.
const maxRedirects = 5

// followRedirects follows what the mirror answers with a 3xx. apt would follow
// it through the proxy again under another name, which loses the hash.
func followRedirects(ctx context.Context, up Upstream, req *http.Request, resp *http.Response) (*http.Response, error) {
	first := req.URL
	for range maxRedirects {
		location := resp.Header.Get("Location")
		if !isRedirect(resp.StatusCode) || location == "" {
			return resp, nil
		}
		drain(resp.Body)
		next, err := redirected(ctx, req, location)
		if err != nil {
			return nil, err
		}
		req = next
		if resp, err = up.Start(req)(); err != nil {
			return nil, fmt.Errorf("after a redirect from %s: %w", first.Opaque[2:], err)
		}
	}
	if isRedirect(resp.StatusCode) {
		drain(resp.Body)
		return nil, fmt.Errorf("http:%s: more than %d redirects", first.Opaque, maxRedirects)
	}
	return resp, nil
}

// redirected is the request that location asks for. Credentials stay with the
// host they were meant for.
func redirected(ctx context.Context, from *http.Request, location string) (*http.Request, error) {
	target := location
	if !strings.HasPrefix(location, "http://") && !strings.HasPrefix(location, "https://") {
		base, err := url.Parse(from.URL.Scheme + ":" + from.URL.Opaque)
		if err != nil {
			return nil, fmt.Errorf("redirect to %q: %w", location, err)
		}
		ref, err := base.Parse(location)
		if err != nil {
			return nil, fmt.Errorf("redirect to %q: %w", location, err)
		}
		ref.Fragment = ""
		target = ref.String()
	}
	header := from.Header.Clone()
	next, err := newRequest(ctx, target, header)
	if err != nil {
		return nil, fmt.Errorf("redirect: %w", err)
	}
	if next.URL.Host != from.URL.Host || next.URL.Scheme != from.URL.Scheme {
		header.Del("Authorization")
		header.Del("Cookie")
	}
	return next, nil
}

func isRedirect(code int) bool {
	switch code {
	case 301, 302, 303, 307, 308:
		return true
	}
	return false
}

// drain reads a short error or redirect page so that its connection can be
// used again, and closes it.
func drain(body io.ReadCloser) []byte {
	b, _ := io.ReadAll(io.LimitReader(body, maxErrorBody))
	body.Close()
	return b
}

// bodyOf checks that resp is what was asked for and makes it a Body.
func bodyOf(resp *http.Response, want *Want, offset int64) (*Body, error) {
	size, err := answeredSize(resp, want, offset)
	if err == nil && isPortal(want.URL, resp.Header) {
		resp.Body.Close()
		err = fmt.Errorf("%s: %w", want.URL, errPortal)
	}
	if err == nil && want.Size >= 0 && size >= 0 && size != want.Size {
		resp.Body.Close()
		err = fmt.Errorf("%s: %w: %d bytes instead of %d", want.URL, ErrDiffers, size, want.Size)
	}
	if err != nil {
		return nil, err
	}
	if offset > 0 && resp.StatusCode == http.StatusOK {
		if _, err := io.CopyN(io.Discard, resp.Body, offset); err != nil {
			resp.Body.Close()
			return nil, fmt.Errorf("%s: the mirror does not resume, and its answer broke: %w", want.URL, err)
		}
	}
	if size < 0 {
		size = want.Size
	}
	return &Body{ReadCloser: resp.Body, Head: Head{Size: size, Modified: lastModified(resp.Header), Header: resp.Header}}, nil
}

// errPortal: what has answered is hardly the mirror.
var errPortal = errors.New("the answer is a web page instead of the file: is there a captive portal, or a login, on the way?")

// notPages are endings of files that no mirror describes as a web page.
var notPages = []string{".deb", ".udeb", ".ddeb", ".xz", ".gz", ".bz2", ".zst", ".lz4", ".lzma", ".dsc", ".asc", ".gpg", "/Packages", "/Sources"}

func isPortal(url string, h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/html") &&
		slices.ContainsFunc(notPages, func(end string) bool { return strings.HasSuffix(url, end) })
}

// answeredSize is the whole file's size as the answer tells it, -1 where it
// does not. An answer that is not the file is closed and told as an error.
func answeredSize(resp *http.Response, want *Want, offset int64) (int64, error) {
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.ContentLength, nil
	case http.StatusPartialContent:
		start, size, ok := ParseContentRange(resp.Header.Get("Content-Range"))
		if ok && offset > 0 && start == offset {
			return size, nil
		}
		resp.Body.Close()
		return 0, fmt.Errorf("%s: asked for the bytes from %d, the mirror answered Content-Range %q", want.URL, offset, resp.Header.Get("Content-Range"))
	}
	return 0, &StatusError{URL: want.URL, Code: resp.StatusCode, Header: resp.Header, Body: drain(resp.Body)}
}

// ParseContentRange reads "bytes 5-9/10" (RFC 9110 §14.4); size -1 for "*".
func ParseContentRange(field string) (first, size int64, ok bool) {
	bounds, unit := strings.CutPrefix(field, "bytes ")
	bounds, whole, slash := strings.Cut(bounds, "/")
	begin, end, dash := strings.Cut(bounds, "-")
	if !unit || !slash || !dash {
		return 0, 0, false
	}
	start, err := strconv.ParseUint(begin, 10, 50)
	last, err2 := strconv.ParseUint(end, 10, 50)
	if err != nil || err2 != nil || last < start {
		return 0, 0, false
	}
	if whole == "*" {
		return int64(start), -1, true
	}
	total, err := strconv.ParseUint(whole, 10, 50)
	return int64(start), int64(total), err == nil && last < total
}

// lastModified is the header's date, zero where it is missing or malformed: a
// malformed one passed on is a hard error in apt.
func lastModified(h http.Header) time.Time {
	t, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		return time.Time{}
	}
	return t
}

// temporary tells whether err is worth another try at the same source.
func temporary(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Temporary()
	}
	return !errors.Is(err, ErrDiffers) && !errors.Is(err, errWrong)
}
