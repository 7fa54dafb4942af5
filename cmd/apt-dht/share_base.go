// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// baseTimeout bounds the whole check of --base-uri.
	baseTimeout = 30 * time.Second

	// baseWalk is how many entries of the directory are looked at for a file to
	// compare; dists comes before pool.
	baseWalk = 20_000

	// maxCompared is the largest file that is fetched to compare it, in bytes; of
	// larger ones the size is.
	maxCompared = 4 << 20
)

// baseURI is where a directory is served by HTTP.
type baseURI struct{ url *url.URL }

// UnmarshalText reads an http or https URL that every user can be told.
func (b *baseURI) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not where everybody finds a repository: give an http or https URL without password and query, as http://deb.example/debian", text)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	b.url = u
	return nil
}

// of is the URL of a file beneath.
func (b baseURI) of(rel string) string {
	u := *b.url
	u.Path += "/" + rel // as it is: some names have a '%'
	return u.String()
}

// tellUsers checks that Base serves Dir, and tells what users are to write.
// Whatever is wrong is no reason not to share.
func tellUsers(ctx context.Context, cfg shareConfig, log *slog.Logger, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, baseTimeout)
	defer cancel()
	sample, err := findSample(ctx, cfg.Dir)
	if err == nil {
		err = compareAt(ctx, cfg.Dir, sample, cfg.Base.of(sample))
	}
	switch {
	case context.Cause(ctx) == context.Canceled:
		return nil
	case err != nil:
		log.Warn("--base-uri was not seen to serve this directory; if it does not, its users get nothing from here", "url", cfg.Base.url.String(), "err", err)
	default:
		log.Info("--base-uri serves this directory", "url", cfg.Base.url.String(), "compared", sample)
	}
	served := err == nil
	warnPrivate(ctx, cfg, log)
	_, err = io.WriteString(out, usersLines(cfg, sample, served))
	return err
}

var errNoSample = errors.New("the directory has no file that everybody may read")

// findSample returns the path, beneath dir, of an InRelease or Release file; else of
// the smallest file that was come by.
func findSample(ctx context.Context, dir string) (sample string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	smallest, left := int64(0), baseWalk
	err = fs.WalkDir(root.FS(), ".", func(rel string, e fs.DirEntry, err error) error {
		left--
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case left < 0:
			return fs.SkipAll
		case err != nil && rel == ".":
			return err
		case err != nil || !e.Type().IsRegular() && !e.IsDir():
			return nil // share leaves it out as well
		case e.IsDir():
			if rel != "." && strings.HasPrefix(e.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}
		info, err := e.Info()
		if err != nil || info.Mode().Perm()&0o004 == 0 || info.Size() == 0 {
			return nil
		}
		if e.Name() == "InRelease" || e.Name() == "Release" && !isBelowComponent(rel) {
			sample = rel
			return fs.SkipAll
		}
		if smallest == 0 || info.Size() < smallest {
			sample, smallest = rel, info.Size()
		}
		return nil
	})
	if err == nil && sample == "" {
		err = errNoSample
	}
	return sample, err
}

// isBelowComponent tells the small Release file of an architecture,
// dists/SUITE/main/binary-amd64/Release, from that of a suite.
func isBelowComponent(rel string) bool {
	dir := path.Base(path.Dir(rel))
	return dir == "source" || strings.HasPrefix(dir, "binary-")
}

// compareAt tells whether a URL has the file at rel beneath dir.
func compareAt(ctx context.Context, dir, rel, at string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Stat(rel)
	if err != nil {
		return err
	}
	method := http.MethodGet
	if info.Size() > maxCompared {
		method = http.MethodHead
	}
	req, err := http.NewRequestWithContext(ctx, method, at, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, DisableCompression: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answers %s, though %s is here", at, resp.Status, rel)
	case resp.ContentLength >= 0 && resp.ContentLength != info.Size():
		return fmt.Errorf("%s has %d bytes, %s here has %d", at, resp.ContentLength, rel, info.Size())
	case method == http.MethodHead:
		return nil
	}
	there, err := io.ReadAll(io.LimitReader(resp.Body, maxCompared+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", at, err)
	}
	here, err := root.ReadFile(rel)
	if err != nil {
		return err
	}
	if !bytes.Equal(here, there) {
		return fmt.Errorf("%s has other bytes than %s here", at, rel)
	}
	return nil
}

// warnPrivate warns of a base that nodes take for nobody else's business.
func warnPrivate(ctx context.Context, cfg shareConfig, log *slog.Logger) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", cfg.Base.url.Hostname())
	private := func(ip netip.Addr) bool { return !cfg.Internet.isPublic(ip.Unmap()) }
	if err != nil || !slices.ContainsFunc(addrs, private) {
		return
	}
	log.Warn("nodes do not look on the internet for files of a repository at a private address: they need --dht-private, and so does share",
		"url", cfg.Base.url.String(), "addrs", addrs)
}

// usersLines are what users of the repository are to write, as far as the file
// that was looked at tells. served: Base was seen to have it.
func usersLines(cfg shareConfig, sample string, served bool) string {
	base := cfg.Base.url.String()
	if cfg.Base.url.Scheme == "https" {
		base = "http://HTTPS///" + strings.TrimPrefix(base, "https://")
	}
	var b strings.Builder
	switch line, ok := sourcesLine(cfg.Dir, sample, base); {
	case !ok:
		fmt.Fprintf(&b, "There is no InRelease file here: the sources line is the one that your users have.\n")
	case served:
		fmt.Fprintf(&b, "In your users' sources.list:\n    %s\n", line)
	default:
		fmt.Fprintf(&b, "Once that URL serves this directory, in your users' sources.list:\n    %s\n", line)
	}
	fmt.Fprintf(&b, "In their /etc/apt/apt.conf.d/30apt-dht, with 'apt-dht serve' running there:\n    Acquire::http::Proxy \"http://127.0.0.1:9977\";\n")
	if cfg.Internet.Private {
		fmt.Fprintf(&b, "and on the nodes: --dht-private, with the same --dht-bootstrap as here.\n")
	}
	return b.String()
}

// sourcesLine is the line of sources.list(5) for the suite whose Release file is
// at rel.
func sourcesLine(dir, rel, base string) (string, bool) {
	if name := path.Base(rel); name != "InRelease" && name != "Release" {
		return "", false
	}
	where := path.Dir(rel)
	before, suite, ok := strings.Cut("/"+where, "/dists/")
	if !ok {
		return fmt.Sprintf("deb %s %s/", base, where), true
	}
	return fmt.Sprintf("deb %s%s %s %s", base, before, suite, componentsOf(filepath.Join(dir, rel))), true
}

// componentsOf reads the Components field of a Release file, "main" where it has none.
func componentsOf(release string) string {
	f, err := os.Open(release)
	if err != nil {
		return "main"
	}
	defer f.Close()
	for lines := bufio.NewScanner(io.LimitReader(f, 64<<10)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "Components:"); ok && strings.TrimSpace(value) != "" {
			return strings.TrimSpace(value)
		}
	}
	return "main"
}
