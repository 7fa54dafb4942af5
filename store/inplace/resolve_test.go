// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestResolve(t *testing.T) {
	b := newBench(t)
	b.write("a/b/file", random(10))
	b.write("closed/file", random(10))
	check(t, os.Chmod(b.path("closed"), 0o750))
	check(t, os.Symlink("../a/b", b.path("a/up")))
	root := must(os.OpenRoot(b.dir))
	defer root.Close()
	for name, c := range map[string]struct {
		target, want string
		err          error
	}{
		"plain":     {"a/b/file", "a/b/file", nil},
		"dots":      {"./a//b/../../a/b/./file", "a/b/file", nil},
		"dir":       {"a/b/", "a/b", nil},
		"root":      {".", "", nil},
		"a/again":   {"up", "a/b", nil},
		"a/root":    {"..", "", nil},
		"chain":     {"a/up/file", "a/b/file", nil},
		"out":       {"..", "", errOutside},
		"out-in":    {"a/../../x", "", errOutside},
		"a/out":     {"../../etc", "", errOutside},
		"absolute":  {"/etc/passwd", "", errOutside},
		"by-link":   {"a/up/../../..", "", errOutside},
		"loop":      {"loop", "", unix.ELOOP},
		"missing":   {"a/c", "", fs.ErrNotExist},
		"private":   {"closed/file", "", errPrivate},
		"closed-by": {"closed/../a", "", errPrivate},
		"file-dir":  {"a/b/file/x", "", unix.ENOTDIR},
		"file-up":   {"a/b/file/..", "", unix.ENOTDIR},
	} {
		check(t, os.Symlink(c.target, b.path(name)))
		if got, _, err := resolve(root, name); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s → %s is %q, %v; want %q, %v", name, c.target, got, err, c.want, c.err)
		}
	}
}
