// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestLookupByKind(t *testing.T) {
	x := openIndex(t, Config{})
	r := stable(july, "pool/main/a/a_1%2b_amd64.deb", "a")
	r.files["main/i18n/Translation-en.xz"] = []byte("translation")
	r.files["main/binary-amd64/Release"] = []byte("Archive: stable\n")
	r.publish(t, x, dists)
	r.parse(t, x, dists, list+".gz")
	packed := string(r.files[list+".gz"])
	hashes := dists + "/main/binary-amd64/by-hash/"
	tests := []struct {
		name    string
		kind    Kind
		content string
	}{
		{dists + "/main/i18n/Translation-en.xz", KindIndex, "translation"},
		{dists + "/main/binary-amd64/Release", KindIndex, "Archive: stable\n"},
		{dists + "/" + list + ".gz", KindIndex, packed},
		{hashes + fmt.Sprintf("SHA256/%x", sha256.Sum256([]byte(packed))), KindFile, packed},
		{hashes + fmt.Sprintf("SHA512/%x", sha512.Sum512([]byte(packed))), KindFile, packed},
		{hashes + fmt.Sprintf("MD5Sum/%x", md5.Sum([]byte(packed))), KindFile, packed},
		{base + "/pool/main/a/a_1%2b_amd64.deb", KindFile, "a"},
		{base + "//pool/main/a/a_1%2b_amd64.deb", KindFile, "a"},
	}
	for _, tt := range tests {
		e := x.Lookup(tt.name, alice)
		wantEntry(t, e, tt.kind, tt.content)
		if !e.Trusted || e.Stale || e.Parse || e.Base != base {
			t.Errorf("%s: got %+v", tt.name, e)
		}
	}
}

func TestLookupOfWhatHasNoHash(t *testing.T) {
	x := openIndex(t, Config{})
	stable(july, "pool/a.deb", "a").publish(t, x, dists)
	tests := []struct {
		name string
		want Entry
	}{
		{dists + "/InRelease", Entry{Kind: KindRoot, Size: -1, Base: base}},
		{dists + "/Release.gpg", Entry{Kind: KindRoot, Size: -1, Base: base}},
		{"elsewhere.example/repo/Release", Entry{Kind: KindRoot, Size: -1, Base: "elsewhere.example/repo"}},
		{base + "/pool/b.deb", Entry{Size: -1, Base: base}},
		{dists + "/main/Contents-amd64.gz", Entry{Size: -1, Base: base}},
		{dists + "/main/by-hash/SHA512/00", Entry{Size: -1, Base: base}},
		{"deb.example.org/debian-security/pool/a.deb", Entry{Size: -1}},
		{"elsewhere.example/pool/a.deb", Entry{Size: -1}},
		{"", Entry{Size: -1}},
		{"/", Entry{Size: -1}},
	}
	for _, tt := range tests {
		if got := x.Lookup(tt.name, alice); got != tt.want {
			t.Errorf("%q: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// A by-hash path is its hash, even where a Release claims something else.
func TestByHashIsThatHash(t *testing.T) {
	x := openIndex(t, Config{})
	hash := sha256.Sum256([]byte("wanted"))
	path := fmt.Sprintf("main/by-hash/SHA256/%x", hash)
	want := Entry{Kind: KindFile, Digest: hash, Size: -1}
	if got := x.Lookup(dists+"/"+path, alice); got != want {
		t.Errorf("unknown repository: got %+v", got)
	}
	r := stable(july, "dists/stable/"+path, "other")
	r.files[path] = []byte("something else")
	r.publish(t, x, dists)
	r.parse(t, x, dists, list)
	want.Base = base
	if got := x.Lookup(dists+"/"+path, alice); got != want {
		t.Errorf("known repository: got %+v", got)
	}
}

func TestIndexOfClientsGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openIndex(t, Config{})
		old, current := stable(july, "pool/a.deb", "old"), stable(august, "pool/a.deb", "new")
		root := old.publish(t, x, dists)
		x.GaveRoot(dists+"/InRelease", root, alice)
		x.GaveRoot(dists+"/InRelease", Digest{1}, bob) // of a generation that we do not know
		current.publish(t, x, dists)
		mapped := netip.AddrFrom16(alice.As16())
		wantEntry(t, x.Lookup(dists+"/"+list, alice), KindIndex, string(old.files[list]))
		wantEntry(t, x.Lookup(dists+"/"+list, mapped), KindIndex, string(old.files[list]))
		wantEntry(t, x.Lookup(dists+"/"+list, bob), KindIndex, string(current.files[list]))
		wantEntry(t, x.Lookup(dists+"/"+list, netip.Addr{}), KindIndex, string(current.files[list]))

		time.Sleep(holdTime + time.Second)
		wantEntry(t, x.Lookup(dists+"/"+list, alice), KindIndex, string(current.files[list]))
	})
}

// An archive that changes a file in its pool: each client gets what its own list names.
func TestPoolOfClientsGeneration(t *testing.T) {
	x := openIndex(t, Config{})
	old, current := stable(july, "pool/a.deb", "old", "pool/gone.deb", "gone"), stable(august, "pool/a.deb", "new")
	root := old.publish(t, x, dists)
	old.parse(t, x, dists, list)
	current.publish(t, x, dists)
	x.GaveRoot(dists+"/InRelease", root, alice)

	wantEntry(t, x.Lookup(base+"/pool/a.deb", alice), KindFile, "old")
	e := x.Lookup(base+"/pool/a.deb", bob)
	wantEntry(t, e, KindFile, "old")
	if !e.Stale || x.Lookup(base+"/pool/a.deb", alice).Stale {
		t.Error("stale is what comes from an older list than the client's")
	}

	current.parse(t, x, dists, list)
	wantEntry(t, x.Lookup(base+"/pool/a.deb", alice), KindFile, "old")
	wantEntry(t, x.Lookup(base+"/pool/a.deb", bob), KindFile, "new")
	e = x.Lookup(base+"/pool/gone.deb", bob)
	wantEntry(t, e, KindFile, "gone")
	if e.Stale {
		t.Error("what the current list does not name was withdrawn, not changed")
	}
}

func TestPoolAnswerOfNewerListIsStale(t *testing.T) {
	x := openIndex(t, Config{})
	root := stable(july, "pool/a.deb", "old").publish(t, x, dists)
	current := stable(august, "pool/a.deb", "new")
	current.publish(t, x, dists)
	current.parse(t, x, dists, list)
	x.GaveRoot(dists+"/InRelease", root, alice)
	e := x.Lookup(base+"/pool/a.deb", alice)
	wantEntry(t, e, KindFile, "new")
	if !e.Stale || x.Lookup(base+"/pool/a.deb", bob).Stale {
		t.Error("stale is what does not come from the client's own list")
	}
}

// Two suites above one pool that contradict each other.
func TestSuitesThatContradict(t *testing.T) {
	x := openIndex(t, Config{})
	const updates, forged = base + "/dists/updates", base + "/dists/forged"
	one, two, evil := stable(july, "pool/a.deb", "one"), stable(august, "pool/a.deb", "two"), stable(august.AddDate(5, 0, 0), "pool/a.deb", "evil")
	root := one.publish(t, x, dists)
	two.publish(t, x, updates)
	_, err := x.AddRoot(forged+"/InRelease", clearsigned(t, evil.release(), strangersKey()))
	check(t, err)
	one.parse(t, x, dists, list)
	two.parse(t, x, updates, list)
	evil.parse(t, x, forged, list)
	x.GaveRoot(dists+"/InRelease", root, alice)
	wantEntry(t, x.Lookup(base+"/pool/a.deb", alice), KindFile, "one")
	wantEntry(t, x.Lookup(base+"/pool/a.deb", bob), KindFile, "two")
	if origins, _ := x.Stats(); origins != 1 {
		t.Errorf("%d repositories, want one", origins)
	}
}

func TestFlatRepositories(t *testing.T) {
	tests := []struct{ dir, file, name string }{
		{"h/repo", "a.deb", "h/repo/a.deb"},
		{"h/repo", "./amd64/a.deb", "h/repo/amd64/a.deb"},
		{"h", "a.deb", "h/a.deb"},
		{"h/debian/binary", "binary/a.deb", "h/debian/binary/a.deb"},
		{"h/x/debian/binary", "debian/binary/a.deb", "h/x/debian/binary/a.deb"},
	}
	for _, tt := range tests {
		x := openIndex(t, Config{})
		r := &repo{date: july}
		r.addPacked("Packages", packages(tt.file, "a"))
		r.publish(t, x, tt.dir)
		r.parse(t, x, tt.dir, "Packages.gz")
		wantEntry(t, x.Lookup(tt.dir+"/Packages", alice), KindIndex, string(r.files["Packages"]))
		wantEntry(t, x.Lookup(tt.name, alice), KindFile, "a")
		if e := x.Lookup("h/other/a.deb", alice); e.Kind != KindUnknown && tt.dir != "h" {
			t.Errorf("%s speaks for %+v", tt.dir, e)
		}
	}
}

func TestPatches(t *testing.T) {
	x := openIndex(t, Config{})
	const dir = "main/binary-amd64/Packages.diff/"
	patch := []byte("patch")
	index := func(date time.Time, patches string) *repo {
		r := stable(date, "pool/a.deb", "a")
		r.files[dir+"Index"] = fmt.Appendf(nil, "SHA256-Current: x\nSHA256-Download:\n%s", patches)
		return r
	}
	line := fmt.Sprintf(" %x %d 2026-07-01-0800.00.gz\n", sha256.Sum256(patch), len(patch))
	old, current := index(july, line), index(august, "")
	old.publish(t, x, dists)
	if e := x.Lookup(dists+"/"+dir+"Index", alice); e.Kind != KindIndex || !e.Parse {
		t.Errorf("Index: got %+v", e)
	}
	old.parse(t, x, dists, dir+"Index")
	current.publish(t, x, dists)
	current.parse(t, x, dists, dir+"Index")
	wantEntry(t, x.Lookup(dists+"/"+dir+"2026-07-01-0800.00.gz", alice), KindFile, "patch")
	wantEntry(t, x.Lookup(dists+"/"+dir+fmt.Sprintf("by-hash/SHA256/%x", sha256.Sum256(patch)), alice), KindFile, "patch")
	if e := x.Lookup(dists+"/main/2026-07-01-0800.00.gz", alice); e.Kind != KindUnknown {
		t.Errorf("the patch is in another directory, too: %+v", e)
	}
}

func TestInstallerImages(t *testing.T) {
	x := openIndex(t, Config{})
	const dir = "main/installer-amd64/current/images/"
	images := func(date time.Time, content string) *repo {
		r := &repo{date: date, files: make(map[string][]byte)}
		r.files[dir+"SHA256SUMS"] = fmt.Appendf(nil, "%x  ./netboot/mini.iso\n", sha256.Sum256([]byte(content)))
		return r
	}
	old, current := images(july, "old"), images(august, "new")
	root := old.publish(t, x, dists)
	old.parse(t, x, dists, dir+"SHA256SUMS")
	current.publish(t, x, dists)
	name := dists + "/" + dir + "netboot/mini.iso"
	if e := x.Lookup(name, bob); e.Kind != KindUnknown {
		t.Errorf("the newest SHA256SUMS was not read, yet got %+v", e)
	}
	current.parse(t, x, dists, dir+"SHA256SUMS")
	x.GaveRoot(dists+"/InRelease", root, alice)
	for client, content := range map[netip.Addr]string{alice: "old", bob: "new"} {
		want := Entry{Kind: KindIndex, Digest: sha256.Sum256([]byte(content)), Size: -1, Trusted: true, Base: base}
		if got := x.Lookup(name, client); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestSources(t *testing.T) {
	x := openIndex(t, Config{})
	r := &repo{date: july}
	r.addPacked("main/source/Sources", fmt.Appendf(nil, "Package: a\nDirectory: pool/main/a/a\nChecksums-Sha256:\n %x 1 a_1.dsc\n", sha256.Sum256([]byte("a"))))
	r.publish(t, x, dists)
	r.parse(t, x, dists, "main/source/Sources.gz")
	wantEntry(t, x.Lookup(base+"/pool/main/a/a/a_1.dsc", alice), KindFile, "a")
}

func TestFileWithoutSHA256IsUnknown(t *testing.T) {
	x := openIndex(t, Config{})
	text := fmt.Sprintf("Suite: s\nSHA512:\n %x 1 Packages\n", sha512.Sum512([]byte("a")))
	_, err := x.AddRoot("h/r/Release", []byte(text))
	check(t, err)
	if e := x.Lookup("h/r/Packages", alice); e.Kind != KindUnknown {
		t.Errorf("got %+v", e)
	}
}

func TestClientsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clients
		addr := netip.MustParseAddr("2001:db8::")
		for range maxClients + 1 {
			addr = addr.Next()
			c.gave(dists, Digest{}, addr)
		}
		if len(c.views) != maxClients {
			t.Errorf("%d clients are remembered", len(c.views))
		}
		time.Sleep(holdTime + time.Second)
		c.gave(dists, Digest{}, alice)
		if len(c.views) != 1 || len(c.holding(alice).views) != 1 {
			t.Errorf("%d clients are remembered after all others have gone", len(c.views))
		}
		for i := range 2 * maxClientViews {
			c.gave(fmt.Sprint("dir", i), Digest{}, alice)
		}
		if n := len(c.views[alice]); n != maxClientViews {
			t.Errorf("%d suites are remembered of one client", n)
		}
		time.Sleep(holdTime + time.Second)
		c.expire()
		if len(c.views) != 0 {
			t.Error("an idle client is remembered")
		}
	})
}

func TestInUse(t *testing.T) {
	x := openIndex(t, Config{})
	r := stable(july, "pool/a.deb", "a")
	root := r.publish(t, x, dists)
	r.parse(t, x, dists, list)
	seen := make(map[Digest]bool)
	x.InUse(func(d Digest) bool { seen[d] = true; return true })
	want := []Digest{root, sha256.Sum256([]byte("a")), sha256.Sum256(r.files[list]), sha256.Sum256(r.files[list+".gz"])}
	for _, d := range want {
		if !seen[d] {
			t.Errorf("%x is not in use", d[:4])
		}
	}
	if len(seen) != len(want) {
		t.Errorf("%d hashes are in use, want %d", len(seen), len(want))
	}
	for _, d := range want {
		if got := x.Bases(d); !slices.Equal(got, []string{base}) {
			t.Errorf("%x is of %v", d[:4], got)
		}
	}
	if got := x.Bases(Digest{1}); len(got) != 0 {
		t.Errorf("what no index names is of %v", got)
	}
	for stop := range 8 {
		calls := 0
		x.InUse(func(Digest) bool { calls++; return calls <= stop })
		if calls != stop+1 {
			t.Errorf("told to stop after %d, it called %d times", stop, calls)
		}
	}
}
