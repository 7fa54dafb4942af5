// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"bytes"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func FuzzNameOf(f *testing.F) {
	f.Add("http://deb.debian.org:80/debian/./dists/sid/InRelease?x#y")
	f.Add("https://u:p@[::1]:443//a%2fb/%252e%252e/.")
	f.Fuzz(func(t *testing.T, u string) {
		name, err := NameOf(u)
		if err != nil {
			return
		}
		host, path, ok := strings.Cut(name, "/")
		if !ok || host == "" || len(name) > maxName || len(name) > len(u) {
			t.Fatalf("%q: name %q", u, name)
		}
		segments := strings.Split(path, "/")
		if slices.Contains(segments, "..") || slices.Contains(segments, ".") || len(segments) > maxSegments {
			t.Fatalf("%q: name %q", u, name)
		}
		again, err := NameOf((&url.URL{Scheme: "http", Host: host, Path: "/" + path}).String())
		if len(u) < maxName/4 && (err != nil || again != name) {
			t.Fatalf("%q: name %q, its URL's name %q, %v", u, name, again, err)
		}
	})
}

func FuzzCatalogue(f *testing.F) {
	for _, n := range []int{0, 1, 5} {
		var b bytes.Buffer
		if err := encodeCatalogue(&b, numbered(f, n)); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes(), uint64(n))
		f.Add(b.Bytes()[:b.Len()-1], uint64(n))
	}
	f.Fuzz(func(t *testing.T, data []byte, key uint64) {
		// Whatever the file, a search ends and stays within it.
		tableOf(data).find(key)
		err := checkCatalogue(iotest.OneByteReader(bytes.NewReader(data)), int64(len(data)))
		if err != nil {
			if !errors.Is(err, errCorrupt) {
				t.Fatalf("error without a cause: %v", err)
			}
			return
		}
		r := tableOf(data[catalogueHeader:])
		if len(data) != catalogueHeader+r.len()*rowSize || r.len() > maxRows {
			t.Fatalf("accepted a file of %d bytes", len(data))
		}
	})
}

func FuzzAddRoot(f *testing.F) {
	r := stable(july, "pool/a.deb", "a")
	f.Add("InRelease", clearsigned(f, r.release(), archiveKey()))
	f.Add("Release", []byte(r.release()))
	f.Add("Release.gpg", detached(f, r.release(), archiveKey()))
	f.Add("InRelease", []byte("<html>Please log in</html>"))
	tr := loadTrust(f)
	f.Fuzz(func(t *testing.T, file string, body []byte) {
		x := openIndex(t, Config{Trust: tr})
		name := dists + "/" + file
		info, err := x.AddRoot(name, body)
		origins, _ := x.Stats()
		if err != nil {
			if origins != 0 {
				t.Fatalf("refused with %v, and yet known", err)
			}
			return
		}
		_, _, root := splitRoot(name)
		if !root || file != "Release.gpg" && origins != 1 {
			t.Fatalf("%s: accepted, %d origins", name, origins)
		}
		if info.Verdict.String() == "verified" && !bytes.HasPrefix(body, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
			t.Fatalf("trusted without a signature: %q", body)
		}
	})
}
