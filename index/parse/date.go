// SPDX-License-Identifier: GPL-2.0-or-later

package parse

import (
	"strings"
	"time"
)

// dateLayouts are the forms that apt reads (RFC 9110, section 5.6.7) and those
// that date(1) gives to makers of small archives, the zone apart.
var dateLayouts = []string{
	"Mon, _2 Jan 2006 15:04:05", // dak, reprepro, apt-ftparchive: RFC 5322
	"_2 Jan 2006 15:04:05",      // the same without the optional weekday
	"Monday, 02-Jan-06 15:04:05",
	"Mon Jan _2 15:04:05 2006", // date(1), asctime
	"2006-01-02 15:04:05",
}

// parseDate reads a date of a Release, which is in UTC unless it has a numeric
// offset. Zero: it cannot be read. So it is with a zone's name other than
// UTC's, which does not tell the offset.
func parseDate(s string) time.Time {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC()
	}
	s, offset := cutZone(s)
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout+" -0700", s+" "+offset); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// cutZone separates a date's zone, wherever it stands, from the rest, whose
// words it joins by single spaces.
func cutZone(s string) (rest, offset string) {
	offset = "+0000"
	var words []string
	for _, w := range strings.Fields(s) {
		switch {
		case w == "UTC" || w == "GMT" || w == "Z" || w == "(UTC)":
		case len(w) == len(offset) && (w[0] == '+' || w[0] == '-'):
			offset = w
		default:
			words = append(words, w)
		}
	}
	return strings.Join(words, " "), offset
}
