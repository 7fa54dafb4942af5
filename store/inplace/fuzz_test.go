// SPDX-License-Identifier: GPL-2.0-or-later

package inplace

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"apt-dht/store"
)

func someRecord() (record, []byte) {
	r := record{path: "pool/main/h/hello.deb", stamp: stamp{2*store.PieceSize + 1, 1, 2, 3}, dev: 4, digest: Digest{5}}
	return r, bytes.Repeat([]byte{7}, 2*stateLen)
}

// seal makes magic and CRC right, so that what comes after them is tried as well.
func seal(b []byte) {
	if len(b) >= headLen && recordNeeds(b) <= len(b) {
		binary.BigEndian.PutUint32(b, recordMagic)
		binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:recordNeeds(b)], crcTable))
	}
}

// FuzzDecode: what decodes is a record that may be believed, and encodes to the same bytes.
func FuzzDecode(f *testing.F) {
	r, states := someRecord()
	f.Add(r.encode(nil, states))
	f.Add(r.encode(nil, states)[:headLen])
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		seal(data)
		r, err := decode(data)
		if err != nil {
			return
		}
		if !filepath.IsLocal(r.path) || len(r.path) > maxPath || r.stamp.size < 1 || r.stamp.size > maxSize {
			t.Fatalf("record %+v", r)
		}
		if r.length()%align != 0 || r.length() < int64(headLen+len(r.path)) {
			t.Fatalf("length %d", r.length())
		}
		if statesLen(r.stamp.size) > 1<<20 {
			return
		}
		sum := r.sum
		again := r.encode(nil, make([]byte, statesLen(r.stamp.size)))
		if int64(len(again)) != r.length() {
			t.Fatalf("encodes to %d bytes, length is %d", len(again), r.length())
		}
		binary.BigEndian.PutUint32(again[80:], sum)
		if n := headLen + len(r.path); !bytes.Equal(again[8:n], data[8:n]) {
			t.Fatal("encodes to other bytes")
		}
	})
}

// FuzzJournal: whatever the file, it can be opened and appended to, and then has one record more.
func FuzzJournal(f *testing.F) {
	r, states := someRecord()
	one := r.encode([]byte(journalHeader), states)
	f.Add(one)
	f.Add(append(one[:len(one):len(one)], one[16:]...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "files")
		check(t, os.WriteFile(path, data, 0o600))
		var first []place
		j, skipped, err := openJournal(path, func(r record, p place) {
			if !goodPath(r.path) {
				t.Errorf("path %q", r.path)
			}
			first = append(first, p)
		})
		check(t, err)
		if skipped < 0 || j.end > max(int64(len(data)), int64(len(journalHeader))) {
			t.Errorf("skipped %d, end %d of %d", skipped, j.end, len(data))
		}
		p, err := j.append(&r, states)
		check(t, err)
		got, err := j.read(p)
		check(t, err)
		back, err := j.states(p, &got)
		check(t, err)
		got.sum = 0
		if got != r || !bytes.Equal(back, states) {
			t.Errorf("read %+v", got)
		}
		check(t, j.f.Close())
		n := 0
		j, _, err = openJournal(path, func(r record, at place) {
			if n < len(first) && at != first[n] || n == len(first) && at != p {
				t.Errorf("record %d is at %d", n, at)
			}
			n++
		})
		check(t, err)
		check(t, j.f.Close())
		if n != len(first)+1 {
			t.Errorf("%d records, want %d", n, len(first)+1)
		}
	})
}

// FuzzEvents: whatever the kernel says, only paths beneath watched directories are noted.
func FuzzEvents(f *testing.F) {
	event := func(wd, mask uint32, name string) []byte {
		b := binary.NativeEndian.AppendUint32(nil, wd)
		b = binary.NativeEndian.AppendUint32(b, mask)
		b = binary.NativeEndian.AppendUint32(b, 0)
		b = binary.NativeEndian.AppendUint32(b, 16)
		return append(b, append([]byte(name), make([]byte, 16-len(name))...)...)
	}
	f.Add(event(1, unix.IN_CREATE, "file"))
	f.Add(append(event(2, unix.IN_CLOSE_WRITE, "a.deb"), event(1, unix.IN_IGNORED, "")...))
	f.Add(event(1, unix.IN_MOVED_FROM|unix.IN_ISDIR, "dir"))
	f.Add(event(0, unix.IN_Q_OVERFLOW, ""))
	f.Add(event(1, unix.IN_CREATE, ".hidden"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("/")) {
			return // the kernel's names have none
		}
		w := &watcher{box: newInbox(), dirs: map[int32]watched{1: {path: ""}, 2: {path: "pool/main"}}}
		w.events(data)
		if len(w.dirs) > 2 || len(w.box.fresh) > len(data)/unix.SizeofInotifyEvent {
			t.Fatal("more than was told")
		}
		for p := range w.box.fresh {
			if leftOut(filepath.Base(p)) || p == "" {
				t.Errorf("noted %q", p)
			}
		}
	})
}
