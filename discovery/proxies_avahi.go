// SPDX-License-Identifier: GPL-2.0-or-later

package discovery

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

const (
	browserIface = avahiName + ".ServiceBrowser"

	// maxResolves bounds the services that Avahi is asked to resolve.
	maxResolves = 64
)

// askAvahi finds proxies through the avahi-daemon, until ctx ends. It may know
// them already, and it hears answers that a firewall keeps from our query.
func (l *Links) askAvahi(ctx context.Context, s *search) error {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connect to the system bus: %w", err)
	}
	defer conn.Close()
	a := &avahi{conn: conn}
	if !a.runs(ctx) {
		return fmt.Errorf("no %s on the system bus", avahiName)
	}
	// Avahi tells of what it knows even before it has answered ServiceBrowserNew.
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(avahiName),
		dbus.WithMatchInterface(browserIface), dbus.WithMatchMember("ItemNew"))
	if err != nil {
		return fmt.Errorf("listen to Avahi: %w", err)
	}
	items := make(chan *dbus.Signal, maxResolves)
	conn.Signal(items)
	err = a.call(ctx, avahiName, "/", avahiName+".Server.ServiceBrowserNew",
		[]any{int32(-1), avahiAnyProtocol, proxyService, strings.TrimSuffix(domain, "."), uint32(0)}, new(dbus.ObjectPath))
	if err != nil {
		return err
	}
	var resolving sync.WaitGroup
	defer resolving.Wait()
	for range maxResolves {
		select {
		case <-ctx.Done():
			return nil
		case item, open := <-items:
			if !open {
				return nil
			}
			resolving.Go(func() { l.resolve(ctx, a, item, s) })
		}
	}
	return nil
}

// avahiService names a service, as ItemNew's body and ResolveService's
// arguments do.
type avahiService struct {
	index, protocol      int32
	name, kind, inDomain string
	flags                uint32
}

// resolve asks Avahi where a service is.
func (l *Links) resolve(ctx context.Context, a *avahi, item *dbus.Signal, s *search) {
	var v avahiService
	if err := dbus.Store(item.Body, &v.index, &v.protocol, &v.name, &v.kind, &v.inDomain, &v.flags); err != nil {
		return
	}
	i := slices.IndexFunc(l.nics, func(n nic) bool { return n.Index == int(v.index) })
	if i < 0 {
		return
	}
	var host, address string
	var aprotocol int32
	var port uint16
	var txt [][]byte
	err := a.call(ctx, avahiName, "/", avahiName+".Server.ResolveService",
		[]any{v.index, v.protocol, v.name, v.kind, v.inDomain, avahiAnyProtocol, uint32(0)},
		&v.index, &v.protocol, &v.name, &v.kind, &v.inDomain, &host, &aprotocol, &address, &port, &txt, &v.flags)
	if err != nil {
		l.log.Debug("Avahi does not resolve a proxy", "name", v.name, "error", err)
		return
	}
	if addr, err := netip.ParseAddr(address); err == nil {
		s.add(l.nics[i], addr.WithZone(""), addr.WithZone("").Unmap(), port)
	}
}
