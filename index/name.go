// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const (
	// maxName bounds a URL and a name, in bytes: ten times the longest that archives have.
	maxName = 2048

	// maxSegments bounds the work of finding which repository a name is in.
	maxSegments = 64
)

// NameOf returns the name of an absolute http or https URL: host and path, without scheme,
// credentials, query and fragment. The host is in lower case and without the port that is the
// scheme's own, so "http://h:80/x" and "https://h/x" are one file. The path is decoded exactly once: a name
// may itself hold a '%'. Segments "." are dropped, as in the "./" of flat repositories (sources.list(5)); empty
// segments stay, since servers tell "a//b" from "a/b".
//
// It refuses URLs of more than 2048 bytes or 64 segments, and names with control characters or a ".." segment.
func NameOf(u string) (string, error) {
	if len(u) > maxName {
		return "", fmt.Errorf("URL %.60q…: longer than %d bytes", u, maxName)
	}
	parsed, err := url.Parse(u)
	if err != nil {
		return "", fmt.Errorf("not a URL: %w", err)
	}
	host, err := hostOf(parsed)
	if err != nil {
		return "", fmt.Errorf("URL %q: %w", u, err)
	}
	path, err := cleanPath(parsed.Path)
	if err != nil {
		return "", fmt.Errorf("URL %q: %w", u, err)
	}
	return host + path, nil
}

func hostOf(u *url.URL) (string, error) {
	host := strings.TrimSuffix(u.Host, ":")
	switch u.Scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	default:
		return "", fmt.Errorf("scheme %q is neither http nor https", u.Scheme)
	}
	if host == "" {
		return "", errors.New("no host")
	}
	for _, c := range []byte(host) {
		if c <= ' ' || c >= 0x7f || c == '/' {
			return "", errors.New("the host holds a character that no host name has")
		}
	}
	return strings.ToLower(host), nil
}

func cleanPath(path string) (string, error) {
	for _, c := range []byte(path) {
		if c < ' ' || c == 0x7f {
			return "", errors.New("control character in the path")
		}
	}
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(segments) > maxSegments {
		return "", fmt.Errorf("more than %d path segments", maxSegments)
	}
	kept := segments[:0]
	for i, s := range segments {
		switch {
		case s == "..":
			return "", errors.New("the path climbs ('..')")
		case s == "." && i < len(segments)-1:
			continue
		case s == ".":
			s = "" // "a/." is the directory "a/"
		}
		kept = append(kept, s)
	}
	return "/" + strings.Join(kept, "/"), nil
}

// splitRoot tells whether a name is that of a root file, and takes it apart. The Release beside each
// Packages (dists/<suite>/<component>/binary-<arch>/Release) is none.
func splitRoot(name string) (dir, file string, ok bool) {
	at := strings.LastIndexByte(name, '/')
	if at <= 0 {
		return "", "", false
	}
	dir, file = name[:at], name[at+1:]
	switch file {
	case "InRelease", "Release.gpg":
		return dir, file, true
	case "Release":
		last := dir[strings.LastIndexByte(dir, '/')+1:]
		inner := last == "source" || strings.HasPrefix(last, "binary-")
		return dir, file, !inner || !strings.Contains(dir, "/dists/")
	}
	return "", "", false
}

// splitSuite takes a root file's directory apart: the base is what Packages' paths are relative to. A
// directory that is not <base>/dists/<suite> is a flat repository, its own base, and its suite is "".
func splitSuite(dir string) (base, suite string) {
	const dists = "/dists/"
	if at := strings.LastIndex(dir, dists); at > 0 && at+len(dists) < len(dir) {
		return dir[:at], dir[at+len(dists):]
	}
	return dir, ""
}

// isByHash tells whether a path ends in by-hash/<algorithm>/<hash>.
func isByHash(path string) bool {
	return strings.HasPrefix(path, "by-hash/") || strings.Contains(path, "/by-hash/")
}

// byHashDigest returns the hash of a path .../by-hash/SHA256/<hex>.
func byHashDigest(name string) (digest Digest, ok bool) {
	const marker = "/by-hash/SHA256/"
	at := len(name) - hex.EncodedLen(len(digest))
	if at < len(marker) || name[at-len(marker):at] != marker {
		return Digest{}, false
	}
	for i := range digest {
		high, low := unhex(name[at+2*i]), unhex(name[at+2*i+1])
		if high > 15 || low > 15 {
			return Digest{}, false
		}
		digest[i] = high<<4 | low
	}
	return digest, true
}

// unhex returns the value of a hexadecimal digit, or 255.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
