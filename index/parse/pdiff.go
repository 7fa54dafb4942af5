// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import "io"

// ReadPdiffIndex reads the Index of a *.diff directory and emits the patches as
// they are downloaded ("2025-05-10-0800.00.gz"), relative to that directory:
// the sections SHA256-Download and, where the archive merges patches,
// X-Unmerged-SHA256-Download. An Index without them (old archive software)
// yields nothing: its other sections hash the patches unpacked, and apt never
// downloads those.
func ReadPdiffIndex(r io.Reader, emit Emit) (Summary, error) {
	d, out := newDeb822(r), sink{emit: emit}
	inSums := false
	for {
		tok, err := d.next()
		if err == io.EOF {
			return out.Summary, nil
		}
		if err != nil {
			return out.Summary, err
		}
		switch tok {
		case tokenField:
			inSums = d.is("SHA256-Download") || d.is("X-Unmerged-SHA256-Download")
		case tokenMalformed:
			out.Skipped++
		case tokenMore:
			if !inSums {
				continue
			}
			if err := addSum(d, &out); err != nil {
				return out.Summary, err
			}
		}
	}
}

// addSum emits the checksum line that d has read.
func addSum(d *deb822, out *sink) error {
	if err := d.whole(); err != nil {
		return err
	}
	var digest Digest
	path, size, ok := parseSum(d.value, digest[:])
	if !ok {
		out.Skipped++
		return nil
	}
	return out.add(path, size, &digest)
}
