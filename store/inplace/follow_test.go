// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFollowsFiles(t *testing.T) {
	b := newBench(t)
	first := b.write("dists/InRelease", random(100))
	b.start().comes(first)

	b.write("dists/.InRelease.Xa3d5f", random(100)) // as rsync does
	b.write("dists/Release.new", random(100))       // as reprepro does
	second := sha256.Sum256(must(os.ReadFile(b.path("dists/.InRelease.Xa3d5f"))))
	b.rename("dists/.InRelease.Xa3d5f", "dists/InRelease")
	b.comes(second)
	b.goes(first)

	other := b.write("pool/main/h/hello/hello.deb", random(5000)) // in new directories
	b.comes(other)
	b.write("pool/copy", must(os.ReadFile(b.path("pool/main/h/hello/hello.deb"))))
	b.eventually("the copy is known", func() bool { return b.Stats().Files == 3 })
	b.remove("pool/main")
	b.rests()
	if !b.has(other) || b.read(other) == nil {
		t.Error("the copy does not stand in for the original")
	}
	b.remove("pool/copy")
	b.goes(other)
	if got := b.Stats(); got != (Stats{Files: 1, Blobs: 1, Bytes: 100, Scanned: true}) {
		t.Errorf("stats %+v", got)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestChangedInPlace changes bytes, and hides it as well as can be.
func TestChangedInPlace(t *testing.T) {
	b := newBench(t)
	old := b.write("file", random(3000))
	b.start().comes(old)
	info := must(os.Stat(b.path("file")))
	b.cfg.Log.Info("changing")
	data := random(3000)
	b.write("file", data)
	check(t, os.Chtimes(b.path("file"), info.ModTime(), info.ModTime()))
	if b.read(old) != nil {
		t.Error("the old digest is given out at once after the change")
	}
	b.comes(sha256.Sum256(data))
	b.goes(old)
}

// TestTwins switches directories whose files differ in their bytes and inodes alone.
func TestTwins(t *testing.T) {
	b := newBench(t)
	when := time.Unix(1_700_000_000, 0)
	data, other := random(1000), random(1000)
	for ctimeOf(t, b.path("shown/file")) != ctimeOf(t, b.path(".kept/file")) {
		b.remove("shown")
		b.remove(".kept")
		check(t, os.Mkdir(b.path("shown"), 0o755))
		check(t, os.Mkdir(b.path(".kept"), 0o755))
		check(t, os.WriteFile(b.path("shown/file"), data, 0o644))
		check(t, os.WriteFile(b.path(".kept/file"), other, 0o644))
		check(t, os.Chtimes(b.path("shown/file"), when, when)) // within a tick, most of the time
		check(t, os.Chtimes(b.path(".kept/file"), when, when))
	}
	d := Digest(sha256.Sum256(data))
	b.start().comes(d)
	b.rename("shown", ".gone")
	b.rename(".kept", "shown")
	if b.read(d) != nil {
		t.Error("given out from the other file")
	}
	b.comes(sha256.Sum256(other))
	b.goes(d)
}

// ctimeOf returns a file's ctime; one that is not there has another each time.
func ctimeOf(t *testing.T, path string) int64 {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return rand.Int64()
	}
	return st.Ctim.Nano()
}

// TestStampChangesAlone touches the inode but not the bytes: nobody is told that anything is gone.
func TestStampChangesAlone(t *testing.T) {
	b := newBench(t)
	d := b.write("file", random(3000))
	b.start().comes(d)
	check(t, os.Link(b.path("file"), b.path("link")))
	b.eventually("both are known", func() bool { return b.Stats().Files == 2 && b.read(d) != nil })
	check(t, os.Chmod(b.path("file"), 0o664))
	b.rests()
	b.eventually("given out again", func() bool { return b.read(d) != nil })
	b.mu.Lock()
	defer b.mu.Unlock()
	if told := b.told; told != 3 || !b.blobs[d] { // d, and rests' own file twice
		t.Errorf("told %d times, want 3", told)
	}
}

// TestAskedForAgainAndAgain changes a file without anybody but those who ask for it noticing: it is hashed
// again however often it is asked for.
func TestAskedForAgainAndAgain(t *testing.T) {
	b := newInbox()
	b.hint("file")
	b.take()
	for range 3 {
		b.hint("file")
		if len(b.take()) > 0 {
			return
		}
	}
	t.Error("a path that is asked for in every interval is never looked at")
}

// TestHalfWritten writes slowly, and checks that nothing but the whole file was ever offered.
func TestHalfWritten(t *testing.T) {
	b := newBench(t)
	b.cfg.Rest = time.Second
	b.start()
	f := must(os.Create(b.path("file")))
	defer f.Close()
	check(t, f.Chmod(0o644))
	var whole []byte
	for range 40 {
		part := random(1000)
		whole = append(whole, part...)
		must(f.Write(part))
		time.Sleep(40 * time.Millisecond) // a slow download
	}
	d := Digest(sha256.Sum256(whole))
	check(t, f.Close())
	b.comes(d)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.told != 1 {
		t.Errorf("told %d times, want 1: parts of the file were offered", b.told)
	}
}

// TestTouchedDirectory changes the times of a directory, as rsync does at its end: nothing is walked.
func TestTouchedDirectory(t *testing.T) {
	b := newBench(t)
	d := b.write("pool/main/file", random(100))
	b.start().comes(d)
	check(t, os.Chmod(b.path("pool/main"), 0o700))
	b.goes(d)
	check(t, os.Chmod(b.path("pool/main"), 0o755))
	b.comes(d)
	b.rests()
	b.stop()
	root := must(os.OpenRoot(b.dir))
	defer root.Close()
	w := must(newWatcher(newInbox()))
	defer w.close()
	s := &Set{worker: worker{watch: w}}
	if s.watches(root, "pool") || !s.watches(root, "pool") {
		t.Error("the second time the directory is known")
	}
	b.rename("pool", "moved")
	if s.watches(root, "moved") || !s.watches(root, "moved") {
		t.Error("the directory is known by its old path")
	}
}

// TestNoEvent changes a file in a way that inotify does not tell: scans find it.
func TestNoEvent(t *testing.T) {
	b := newBench(t)
	b.cfg.Rescan = 2 * testRest
	old := b.write("file", random(100))
	b.start().comes(old)
	f := must(os.OpenFile(b.path("file"), os.O_WRONLY, 0))
	defer f.Close()
	data := random(100)
	must(f.WriteAt(data, 0))
	b.comes(sha256.Sum256(data))
	b.goes(old)
}

// TestTreesMove moves a tree out and in. At one byte a second nothing can have been hashed again.
func TestTreesMove(t *testing.T) {
	b := newBench(t)
	var digests []Digest
	for i := range 20 {
		digests = append(digests, b.write(fmt.Sprintf("debian/pool/%d/file", i), random(1000)))
	}
	b.start().comes(digests...)
	b.stop()
	b.cfg.Rate = 1
	b.start().comes(digests...)
	out := filepath.Join(t.TempDir(), "out")
	check(t, os.Rename(b.path("debian"), out))
	b.goes(digests...)
	check(t, os.Rename(out, b.path("ubuntu")))
	b.comes(digests...)
	b.rename("ubuntu/pool/3", "ubuntu/dists/3")
	b.comes(digests...)
}

// TestDirGoes takes all of Dir away and puts it back, as a mount that ends and returns.
func TestDirGoes(t *testing.T) {
	for name, replace := range map[string]func(dir string) error{
		"missing": func(string) error { return nil },
		"empty":   func(dir string) error { return os.Mkdir(dir, 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.dir = filepath.Join(b.dir, "mnt")
			b.cfg.Dir = b.dir
			d := b.write("debian/file", random(1000))
			b.start().comes(d)
			b.stop()
			b.cfg.Rate = 1
			b.start().comes(d)
			check(t, os.Rename(b.dir, b.dir+".away"))
			check(t, replace(b.dir))
			b.goes(d)
			check(t, os.RemoveAll(b.dir))
			check(t, os.Rename(b.dir+".away", b.dir))
			b.comes(d)
			if fds := openBeneath(b.dir); len(fds) > 0 {
				t.Errorf("held open, so that it cannot be unmounted: %v", fds)
			}
		})
	}
}

// openBeneath returns what this process has open in a directory.
func openBeneath(dir string) (paths []string) {
	for _, fd := range must(os.ReadDir("/proc/self/fd")) {
		path, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && strings.HasPrefix(path, dir) {
			paths = append(paths, path)
		}
	}
	return paths
}

// TestDirIsLink publishes by switching Dir itself.
func TestDirIsLink(t *testing.T) {
	b := newBench(t)
	base := b.dir
	b.dir = filepath.Join(base, "current")
	b.cfg.Dir = b.dir
	check(t, os.Mkdir(filepath.Join(base, "1"), 0o755))
	check(t, os.Mkdir(filepath.Join(base, "2"), 0o755))
	check(t, os.Symlink("1", b.dir))
	first := b.write("file", random(100))
	b.start().comes(first)
	check(t, os.WriteFile(filepath.Join(base, "2", "file"), []byte("second"), 0o644))
	check(t, os.Symlink("2", b.dir+".tmp"))
	check(t, os.Rename(b.dir+".tmp", b.dir))
	if b.read(first) != nil {
		t.Error("the old directory is given out after the switch")
	}
	b.comes(sha256.Sum256([]byte("second")))
	b.goes(first)
}

// TestLinks switches a link to hidden directories, as in 'dists -> .dists.1'.
func TestLinks(t *testing.T) {
	b := newBench(t)
	first := b.write(".dists/1/main/Packages", random(100))
	second := b.write(".dists/2/main/Packages", random(100))
	single := b.write(".blobs/single", random(100))
	visible := b.write("pool/file", random(100))
	check(t, os.Symlink(".dists/1", b.path("dists")))
	check(t, os.Symlink("../.blobs/../.blobs/single", b.path("pool/link")))
	check(t, os.Symlink("..", b.path("pool/debian"))) // as 'debian -> .' on many mirrors
	check(t, os.Symlink("../pool", b.path(".dists/1/pool")))
	b.start().comes(first, single, visible)
	b.eventually("nothing is known twice", func() bool { return b.Stats() == Stats{Files: 3, Blobs: 3, Bytes: 300, Scanned: true} })
	if b.has(second) {
		t.Error("a hidden file is offered to which no link leads")
	}
	check(t, os.Symlink(".dists/2", b.path("dists.tmp")))
	b.rename("dists.tmp", "dists")
	b.comes(second)
	b.goes(first)
	more := b.write(".dists/2/main/Sources", random(100)) // watched by its own path
	b.comes(more)
	b.remove("dists")
	b.goes(second, more)
	b.remove("pool/link")
	b.goes(single)
	check(t, os.Symlink(".dists/1", b.path("again")))
	b.comes(first)
}

// TestEscapes offers nothing from outside, whatever links say.
func TestEscapes(t *testing.T) {
	b := newBench(t)
	outside := t.TempDir()
	check(t, os.Chmod(outside, 0o755))
	secret := random(100)
	check(t, os.WriteFile(filepath.Join(outside, "secret"), secret, 0o644))
	up := strings.Repeat("../", 20)
	for name, target := range map[string]string{
		"absolute":        filepath.Join(outside, "secret"),
		"absolute-dir":    outside,
		"relative":        up + outside[1:] + "/secret",
		"relative-dir":    up + outside[1:],
		"through":         "relative-dir/secret",
		"absolute-inside": b.dir,
		"loop":            "loop",
		"loop1":           "loop2",
		"loop2":           "loop1",
		"dangling":        "nothing",
		"file-as-dir":     "plain/x",
		"proc":            "/proc/self/root" + outside + "/secret",
		"parent":          "../" + filepath.Base(b.dir),
		"deep":            strings.Repeat("a/../", 700) + "../" + filepath.Base(outside),
	} {
		check(t, os.Symlink(target, b.path(name)))
	}
	plain := b.write("plain", random(10))
	b.start().comes(plain)
	b.rests()
	if got := b.Stats(); got.Blobs != 1 || b.has(sha256.Sum256(secret)) {
		t.Errorf("stats %+v", got)
	}
	// A directory that is offered becomes a link to one outside with the same file.
	inner := b.write("dir/secret", secret)
	b.comes(inner)
	check(t, os.Rename(b.path("dir"), b.path(".old")))
	check(t, os.Symlink(outside, b.path("dir")))
	if b.read(inner) != nil {
		t.Error("read from outside")
	}
	b.goes(inner)
}

// TestLeavesOut has what must not be offered; rests says that it has been looked at.
func TestLeavesOut(t *testing.T) {
	b := newBench(t)
	prepare := func() {
		b.write("private", random(10))
		check(t, os.Chmod(b.path("private"), 0o640))
		b.write("closed/file", random(10))
		check(t, os.Chmod(b.path("closed"), 0o750))
		b.write("unlistable/file", random(10))
		check(t, os.Chmod(b.path("unlistable"), 0o751))
		b.write(".closed/file", random(10))
		check(t, os.Chmod(b.path(".closed"), 0o700))
		check(t, os.Symlink(".closed/file", b.path("way")))
		b.write("partial/a.deb", random(10))
		b.write("a.deb.tmp", random(10))
		b.write(".hidden", random(10))
		b.write("empty", nil)
		check(t, unix.Mkfifo(b.path("fifo"), 0o666))
		l := must(net.Listen("unix", b.path("socket")))
		t.Cleanup(func() { l.Close() })
	}
	prepare()
	b.start().wantNone() // found by the scan
	for _, entry := range must(os.ReadDir(b.dir)) {
		b.remove(entry.Name())
	}
	prepare()
	b.wantNone() // told by inotify
	d := b.write("open/file", random(10))
	b.comes(d)
	check(t, os.Chmod(b.path("open"), 0o700))
	b.goes(d)
	check(t, os.Chmod(b.path("open"), 0o755))
	b.comes(d)
	check(t, os.Chmod(b.path("open/file"), 0o600))
	b.goes(d)
}

func TestLeftOut(t *testing.T) {
	for _, name := range []string{".hello.deb.Xy12ab", ".~tmp~", "Packages.tmp", "Release.new", "partial", "lost+found", "x~", "a.deb.part"} {
		if !leftOut(name) {
			t.Errorf("%s is taken", name)
		}
	}
	for _, name := range []string{"hello_2.10-3+b1_amd64.deb", "InRelease", "Packages.xz", "by-hash", "dists", "a~b.deb", "linux_6.1~rc1.orig.tar.xz", "news"} {
		if leftOut(name) {
			t.Errorf("%s is left out", name)
		}
	}
}

// TestVerify has a file whose bytes are not what the cache says, as if they had gone bad on disk.
func TestVerify(t *testing.T) {
	b := newBench(t)
	data := random(1000)
	d := b.write("file", data)
	b.start().comes(d)
	b.stop()
	wrong := Digest(sha256.Sum256([]byte("what it was")))
	file := filepath.Join(b.cfg.Cache, "files")
	cache := must(os.ReadFile(file))
	r := must(decode(cache[16:]))
	r.digest = wrong
	check(t, os.WriteFile(file, r.encode(cache[:16:16], nil), 0o600))
	b.cfg.Verify = testRest
	b.start().comes(d)
	b.goes(wrong)
	b.eventually("it is logged", func() bool { return b.log.count("gone bad") == 1 })
	b.rests()
	if b.log.count("gone bad") != 1 || !b.has(d) {
		t.Error("what the file is now is bad as well")
	}
}

// TestCacheFull cannot write to the cache: nothing is offered, and that is said once.
func TestCacheFull(t *testing.T) {
	b := newBench(t)
	b.write("a", random(100))
	b.write("b", random(100))
	s := must(Open(b.cfg))
	check(t, s.journal.f.Close())
	s.journal.f = must(os.Open(filepath.Join(b.cfg.Cache, "files")))
	b.blobs = make(map[Digest]bool)
	b.run(s)
	b.eventually("it is logged", func() bool { return b.log.count("cannot be kept") == 1 })
	b.write("c", random(100))
	b.eventually("the new file waits", func() bool { return b.log.count("to_hash=2") > 0 })
	if got := b.Stats(); got.Blobs != 0 || b.log.count("cannot be kept") != 1 {
		t.Errorf("stats %+v", got)
	}
	b.stop()
	b.start().comes(sha256.Sum256(must(os.ReadFile(b.path("a")))))
}

// TestManyPaths notes more than an inbox holds.
func TestManyPaths(t *testing.T) {
	b := newInbox()
	for i := range maxNoted {
		b.note(fmt.Sprint(i))
	}
	if b.scanWanted() {
		t.Error("a scan is wanted too early")
	}
	if got := len(b.take()); got != 0 {
		t.Errorf("%d paths have rested at once", got)
	}
	b.note("one more")
	if !b.scanWanted() {
		t.Error("paths were dropped, and no scan is wanted")
	}
	if got := len(b.take()); got != maxNoted {
		t.Errorf("%d paths have rested, want %d", got, maxNoted)
	}
	b.note("a")
	b.take()
	b.note("a")
	if got := b.take(); len(got) != 0 {
		t.Errorf("taken although noted again: %v", got)
	}
	if got := b.take(); len(got) != 1 {
		t.Errorf("taken: %v, want a", got)
	}
}

func TestComplainsOnce(t *testing.T) {
	b := newBench(t).start()
	b.stop()
	for range 3 {
		b.skip("bad", unix.EIO)
		b.skip("gone", unix.ENOENT)
	}
	if got := b.log.count("cannot be read"); got != 1 {
		t.Errorf("logged %d times", got)
	}
	for i := range 2 * maxComplaints {
		b.skip(fmt.Sprint(i), unix.EACCES)
	}
	if got := b.log.count("cannot be read"); got != maxComplaints+1 {
		t.Errorf("logged %d times, want %d", got, maxComplaints+1)
	}
}

// TestReadersKeepTheirFile replaces a file while it is read.
func TestReadersKeepTheirFile(t *testing.T) {
	b := newBench(t)
	data := random(100_000)
	d := b.write("file", data)
	b.start().comes(d)
	blob := must(b.Get(d))
	defer blob.Close()
	half := must(io.ReadAll(io.LimitReader(blob, 50_000)))
	b.write("file.new", random(100_000))
	b.rename("file.new", "file")
	b.goes(d)
	rest := must(io.ReadAll(blob))
	if !bytes.Equal(append(half, rest...), data) {
		t.Error("other bytes")
	}
}

// TestPrivateIsCounted: the operator can be told of what is not offered.
func TestPrivateIsCounted(t *testing.T) {
	b := newBench(t)
	b.write("closed/deep/a", random(100))
	check(t, os.Chmod(b.path("closed"), 0o750))
	b.start()
	b.eventually("only a closed directory is found", func() bool {
		return b.Stats() == Stats{Scanned: true, Empty: true, Private: Private{Dirs: 1, First: "closed"}}
	})
	b.stop()

	for name, mode := range map[string]os.FileMode{"pool/a": 0o600, "pool/b": 0o640, "pool/c": 0o644, "pool/.hidden": 0o600, "pool/empty": 0o600} {
		b.write(name, random(100))
		check(t, os.Chmod(b.path(name), mode))
	}
	check(t, os.Truncate(b.path("pool/empty"), 0))
	b.start()
	b.eventually("files are found", func() bool { return b.Stats().Files == 1 })
	got := b.Stats()
	if got.Empty || got.Private.Files != 2 || got.Private.Dirs != 1 || got.Private.First == "" {
		t.Errorf("stats %+v", got)
	}
}

// TestFirstPrivate: what becomes private while all is watched is counted too, and no
// more once it is mended and the directory has been scanned.
func TestFirstPrivate(t *testing.T) {
	b := newBench(t)
	d := b.write("a", random(100))
	b.start().comes(d)
	if got := b.Stats().Private; got != (Private{}) {
		t.Errorf("private: %+v", got)
	}
	check(t, os.Chmod(b.path("a"), 0o600))
	b.goes(d)
	b.eventually("it is counted", func() bool { return b.Stats().Private == Private{Files: 1, First: "a"} })
	check(t, os.Chmod(b.path("a"), 0o644))
	b.comes(d)
	b.box.scan()
	b.eventually("it is counted no more", func() bool { return b.Stats().Private == Private{} })
}

// TestUnchanged tells a file that is written into from one that is replaced.
func TestUnchanged(t *testing.T) {
	b := newBench(t)
	one, two := b.write("one", random(100_000)), b.write("two", random(100_000))
	b.start().comes(one, two)
	into, replaced := must(b.Get(one)), must(b.Get(two))
	defer into.Close()
	defer replaced.Close()
	if err := errors.Join(into.Unchanged(), replaced.Unchanged()); err != nil {
		t.Errorf("before anything happened: %v", err)
	}
	b.write("one", random(100_000))
	b.write("two.new", random(100_000))
	b.rename("two.new", "two")
	if err := into.Unchanged(); !errors.Is(err, errChanged) {
		t.Errorf("a file that was written into: %v", err)
	}
	if err := replaced.Unchanged(); err != nil {
		t.Errorf("a file that was replaced: %v", err)
	}
}
