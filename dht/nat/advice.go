// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// tell publishes the mapping.
func (s *session) tell(held *mapping) {
	external := netip.AddrPortFrom(held.external, held.port)
	s.m.tell(external, fmt.Sprintf("the router at %s forwards TCP and UDP of %s to port %d of this machine (%s), by %s",
		s.route.gateway, external, s.m.cfg.Port, s.route.local, held.gateway))
}

// advice says what err means for the operator, and what can be done.
func (s *session) advice(err error) string {
	router := fmt.Sprintf("the router at %s", s.route.gateway)
	byHand := fmt.Sprintf("forward TCP and UDP port %d to this machine (%s) by hand", s.m.cfg.Port, s.route.local)
	if useless, ok := errors.AsType[*uselessError](err); ok {
		return router + useless.advice()
	}
	if isSilent(err) {
		return fmt.Sprintf("%s does not answer NAT-PMP or UPnP: %s, or switch one of them on in the router", router, byHand)
	}
	return fmt.Sprintf("%s opens no port (%s): %s, or allow this machine to map ports in the router's settings",
		router, strings.ReplaceAll(err.Error(), "\n", "; "), byHand)
}

func (e *uselessError) advice() string {
	switch {
	case !e.addr.IsValid() || e.addr.IsUnspecified():
		return " says that it has no public address: either its line is down, or it is behind its provider's NAT or a second router"
	case shared.Contains(e.addr):
		return fmt.Sprintf(" has no public address itself but %s, which is its provider's NAT: nobody can connect to this machine from outside, unless the provider gives you a public address", e.addr)
	}
	return fmt.Sprintf(" has no public address itself but %s, so there is a second router before it: let that one forward to the first, or make one of them a mere bridge", e.addr)
}

// isSilent reports whether no protocol was answered at all.
func isSilent(err error) bool {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, err := range all {
		if !errors.Is(err, errSilent) {
			return false
		}
	}
	return true
}

// maxTold is how much of what a router says people are told, in bytes.
const maxTold = 120

// printable shortens a text from the network and takes from it what is not
// plain ASCII.
func printable(text string) string {
	plain := func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}
	return strings.Map(plain, text[:min(len(text), maxTold)])
}
