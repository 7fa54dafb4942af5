// SPDX-License-Identifier: GPL-2.0-or-later

package peer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrRange: a Range field is not of the form that nodes use.
var ErrRange = errors.New("not one range of bytes with a beginning")

// ParseRange reads what nodes ask for, bytes=FROM- and bytes=FROM-LAST; to is one
// beyond the last byte, -1 for the end. No field is all. The error is ErrRange.
func ParseRange(field string) (from, to int64, err error) {
	if field == "" {
		return 0, -1, nil
	}
	bounds, ok := strings.CutPrefix(field, "bytes=")
	first, last, dash := strings.Cut(bounds, "-")
	if !ok || !dash {
		return 0, -1, ErrRange
	}
	start, err := strconv.ParseUint(first, 10, 50)
	if err != nil {
		return 0, -1, ErrRange
	}
	if last == "" {
		return int64(start), -1, nil
	}
	end, err := strconv.ParseUint(last, 10, 50)
	if err != nil || end < start {
		return 0, -1, ErrRange
	}
	return int64(start), int64(end) + 1, nil
}

func formatRange(from, to int64) string {
	if to < 0 {
		return fmt.Sprintf("bytes=%d-", from)
	}
	return fmt.Sprintf("bytes=%d-%d", from, to-1)
}
