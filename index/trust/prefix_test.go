// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import "testing"

func TestUnprefixed(t *testing.T) {
	for in, want := range map[string]string{
		"http://deb.debian.org/debian":                         "http://deb.debian.org/debian",
		"http://localhost:9977/deb.debian.org/debian":          "http://deb.debian.org/debian",
		"http://127.0.0.1:9977/mirror.example:8080/debian/":    "http://mirror.example:8080/debian/",
		"http://[::1]:9977/deb.debian.org/debian":              "http://deb.debian.org/debian",
		"http://HTTPS///deb.debian.org/debian":                 "https://deb.debian.org/debian",
		"http://localhost:9977/HTTPS///deb.debian.org/debian/": "https://deb.debian.org/debian/",
		"http://localhost:8080/debian":                         "http://localhost:8080/debian",
		"http://localhost/deb.debian.org/debian":               "http://localhost/deb.debian.org/debian",
		"http://mirror.example:9977/deb.debian.org/debian":     "http://mirror.example:9977/deb.debian.org/debian",
		"https://localhost:9977/deb.debian.org/debian":         "https://localhost:9977/deb.debian.org/debian",
	} {
		u, err := parseURI(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.unprefixed().String(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestBehindPrefix(t *testing.T) {
	for in, want := range map[string]string{
		"deb.debian.org/debian/x":                        "deb.debian.org/debian/x",
		"localhost:9977/deb.debian.org/debian/x":         "deb.debian.org/debian/x",
		"localhost:9977/HTTPS///deb.debian.org/debian/x": "deb.debian.org/debian/x",
		"HTTPS///deb.debian.org/debian/x":                "deb.debian.org/debian/x",
		"localhost:9977/debian/x":                        "localhost:9977/debian/x",
		"localhost":                                      "localhost/",
	} {
		if got := BehindPrefix(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
