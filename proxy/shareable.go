// SPDX-License-Identifier: GPL-2.0-or-later

package proxy

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"apt-dht/index"
)

const (
	// resolveTime bounds the looking up of a repository's name.
	resolveTime = 2 * time.Second

	// A verdict about a host holds for publicFor where it is public, and for
	// unknownFor where it is not. Where the host cannot be resolved, because the
	// network is down, what was known before holds for unknownFor more.
	publicFor  = 10 * time.Minute
	unknownFor = 30 * time.Second

	// closedFor is how long nothing of a repository is looked for that has called
	// one of its files personal.
	closedFor = 24 * time.Hour

	// maxVerdicts bounds the hosts that are remembered, and the repositories.
	maxVerdicts = 1024
)

// Origins says of which repositories files may be looked for on the internet and
// given to it: those at public addresses. What is behind a name that this node
// cannot resolve might be anywhere.
type Origins struct {
	// Public tells whether an address is that of a public repository. Required.
	Public func(netip.Addr) bool
	// AnyName takes every host that has a name for public: in a DHT of one's own,
	// where it does not matter to which address it leads.
	AnyName bool
	// Exclude are repositories that never are, by host or host and path as the
	// index names them.
	Exclude []string
	// Resolve returns the addresses of a host. Nil: the system's resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)

	mu       sync.Mutex // guards following
	verdicts map[string]*verdict
	closed   map[string]time.Time // until when, by base
}

// A verdict is whether a host is public. Whoever has made it looks that up, and
// closes known; until then until is the only field that is valid.
type verdict struct {
	known     chan struct{}
	public    bool // until known is closed: as it was before
	abandoned bool // whoever looked it up was called off
	until     time.Time
}

// Excluded tells whether the operator has excluded what a URL, or a name of the
// index, is part of. A repository without a port is excluded at all of them. What
// came from nobody knows where may be part of any that is.
func (o *Origins) Excluded(what string) bool {
	if len(o.Exclude) == 0 || what == "" {
		return len(o.Exclude) > 0
	}
	if strings.Contains(what, "://") {
		name, err := index.NameOf(what)
		if err != nil {
			return true // whatever it is, it cannot be told apart
		}
		what = name
	}
	host, file := splitName(what)
	return slices.ContainsFunc(o.Exclude, func(repository string) bool {
		excluded, dir := splitName(repository)
		port, ok := strings.CutPrefix(host, excluded)
		if !ok || port != "" && port[0] != ':' {
			return false
		}
		below, ok := strings.CutPrefix(file, dir)
		return ok && (dir == "/" || below == "" || below[0] == '/')
	})
}

// splitName returns host and path of a name, the latter without empty segments.
func splitName(name string) (host, file string) {
	host, file, _ = strings.Cut(name, "/")
	return host, path.Clean("/" + file)
}

// close takes note of a repository that has called a file personal (RFC 9111's
// private and no-store).
func (o *Origins) close(base string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed == nil || len(o.closed) >= maxVerdicts {
		o.closed = make(map[string]time.Time)
	}
	o.closed[base] = time.Now().Add(closedFor)
}

func (o *Origins) isClosed(base string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Now().Before(o.closed[base])
}

// shares tells whether a URL of the repository at base, which the index calls name, is
// of a public one; nil where that needs no looking up because it is not. What shows who
// is asking never is.
func (o *Origins) shares(raw, name, base string) func(context.Context) bool {
	u, err := url.Parse(raw)
	if err != nil || u.User != nil || u.RawQuery != "" || u.ForceQuery || o.Excluded(name) || o.isClosed(base) {
		return nil
	}
	host := strings.ToLower(u.Hostname())
	if ip, err := netip.ParseAddr(host); err == nil {
		if !o.Public(ip.Unmap()) {
			return nil
		}
		return func(context.Context) bool { return true }
	}
	return func(ctx context.Context) bool { return o.AnyName || o.isPublic(ctx, host) }
}

// isPublic tells whether all addresses of a host are public.
func (o *Origins) isPublic(ctx context.Context, host string) bool {
	for {
		v, mine := o.verdict(host)
		if mine {
			o.lookUp(ctx, host, v)
		}
		select {
		case <-v.known:
			if v.abandoned && ctx.Err() == nil {
				continue
			}
			return v.public
		case <-ctx.Done():
			return false
		}
	}
}

// verdict returns the verdict about a host. mine: there was none that holds, and
// the caller is to look it up.
func (o *Origins) verdict(host string) (v *verdict, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	old := o.verdicts[host]
	if old != nil && now.Before(old.until) {
		return old, false
	}
	if o.verdicts == nil || len(o.verdicts) >= maxVerdicts {
		o.verdicts = make(map[string]*verdict)
	}
	v = &verdict{known: make(chan struct{}), public: old != nil && old.public, until: now.Add(publicFor)}
	o.verdicts[host] = v
	return v, true
}

func (o *Origins) lookUp(ctx context.Context, host string, v *verdict) {
	defer close(v.known)
	inTime, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	addrs, err := o.resolve(inTime, host)
	o.mu.Lock()
	defer o.mu.Unlock()
	v.abandoned = ctx.Err() != nil
	if err == nil {
		v.public = len(addrs) > 0 && !slices.ContainsFunc(addrs, func(ip netip.Addr) bool { return !o.Public(ip.Unmap()) })
	}
	switch {
	case v.abandoned:
		v.until = time.Time{}
	case err != nil || !v.public:
		v.until = time.Now().Add(unknownFor)
	}
}

func (o *Origins) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if o.Resolve != nil {
		return o.Resolve(ctx, host)
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
