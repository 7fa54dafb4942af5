// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"fmt"
	"net/netip"
	"strings"
)

// quoted are the characters that apt's URItoFileName writes as %xx, beside blanks, control
// characters and all that is not ASCII (apt-pkg/contrib/strutl.cc).
const quoted = "\\|{}[]<>\"^~_=!@#$%&*"

// ListsName tells the URL, without its scheme, of a file in apt's lists directory:
// "deb.debian.org_debian_dists_bookworm_InRelease" is
// "deb.debian.org/debian/dists/bookworm/InRelease". It is the URL as the sources spell it, hence
// possibly percent-encoded and with "./" in flat repositories. The ending is that of the stored file (".lz4" or
// none), not of what was downloaded.
//
// It is false for names that no host's file can have: "lock", "partial", lists of "file:" sources
// and of mirror lists on this machine. The port behind an IPv6 address cannot be told apart from it.
func ListsName(file string) (name string, ok bool) {
	name = unquote(strings.ReplaceAll(file, "_", "/"))
	host, path, _ := strings.Cut(name, "/")
	if host == "" || path == "" {
		return "", false
	}
	if strings.Count(host, ":") > 1 {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", false
		}
		name = "[" + host + "]/" + path
	}
	if ListsFile(name) != file {
		return "", false // apt would not have written it so
	}
	return name, true
}

// ListsFile is the way back: the name of the file in which apt keeps the list of that URL. Only for a
// list that is stored as downloaded is it the name on disk: apt changes the ending of decompressed ones.
func ListsFile(name string) string {
	host, path, found := strings.Cut(name, "/")
	if strings.HasPrefix(host, "[") {
		host = strings.NewReplacer("[", "", "]", "").Replace(host) // apt leaves them out
	}
	if found {
		host += "/" + path
	}
	var b strings.Builder
	for i := range len(host) {
		switch c := host[i]; {
		case c == '/':
			b.WriteByte('_')
		case c <= ' ' || c >= 0x7f || strings.IndexByte(quoted, c) >= 0:
			fmt.Fprintf(&b, "%%%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
