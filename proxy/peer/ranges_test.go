// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"testing"

	"apt-dht/proxy/fetch"
)

// FuzzRanges: what is read of Range and Content-Range is a range, and is read
// again as it is written.
func FuzzRanges(f *testing.F) {
	f.Add("bytes=0-")
	f.Add("bytes=1048576-2097151")
	f.Add("bytes 5-9/10")
	f.Add("bytes 5-9/*")
	f.Add("bytes=9-5,-3")
	f.Fuzz(func(t *testing.T, field string) {
		if from, to, err := ParseRange(field); err == nil && field != "" {
			if from < 0 || to >= 0 && to <= from {
				t.Errorf("%q is from %d to %d", field, from, to)
			}
			if from2, to2, err := ParseRange(formatRange(from, to)); from2 != from || to2 != to || err != nil {
				t.Errorf("%q is %d, %d, %v when read again", field, from2, to2, err)
			}
		}
		if first, size, ok := fetch.ParseContentRange(field); ok && (first < 0 || size >= 0 && first >= size) {
			t.Errorf("%q begins at %d of %d", field, first, size)
		}
	})
}
