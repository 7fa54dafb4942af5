// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"apt-dht/index/parse"
)

var testID = contentID{sha256.Sum256([]byte("id")), parse.FormatPackages}

// numbered builds rows for the paths f0, f1, ...
func numbered(t testing.TB, n int) [][rowSize]byte {
	t.Helper()
	var b rowBuilder
	for i := range n {
		path := fmt.Appendf(nil, "f%d", i)
		check(t, b.add(path, int64(i), sha256.Sum256(path)))
	}
	return b.sorted()
}

func openNumbered(t testing.TB, n int) (*catalogue, string) {
	t.Helper()
	dir := t.TempDir()
	check(t, writeCatalogue(dir, testID, numbered(t, n)))
	c, err := openCatalogue(dir, testID)
	check(t, err)
	return c, filepath.Join(dir, testID.fileName())
}

func TestCatalogueFindsAll(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 100, 20_000} {
		c, _ := openNumbered(t, n)
		for i := range n {
			path := fmt.Sprintf("f%d", i)
			size, digest, ok := c.find(keyOf(path))
			if !ok || size != int64(i) || digest != sha256.Sum256([]byte(path)) {
				t.Fatalf("of %d: %s: got %d, %x, %v", n, path, size, digest[:4], ok)
			}
		}
		for i := range 1000 {
			if _, _, ok := c.find(keyOf(fmt.Sprintf("missing%d", i))); ok {
				t.Fatalf("of %d: found what is not there", n)
			}
		}
		for _, key := range []uint64{0, 1, ^uint64(0), 1 << 63} {
			if _, _, ok := c.find(key); ok {
				t.Errorf("of %d: found key %x", n, key)
			}
		}
	}
}

// Keys are an archive's choice: neither crowded nor unsorted ones may cost much or mislead.
func TestFindInOddTables(t *testing.T) {
	tableFor := func(keys ...uint64) table {
		data := make([]byte, len(keys)*rowSize)
		for i, k := range keys {
			binary.BigEndian.PutUint64(data[i*keySize:], k)
		}
		return tableOf(data)
	}
	crowd := make([]uint64, 1000)
	for i := range crowd {
		crowd[i] = 1<<40 + uint64(i)
	}
	crowd[999] = ^uint64(0)
	r := tableFor(crowd...)
	for _, k := range crowd {
		if _, _, ok := r.find(k); !ok {
			t.Errorf("key %x of a crowd is not found", k)
		}
	}
	slices.Reverse(crowd)
	for _, k := range crowd {
		tableFor(crowd...).find(k) // ends
	}
	if _, _, ok := tableFor(7, 7, 7).find(8); ok {
		t.Error("found a key that is not there among equal ones")
	}
}

func TestRowsKeepOneOfEachPath(t *testing.T) {
	build := func(contents ...string) table {
		var b rowBuilder
		for _, c := range contents {
			check(t, b.add([]byte("path"), int64(len(c)), sha256.Sum256([]byte(c))))
		}
		return b.table()
	}
	one, two := build("a", "b"), build("b", "a")
	if one.len() != 1 || !bytes.Equal(one.values, two.values) {
		t.Errorf("%d rows, the same in either order: %v", one.len(), bytes.Equal(one.values, two.values))
	}
}

func TestRowsAreBounded(t *testing.T) {
	b := rowBuilder{list: make([][rowSize]byte, maxRows)}
	if err := b.add([]byte("x"), 0, Digest{}); err == nil {
		t.Error("more rows than allowed")
	}
}

func TestDamagedCatalogue(t *testing.T) {
	c, path := openNumbered(t, 50)
	good, err := os.ReadFile(path)
	check(t, err)
	if want := catalogueHeader + 50*rowSize; len(good) != want || c.table.len() != 50 {
		t.Fatalf("%d bytes, want %d", len(good), want)
	}
	damaged := [][]byte{{}, good[:10], good[:len(good)-1], good[:len(good)-rowSize], append(slices.Clone(good), 0)}
	for i := 0; i < len(good); i += 7 {
		if i >= 8 && i < 12 {
			continue // reserved
		}
		bad := slices.Clone(good)
		bad[i] ^= 0x40
		damaged = append(damaged, bad)
	}
	for i, bad := range damaged {
		write(t, path, bad)
		if _, err := openCatalogue(filepath.Dir(path), testID); !errors.Is(err, errCorrupt) {
			t.Errorf("damage %d: got %v, want errCorrupt", i, err)
		}
	}
}

// A page that the disk cannot deliver is SIGBUS: it must not end the process.
func TestUnreadablePageIsNoMatch(t *testing.T) {
	c, path := openNumbered(t, 2000)
	check(t, os.Truncate(path, 0))
	if _, _, ok := c.find(keyOf("f1")); ok {
		t.Error("found a row on a page that cannot be read")
	}
	if !c.broken.Load() {
		t.Error("not marked as broken")
	}
	if !c.each(func(Digest) bool { return true }) {
		t.Error("the other catalogues would not be visited")
	}
}

func TestGuardPassesOtherPanics(t *testing.T) {
	c, _ := openNumbered(t, 1)
	defer func() {
		if recover() != "mine" {
			t.Error("a panic was swallowed")
		}
	}()
	c.each(func(Digest) bool { panic("mine") })
}

func TestContentIDFileName(t *testing.T) {
	for format := range formatNames {
		id := contentID{testID.digest, format}
		if got, ok := parseContentID(id.fileName()); !ok || got != id {
			t.Errorf("%s: got %v, %v", id.fileName(), got, ok)
		}
	}
	for _, name := range []string{"", "index.json", "00.packages.cat", testID.fileName() + "x", "x" + testID.fileName()} {
		if _, ok := parseContentID(name); ok {
			t.Errorf("%q is taken for a catalogue", name)
		}
	}
}
