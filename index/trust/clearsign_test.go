// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestShapeOfInRelease(t *testing.T) {
	e := fastKey(t, nil)
	trust, _ := load(t, etc(t, map[string]string{"sources.list": entry, "trusted.gpg": public(t, e)}))
	good := string(inRelease(t, release, nil, e.PrivateKey))
	header := beginMessage + "\nHash: SHA256\n\n"
	insert := func(before, text string) string { return strings.Replace(good, before, text+before, 1) }

	tests := []struct {
		name, body string
		err        string // "" if it is well-formed
	}{
		{"as made", good, ""},
		{"white space at the end", good + "\n \t\r\n", ""},
		{"no newline at the end", strings.TrimSpace(good), ""},
		{"CRLF", strings.ReplaceAll(good, "\n", "\r\n"), ""},
		{"blanks at the ends of lines", strings.ReplaceAll(good, "\n", " \t\n"), ""},
		{"no header", strings.Replace(good, "Hash: SHA256\n", "", 1), ""},
		{"empty", "", "empty body"},
		{"blank", " \n", "white space"},
		{"newline first", "\n" + good, "something before"},
		{"junk first", "Origin: Evil\n" + good, "something before"},
		{"junk on the first line", strings.Replace(good, "\n", " x\n", 1), "something before or in its first line"},
		{"junk last", good + "Origin: Evil\n", "text after"},
		{"message last", good + good, "text after"},
		{"message within", insert(beginSignature, good), "unescaped dash"},
		{"unescaped dash", insert("Origin", "-x\n"), "unescaped dash"},
		{"dash in the headers", insert("Hash", "-x\n"), "among the headers"},
		{"dash in the signature", insert(endSignature, "-x\n"), "within the signature"},
		{"only a marker", beginMessage + "\n", "cut short"},
		{"only headers", header, "cut short"},
		{"half a message", good[:len(good)/3], "cut short"},
		{"half a signature", good[:len(good)-50], "cut short"},
		{"HTML", "\n<!doctype HTML>\n<body>Log in</body>", "captive portal"},
		{"XHTML", "<?xml version='1.0'?><html>", "captive portal"},
		{"Release", release, "unsigned Release file"},
		{"JSON", `{"error":"not found"}`, `text that begins with "{\"error`},
		{"gzip", "\x1f\x8b\x08\x00", "compressed"},
		{"binary", "\x00\x01\x02", "binary"},
		{"huge", good + strings.Repeat("\n", MaxRelease), "more than"},
	}
	for _, tt := range tests {
		plain, v, err := trust.VerifyClearsigned(base, suite, []byte(tt.body))
		if tt.err == "" {
			if err != nil || v != Verified || string(plain) != release {
				t.Errorf("%s: got %q, %v, %v", tt.name, plain, v, err)
			}
			continue
		}
		if !errors.Is(err, ErrShape) || plain != nil || v != Unknown {
			t.Errorf("%s: got %q, %v, %v, want an error", tt.name, plain, v, err)
		} else if !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), base) {
			t.Errorf("%s: error %q does not say %q and %q", tt.name, err, tt.err, base)
		}
	}
}

func TestDashEscaping(t *testing.T) {
	e := fastKey(t, nil)
	trust, _ := load(t, etc(t, map[string]string{"sources.list": entry, "trusted.gpg": public(t, e)}))
	for _, text := range []string{"", "-", "- -", "-----BEGIN PGP SIGNED MESSAGE-----\n\nx", endSignature, "a\n\n-b\n", "a\n\n\n"} {
		body := inRelease(t, text, nil, e.PrivateKey)
		plain, v, err := trust.VerifyClearsigned(base, suite, body)
		if string(plain) != text || v != Verified || err != nil {
			t.Errorf("%q: got %q, %v, %v\n%s", text, plain, v, err, body)
		}
	}
	// Implementations may escape any line.
	escaped := bytes.Replace(inRelease(t, release, nil, e.PrivateKey), []byte("Origin"), []byte("- Origin"), 1)
	if plain, v, err := trust.VerifyClearsigned(base, suite, escaped); string(plain) != release || v != Verified || err != nil {
		t.Errorf("got %q, %v, %v", plain, v, err)
	}
}

func TestLooksLikeRelease(t *testing.T) {
	for _, body := range []string{
		release,
		"\n" + release,
		"Archive: stable\nComponent: main\nArchitecture: amd64\n", // as beside a Packages file
		"MD5Sum:\n d41d8cd98f00b204e9800998ecf8427e 0 Packages\n",
		strings.ReplaceAll(release, "\n", "\r\n"),
		release + "\n\nwhat follows the first stanza is not read\n",
	} {
		if err := LooksLikeRelease([]byte(body)); err != nil {
			t.Errorf("%.30q: %v", body, err)
		}
	}
	for body, want := range map[string]string{
		"":                                "empty",
		"<html><body>Origin: x":           "captive portal",
		"Error: no such file\n":           "text that begins",
		"Please log in: here\n":           "text that begins",
		" " + release:                     "text that begins",
		beginMessage + "\n\n" + release:   "a clearsigned file",
		strings.Repeat("x", MaxRelease+1): "more than",
	} {
		err := LooksLikeRelease([]byte(body))
		if !errors.Is(err, ErrShape) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: got %v, want %q", body, err, want)
		}
	}
}

func FuzzVerifyClearsigned(f *testing.F) {
	e := fastKey(f, nil)
	trust, _ := load(f, etc(f, map[string]string{"sources.list": entry, "trusted.gpg": public(f, e)}))
	good := inRelease(f, release, nil, e.PrivateKey)
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(endSignature), []byte(endSignature+"\n"+beginSignature+"\n\niHUE\n"+endSignature), 1))
	f.Add([]byte(beginMessage + "\n\n- -x\n" + beginSignature + "\n\n" + endSignature))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		plain, v, err := trust.VerifyClearsigned(base, suite, body)
		if err != nil {
			if plain != nil || v != Unknown || !errors.Is(err, ErrShape) {
				t.Fatalf("%q, %v with error %v", plain, v, err)
			}
			return
		}
		if v == Verified && string(plain) != release {
			t.Fatalf("verified what nobody signed: %q", plain)
		}
		if !bytes.HasPrefix(body, []byte(beginMessage)) || len(plain) > len(body) {
			t.Fatalf("accepted %q", body)
		}
	})
}
