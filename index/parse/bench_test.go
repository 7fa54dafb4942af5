// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"
)

// benchStanzas is a fifth of what bookworm main amd64 has, of the same size each.
const benchStanzas = 12_000

// packagesText makes stanzas in the manner of Debian's, always the same.
func packagesText(n int) []byte {
	words := []string{"library", "the", "daemon", "shared", "for", "development", "python3", "network", "of", "data"}
	var out bytes.Buffer
	for i := range n {
		sum := sha256.Sum256(fmt.Append(nil, i))
		fmt.Fprintf(&out, "Package: package-%d\nVersion: %d.%d-1\nInstalled-Size: %d\nMaintainer: Debian Team <team-%d@lists.debian.org>\nArchitecture: amd64\n",
			i, sum[0], sum[1], i, sum[2])
		fmt.Fprintf(&out, "Depends: libc6 (>= 2.%d), libpackage-%d (= %d.%d-1)\nDescription:", sum[3]&31, i, sum[0], sum[1])
		for _, c := range sum[:24] {
			fmt.Fprintf(&out, " %s", words[int(c)%len(words)])
		}
		fmt.Fprintf(&out, "\nHomepage: https://example.org/package-%d\nDescription-md5: %x\nTag: implemented-in::c, role::program,\n scope::utility\n", i, sum[:16])
		fmt.Fprintf(&out, "Section: misc\nPriority: optional\nFilename: pool/main/p/package-%d/package-%d_%d.%d-1_amd64.deb\nSize: %d\nMD5sum: %x\nSHA256: %x\n\n",
			i, i, sum[0], sum[1], int(sum[4])<<12|int(sum[5]), sum[16:], sum)
	}
	return out.Bytes()
}

func BenchmarkReadPackages(b *testing.B) {
	plain := packagesText(benchStanzas)
	for _, ext := range []string{"", ".xz", ".gz", ".zst", ".lz4"} {
		packed := plain
		if ext != "" {
			packed = pack(ext, plain)
		}
		b.Run("plain"+ext, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				readPackages(b, "Packages"+ext, packed)
			}
		})
	}
}

func readPackages(b *testing.B, name string, packed []byte) {
	r, err := Decompress(name, bytes.NewReader(packed))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	sum, err := ReadPackages(r, func([]byte, int64, Digest) error { return nil })
	if err != nil || sum != (Summary{Entries: benchStanzas}) {
		b.Fatalf("got %+v, %v", sum, err)
	}
}

func BenchmarkReadRelease(b *testing.B) {
	var text bytes.Buffer
	text.WriteString("Suite: stable\n")
	for _, section := range []string{"MD5Sum", "SHA256"} {
		fmt.Fprintf(&text, "%s:\n", section)
		for i := range 700 {
			sum := sha256.Sum256(fmt.Append(nil, section, i))
			fmt.Fprintf(&text, " %x %8d main/binary-amd64/file-%d.xz\n", sum[:sections[string(bytes.ToLower([]byte(section)))].size], i, i)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		rel, err := ReadRelease(bytes.NewReader(text.Bytes()))
		if err != nil || len(rel.Files) != 700 {
			b.Fatal(rel, err)
		}
	}
}
