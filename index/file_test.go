// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"apt-dht/index/parse"
)

func TestAddFileTakesWhatIsNamedAlone(t *testing.T) {
	x := openIndex(t, Config{})
	r := stable(july, "pool/a.deb", "a")
	r.publish(t, x, dists)
	forged := packages("pool/a.deb", "evil")
	for _, name := range []string{dists + "/" + list, base + "/dists/other/" + list, "h/Packages"} {
		if err := x.AddFile(name, sha256.Sum256(forged), bytes.NewReader(forged)); !errors.Is(err, ErrNotNamed) {
			t.Errorf("%s: got %v, want ErrNotNamed", name, err)
		}
	}
	// The bytes are tested, too, whatever the caller says that he verified.
	for path, body := range map[string][]byte{list: forged, list + ".gz": zip(forged)} {
		x := openIndex(t, Config{})
		r.publish(t, x, dists)
		if err := x.AddFile(dists+"/"+path, sha256.Sum256(r.files[path]), bytes.NewReader(body)); err == nil {
			t.Errorf("%s: took other bytes than named", path)
		}
		if e := x.Lookup(base+"/pool/a.deb", alice); e.Kind != KindUnknown {
			t.Errorf("%s: believed %+v", path, e)
		}
	}
}

// One compression of a list is enough, for every suite that names it.
func TestListIsReadOnce(t *testing.T) {
	x := openIndex(t, Config{})
	const other = "mirror.example/debian/dists/stable"
	r := stable(july, "pool/a.deb", "a")
	r.publish(t, x, dists)
	r.publish(t, x, other)
	names := []string{dists + "/" + list, dists + "/" + list + ".gz", other + "/" + list}
	for _, name := range names {
		if !x.Lookup(name, alice).Parse {
			t.Errorf("%s is not wanted", name)
		}
	}
	r.parse(t, x, dists, list+".gz")
	for _, name := range names {
		if x.Lookup(name, alice).Parse {
			t.Errorf("%s is wanted though known", name)
		}
	}
	wantEntry(t, x.Lookup("mirror.example/debian/pool/a.deb", alice), KindFile, "a")
	if err := x.AddFile(names[0], sha256.Sum256(r.files[list]), iotest.ErrReader(io.ErrUnexpectedEOF)); err != nil {
		t.Errorf("a list that is known was read again: %v", err)
	}
}

func TestListWithoutPlainFile(t *testing.T) {
	x := openIndex(t, Config{})
	r := stable(july, "pool/a.deb", "a")
	delete(r.files, list)
	r.publish(t, x, dists)
	r.parse(t, x, dists, list+".gz")
	wantEntry(t, x.Lookup(base+"/pool/a.deb", alice), KindFile, "a")
	id := contentID{sha256.Sum256(r.files[list+".gz"]), parse.FormatPackages}
	if x.catalogues[id] == nil {
		t.Error("its catalogue is not named by the compressed file")
	}
}

func TestEmptyListsAreNotWanted(t *testing.T) {
	x := openIndex(t, Config{})
	r := &repo{date: july}
	r.addPacked(list, nil)
	r.publish(t, x, dists)
	for _, path := range []string{list, list + ".gz"} {
		if e := x.Lookup(dists+"/"+path, alice); e.Kind != KindIndex || e.Parse {
			t.Errorf("%s: got %+v", path, e)
		}
	}
}

// The same bytes under another format's name must not hide what they say under their own.
func TestContentIsKnownByFormat(t *testing.T) {
	x := openIndex(t, Config{})
	const evil = "evil.example/repo"
	r := stable(july, "pool/a.deb", "a")
	odd := &repo{date: july, files: map[string][]byte{"Sources": r.files[list]}}
	odd.publish(t, x, evil)
	odd.parse(t, x, evil, "Sources")
	r.publish(t, x, dists)
	if !x.Lookup(dists+"/"+list, alice).Parse {
		t.Error("the list is not wanted")
	}
}

func TestFileThatCannotBeParsedIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := openIndex(t, Config{})
		r := &repo{date: july, files: map[string][]byte{list + ".gz": []byte("no gzip"), "Packages": []byte("<html>")}}
		r.publish(t, x, dists)
		for path, body := range r.files {
			name := dists + "/" + path
			if err := x.AddFile(name, sha256.Sum256(body), bytes.NewReader(body)); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: got error %v", path, err)
			}
			if x.Lookup(name, alice).Parse {
				t.Errorf("%s: wanted again at once", path)
			}
		}
		time.Sleep(retryAfter + time.Second)
		if !x.Lookup(dists+"/"+list+".gz", alice).Parse {
			t.Error("not wanted again later")
		}
		x.tidy()
		if len(x.failed) != 0 {
			t.Error("failures are remembered for ever")
		}
	})
}

func TestReadErrorIsNotTheFilesFault(t *testing.T) {
	x := openIndex(t, Config{})
	r := stable(july, "pool/a.deb", "a")
	r.publish(t, x, dists)
	name := dists + "/" + list
	broken := io.MultiReader(bytes.NewReader(r.files[list][:10]), iotest.ErrReader(io.ErrClosedPipe))
	if err := x.AddFile(name, sha256.Sum256(r.files[list]), broken); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	if !x.Lookup(name, alice).Parse {
		t.Error("not wanted any more")
	}
}

// A disk that takes nothing costs what a restart would know, but no answer.
func TestDiskThatTakesNothing(t *testing.T) {
	x := openIndex(t, Config{})
	check(t, os.RemoveAll(x.cfg.Dir))
	r := stable(july, "pool/a.deb", "a")
	r.publish(t, x, dists)
	wantEntry(t, x.Lookup(dists+"/"+list, alice), KindIndex, string(r.files[list]))
	if err := x.AddFile(dists+"/"+list, sha256.Sum256(r.files[list]), bytes.NewReader(r.files[list])); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	x.tidy()
	if !x.dirty {
		t.Error("takes what could not be saved for saved")
	}
}
