// SPDX-License-Identifier: GPL-2.0-or-later

package index

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"apt-dht/index/parse"
)

const (
	catalogueMagic  = "apt-dht\x01"
	catalogueHeader = 24
	catalogueExt    = ".cat"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// contentID names what a catalogue was made from: the same bytes read as another format name other files.
type contentID struct {
	digest Digest // of the plain file where its Release tells that, else of the compressed one
	format parse.Format
}

var formatNames = map[parse.Format]string{
	parse.FormatPackages:   "packages",
	parse.FormatSources:    "sources",
	parse.FormatPdiffIndex: "pdiff",
	parse.FormatSHA256SUMS: "sums",
}

func (id contentID) fileName() string {
	return hex.EncodeToString(id.digest[:]) + "." + formatNames[id.format] + catalogueExt
}

// parseContentID is the inverse of fileName.
func parseContentID(file string) (id contentID, ok bool) {
	digits, rest, _ := strings.Cut(file, ".")
	digest, err := parseDigest(digits)
	if err != nil {
		return contentID{}, false
	}
	for format, name := range formatNames {
		if rest == name+catalogueExt {
			return contentID{digest, format}, true
		}
	}
	return contentID{}, false
}

func parseDigest(digits string) (d Digest, err error) {
	raw, err := hex.DecodeString(digits)
	if err == nil && len(raw) != len(d) {
		err = errors.New("not a SHA-256")
	}
	if err != nil {
		return Digest{}, err
	}
	return Digest(raw), nil
}

// catalogue is a table mapped from its file. The mapping ends when nobody refers to the catalogue any more.
type catalogue struct {
	id     contentID
	table  table // in the mapping: only catalogue's methods touch it, they keep the catalogue alive
	mapped []byte
	broken atomic.Bool // its pages could not be read
}

// errCorrupt is for a file that is not a whole catalogue.
var errCorrupt = errors.New("corrupt catalogue")

// openCatalogue maps a file that writeCatalogue made. The checksum is tested by reading, not through
// the mapping: so no page counts as our memory before a lookup needs it.
func openCatalogue(dir string, id contentID) (*catalogue, error) {
	f, err := os.Open(filepath.Join(dir, id.fileName()))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkCatalogue(f, info.Size()); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", f.Name(), err)
	}
	c := &catalogue{id: id, table: tableOf(mapped[catalogueHeader:]), mapped: mapped}
	runtime.AddCleanup(c, func(m []byte) { unix.Munmap(m) }, mapped)
	return c, nil
}

// checkCatalogue reads a file of that size and tells whether it is a whole catalogue.
func checkCatalogue(r io.Reader, size int64) error {
	var header [catalogueHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	count := binary.BigEndian.Uint64(header[16:])
	if string(header[:8]) != catalogueMagic || count > maxRows || size != int64(catalogueHeader+count*rowSize) {
		return fmt.Errorf("%w: its header is wrong", errCorrupt)
	}
	sum := crc32.New(castagnoli)
	sum.Write(header[16:])
	n, err := io.Copy(sum, io.LimitReader(r, int64(count*rowSize)))
	if err != nil {
		return err
	}
	if n != int64(count*rowSize) || sum.Sum32() != binary.BigEndian.Uint32(header[12:]) {
		return fmt.Errorf("%w: its checksum is wrong", errCorrupt)
	}
	return nil
}

// writeCatalogue makes the file of a catalogue out of sorted rows.
func writeCatalogue(dir string, id contentID, list [][rowSize]byte) error {
	return writeFile(filepath.Join(dir, id.fileName()), func(w io.Writer) error {
		return encodeCatalogue(w, list)
	})
}

func encodeCatalogue(w io.Writer, list [][rowSize]byte) error {
	var header [catalogueHeader]byte
	copy(header[:], catalogueMagic)
	binary.BigEndian.PutUint64(header[16:], uint64(len(list)))
	sum := crc32.New(castagnoli)
	sum.Write(header[16:])
	writeColumns(sum, list)
	binary.BigEndian.PutUint32(header[12:], sum.Sum32())
	if _, err := w.Write(header[:]); err != nil {
		return err
	}
	return writeColumns(w, list)
}

// writeColumns writes all keys, then all values.
func writeColumns(w io.Writer, list [][rowSize]byte) error {
	for i := range list {
		if _, err := w.Write(list[i][:keySize]); err != nil {
			return err
		}
	}
	for i := range list {
		if _, err := w.Write(list[i][keySize:]); err != nil {
			return err
		}
	}
	return nil
}

// writeFile replaces a file as a whole, or leaves it as it was. The bytes are on the disk before the
// name is: a full or failing disk shows here, not when a mapped page is read.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once the file has its name
	defer f.Close()
	w := bufio.NewWriterSize(f, 64<<10)
	if err := write(w); err != nil {
		return err
	}
	if err := errors.Join(w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// find looks a path's key up. A page that cannot be read is no match.
func (c *catalogue) find(key uint64) (size int64, digest Digest, ok bool) {
	if c.broken.Load() {
		return 0, Digest{}, false
	}
	defer c.guard(debug.SetPanicOnFault(true))
	return c.table.find(key)
}

// each yields the hashes of all rows, and gives the pages back. It is false where yield was.
func (c *catalogue) each(yield func(Digest) bool) (more bool) {
	more = true // also where a page cannot be read
	defer c.guard(debug.SetPanicOnFault(true))
	defer unix.Madvise(c.mapped, unix.MADV_DONTNEED)
	for i := range c.table.len() {
		if _, digest := c.table.at(i); !yield(digest) {
			return false
		}
	}
	return more
}

// guard is deferred around what reads the mapping, and so keeps that in place meanwhile. The kernel answers a
// read of a page that the disk cannot deliver with SIGBUS, which would end the process; here it only ends the
// catalogue.
func (c *catalogue) guard(old bool) {
	debug.SetPanicOnFault(old)
	switch fault := recover().(type) {
	case nil:
	case interface{ Addr() uintptr }:
		c.broken.Store(true)
	default:
		panic(fault)
	}
}
