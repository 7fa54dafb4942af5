// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"apt-dht/index"
)

// repositories are several, as a flag's value separated by commas.
type repositories []repository

// Decode reads a flag or what the configuration file has, as kong by itself does, but
// for an empty value: that names nothing, and whoever wrote it meant something.
func (r *repositories) Decode(ctx *kong.DecodeContext) error {
	token := ctx.Scan.Pop()
	text, isText := token.Value.(string)
	if !isText {
		body, err := json.Marshal(token.Value)
		if err != nil {
			return err
		}
		return json.Unmarshal(body, r)
	}
	if text == "" {
		return errNoRepository
	}
	for _, one := range kong.SplitEscaped(text, ctx.Value.Tag.Sep) {
		var named repository
		if err := named.UnmarshalText([]byte(one)); err != nil {
			return err
		}
		*r = append(*r, named)
	}
	return nil
}

// repository is a host, or what is below a path of it, as the index names it.
type repository struct{ name string }

var errNoRepository = errors.New("the name is empty: give HOST or HOST/PATH, as packages.example/internal")

// UnmarshalText reads HOST or HOST/PATH, with or without the scheme.
func (r *repository) UnmarshalText(text []byte) error {
	given := strings.TrimSpace(string(text))
	if given == "" {
		return errNoRepository
	}
	if kind := kindOfPattern(given); kind != "" {
		return fmt.Errorf("%q is a %s, which is not known here: give HOST or HOST/PATH", given, kind)
	}
	at := given
	if !strings.Contains(at, "://") {
		at = "http://" + at
	}
	name, err := index.NameOf(at)
	if err != nil || strings.ContainsAny(at, "?#@ \t\r\n") {
		return fmt.Errorf("%q is not a repository: give HOST or HOST/PATH, as packages.example/internal", given)
	}
	if err := checkPort(at); err != nil {
		return fmt.Errorf("%q: %w", given, err)
	}
	r.name = strings.TrimRight(name, "/")
	return nil
}

// kindOfPattern tells what would match several hosts or paths elsewhere, and here
// none; empty if it is nothing of that kind. A real asterisk is written %2a.
func kindOfPattern(text string) string {
	_, host, schemed := strings.Cut(text, "://")
	if !schemed {
		host = text
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case strings.Contains(text, "*"), strings.HasPrefix(host, "."):
		return "pattern"
	case err == nil && prefix == prefix.Masked():
		return "network"
	}
	return ""
}

// checkPort refuses a port that no URL can have.
func checkPort(at string) error {
	u, err := url.Parse(at)
	if err != nil || u.Port() == "" {
		return err
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%s is not a port: give one from 1 to 65535, or none for all of the host's", u.Port())
	}
	return nil
}
