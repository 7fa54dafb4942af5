// SPDX-License-Identifier: GPL-2.0-or-later

package trust

import (
	"path/filepath"
	"strings"
)

// credential is a place for which a login is configured. The login itself is not kept.
type credential struct {
	host string // as of Trust.HasHost; without port it covers all of them
	path string // prefix, decoded; "" covers all
}

// HasCredentials tells whether a login is configured for a URL: in apt_auth.conf(5), or within the
// URI of a source. host is as for HasHost; path begins with a slash and is percent-decoded.
//
// It answers 'yes' where apt might not send the login, namely whatever the protocol is: what
// hangs on the answer is only that files are not shared. A file that we may not read (auth.conf
// has mode 0600) was warned about at Load, and its entries are missing here.
func (t *Trust) HasCredentials(host, path string) bool {
	host = strings.ToLower(host)
	for _, c := range t.credentials {
		if c.covers(host) && strings.HasPrefix(path, c.path) {
			return true
		}
	}
	return false
}

func (c credential) covers(host string) bool {
	port, ok := strings.CutPrefix(host, c.host)
	return ok && (port == "" || port[0] == ':')
}

func credentialsOf(sources []Source) []credential {
	var all []credential
	for _, s := range sources {
		if s.Credentials {
			all = append(all, credential{host: s.host, path: s.path})
		}
	}
	return all
}

// readAuth reads auth.conf and auth.conf.d/*.conf.
func readAuth(r reader, etc string) []credential {
	paths := append(r.list(filepath.Join(etc, "auth.conf.d"), ".conf"), filepath.Join(etc, "auth.conf"))
	var all []credential
	for _, path := range paths {
		if data, ok := r.read(path, maxConfigFile); ok {
			all = append(all, parseAuth(string(data))...)
		}
	}
	return all
}

// parseAuth finds the machine tokens of a netrc-like text.
func parseAuth(text string) []credential {
	var all []credential
	tokens := strings.Fields(text)
	for i := 0; i+1 < len(tokens); i++ {
		switch tokens[i] {
		case "machine":
			i++
			all = append(all, parseMachine(tokens[i]))
		case "login", "password":
			i++ // its value may be any word, "machine" too
		}
	}
	return all
}

// parseMachine reads '[protocol://]host[:port][/path]'.
func parseMachine(token string) credential {
	scheme, rest, found := strings.Cut(token, "://")
	if !found {
		scheme, rest = "https", token // apt's rule for an entry without protocol
	}
	host, path, found := strings.Cut(rest, "/")
	c := credential{host: normalHost(host, strings.TrimPrefix(strings.ToLower(scheme), "tor+"))}
	if found {
		c.path = unquote("/" + path)
	}
	return c
}
