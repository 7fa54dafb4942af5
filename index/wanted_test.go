// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
)

func TestWantedForPatches(t *testing.T) {
	for _, byHash := range []bool{false, true} {
		x := openIndex(t, Config{})
		r := stable(july, "pool/a.deb", "a", "pool/b.deb", "b", "pool/c.deb", "c", "pool/d.deb", "d")
		packed := sha256.Sum256(r.files[list+".gz"])
		name := dists + "/" + list + ".gz"
		if byHash {
			r.fields = "Acquire-By-Hash: yes\n"
			name = fmt.Sprintf("%s/main/binary-amd64/by-hash/SHA256/%x", dists, packed)
		}
		r.addPacked("main/binary-arm64/Packages", packages("pool/arm.deb", "arm"))
		r.publish(t, x, dists)
		want := []Ref{{name, packed, int64(len(r.files[list+".gz"]))}}
		if got := x.Wanted(dists + "/" + list + ".diff/Index"); !slices.Equal(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got := x.Wanted(dists + "/" + list + ".diff/2026-07-01-0800.00.gz"); got != nil {
			t.Errorf("told again: %+v", got)
		}
		next := stable(august, "pool/a.deb", "new")
		next.publish(t, x, dists)
		if got := x.Wanted(dists + "/" + list + ".diff/Index"); len(got) != 1 {
			t.Errorf("of the next generation: got %+v", got)
		}
	}
}

func TestWantedForPool(t *testing.T) {
	x := openIndex(t, Config{})
	r := stable(july, "pool/a.deb", "a")
	r.addPacked("main/binary-arm64/Packages", packages("pool/arm.deb", "arm"))
	r.publish(t, x, dists)
	const name = base + "/pool/a.deb"
	if got := x.Wanted(name); got != nil {
		t.Errorf("nobody asked for any list, yet got %+v", got)
	}
	x.Lookup(dists+"/"+list, alice)
	if got := x.Wanted(name); len(got) != 1 || got[0].Digest != sha256.Sum256(r.files[got[0].Name[len(dists)+1:]]) {
		t.Errorf("got %+v", got)
	}
	next := stable(august, "pool/a.deb", "new")
	next.publish(t, x, dists)
	next.parse(t, x, dists, list)
	for _, name := range []string{name, "h/pool/a.deb", "x", ""} {
		if got := x.Wanted(name); got != nil {
			t.Errorf("%q: got %+v", name, got)
		}
	}
}

func TestMirrors(t *testing.T) {
	const (
		twin   = "twin.example/d"
		behind = "behind.example/debian"
		secret = "secret.example/debian"
		tls    = "tls.example/debian"
		alien  = "alien.example/debian"
	)
	tr := loadTrust(t,
		"deb http://"+base+" stable main", "deb http://"+twin+"/ stable main", "deb http://"+behind+" stable main",
		"deb http://user:word@"+secret+" stable main", "deb https://"+tls+" stable main")
	x := openIndex(t, Config{Trust: tr})
	r := stable(august, "pool/a.deb", "a")
	body := clearsigned(t, r.release(), archiveKey())
	for _, b := range []string{base, twin, secret, tls, alien} {
		_, err := x.AddRoot(b+"/dists/stable/InRelease", body)
		check(t, err)
	}
	stable(july, "pool/a.deb", "a").publish(t, x, behind+"/dists/stable")
	stable(july, "pool/b.deb", "b").publish(t, x, base+"/dists/other")
	stable(august, "pool/b.deb", "b").publish(t, x, twin+"/dists/other")
	tests := []struct {
		name string
		want []string
	}{
		{base + "/pool/a.deb", []string{twin + "/pool/a.deb"}},
		{dists + "/" + list, []string{twin + "/dists/stable/" + list}},
		{twin + "/pool/a.deb", []string{base + "/pool/a.deb"}},
		{base + "/dists/other/" + list, nil},
		{behind + "/pool/a.deb", nil},
		{alien + "/pool/a.deb", nil},
		{secret + "/pool/a.deb", nil},
		{"unknown.example/pool/a.deb", nil},
	}
	for _, tt := range tests {
		if got := x.Mirrors(tt.name); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	x.SetTrust(loadTrust(t))
	if got := x.Mirrors(base + "/pool/a.deb"); got != nil {
		t.Errorf("without sources: got %q", got)
	}
}
