// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"strings"
	"testing"
)

func TestListsName(t *testing.T) {
	// What 'apt-get update --print-uris' of apt 2.6 tells.
	for url, file := range map[string]string{
		"deb.debian.org/debian/dists/bookworm/InRelease":                          "deb.debian.org_debian_dists_bookworm_InRelease",
		"Host.example:8080/a_b/c+d/~user/dists/bookworm/InRelease":                "Host.example:8080_a%5fb_c+d_%7euser_dists_bookworm_InRelease",
		"h.example/x+y:z@q;k,(w)'v/./InRelease":                                   "h.example_x+y:z%40q;k,(w)'v_._InRelease",
		"h.example:80/deb/sub/dir/InRelease":                                      "h.example:80_deb_sub_dir_InRelease",
		"h2.example/c%2bd/%7euser/dists/bookworm/main/binary-amd64/Packages":      "h2.example_c%252bd_%257euser_dists_bookworm_main_binary-amd64_Packages",
		"deb.debian.org/debian/dists/bookworm/main/dep11/Components-amd64.yml.gz": "deb.debian.org_debian_dists_bookworm_main_dep11_Components-amd64.yml.gz",
		"[fd00::1]/debian/dists/stable/InRelease":                                 "fd00::1_debian_dists_stable_InRelease",
	} {
		if name, ok := ListsName(file); name != url || !ok {
			t.Errorf("ListsName(%q) = %q, %v, want %q", file, name, ok, url)
		}
		if name := ListsFile(url); name != file {
			t.Errorf("ListsFile(%q) = %q, want %q", url, name, file)
		}
	}
	if name := ListsFile("[fd00::1]:3142/debian/dists/stable/updates/InRelease"); name != "fd00::1:3142_debian_dists_stable_updates_InRelease" {
		t.Errorf("port of an IPv6 address: got %q", name)
	}
	for _, file := range []string{
		"", "lock", "partial", "auxfiles", "InRelease", "_", "h_", "_srv_deb_._InRelease", "h/x_y",
		"h_a%5Fb", "h_a%zz", "h_%2f", "h_%", "h_~user", "h_a b", "h_\xff", "h_a%41", "a:b:c_InRelease", "::zz_x",
	} {
		if name, ok := ListsName(file); ok {
			t.Errorf("ListsName(%q) = %q, want none", file, name)
		}
	}
}

func FuzzListsName(f *testing.F) {
	f.Add("deb.debian.org_debian_dists_bookworm_InRelease")
	f.Add("h.example_a%5fb_%7euser_._Packages.lz4")
	f.Add("fd00::1:3142_debian_InRelease")
	f.Add("h_%2f%5F")
	f.Fuzz(func(t *testing.T, file string) {
		written := ListsFile(file) // of any URL
		if strings.ContainsAny(written, "/~ \x00") {
			t.Fatalf("ListsFile(%q) = %q", file, written)
		}
		name, ok := ListsName(file)
		if !ok {
			return
		}
		if ListsFile(name) != file {
			t.Fatalf("ListsName(%q) = %q, and back: %q", file, name, ListsFile(name))
		}
		if host, path, _ := strings.Cut(name, "/"); host == "" || path == "" {
			t.Fatalf("ListsName(%q) = %q: no host or no path", file, name)
		}
	})
}
