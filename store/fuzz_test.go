// SPDX-License-Identifier: GPL-2.0-or-later

package store

import (
	"crypto/sha256"
	"os"
	"testing"
)

// FuzzRows gives the decoders what a damaged database might: whatever it is, it must either be
// refused or mean the same after it was written again.
func FuzzRows(f *testing.F) {
	f.Add([]byte(`{"d":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","m":5}`), byte(metaRoot))
	f.Add([]byte(`{"d":"AA==","m":-5}`), byte(0))
	f.Add([]byte("0123456789abc\x00\x00\x00\x00\x00\x00\x00\x01"), byte(3))
	f.Fuzz(func(t *testing.T, value []byte, meta byte) {
		if rec, ok := decodeURL(row{value: value, meta: meta}); ok {
			again, ok := decodeURL(encodeURL("u", rec))
			if !ok || again != rec {
				t.Errorf("record %+v became %+v, %v", rec, again, ok)
			}
		}
		var e, again entry
		if e.decodeTimes(value) {
			if !again.decodeTimes(encodeTimes(Digest{}, e).value) || again != e {
				t.Errorf("entry %+v became %+v", e, again)
			}
		}
	})
}

// FuzzResume resumes from any file: what is committed is right, whatever lay there.
func FuzzResume(f *testing.F) {
	f.Add([]byte("hello, world"), []byte("hello"), int8(0))
	f.Add([]byte("hello"), []byte("hello, world"), int8(0))
	f.Add([]byte("hello"), []byte("jello"), int8(-1))
	s := open(f, Config{})
	f.Fuzz(func(t *testing.T, content, there []byte, size int8) {
		d := Digest(sha256.Sum256(content))
		if err := os.WriteFile(s.partialPath(d), there, 0o644); err != nil {
			t.Fatal(err)
		}
		want := int64(len(content))
		if size < 0 {
			want = -1
		}
		g := create(t, s, d, want)
		if n := g.Len(); n > int64(len(there)) || want >= 0 && n > want {
			t.Fatalf("resumed at %d of %d bytes, %d there", n, want, len(there))
		}
		if g.Len() <= int64(len(content)) {
			write(t, g, content[g.Len():])
		}
		prefix := len(there) <= len(content) && string(content[:len(there)]) == string(there)
		_, err := g.Commit(Meta{})
		if right := prefix || want >= 0 && len(there) > len(content); (err == nil) != right {
			t.Errorf("Commit = %v, the file was %q of %q", err, there, content)
		}
		if err == nil {
			wantBlob(t, s, d)
			s.remove(d)
		}
		wantNoBlob(t, s, d)
	})
}
