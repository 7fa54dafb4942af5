// SPDX-License-Identifier: GPL-2.0-or-later

package nat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/huin/goupnp/soap"
)

// Error codes of UPnP (WANIPConnection:2 §2.5).
const (
	upnpInvalidArgs    = 402
	upnpNoSuchEntry    = 714
	upnpConflict       = 718
	upnpOnlyPermanent  = 725
	upnpOtherMechanism = 729 // the port is taken, but not by UPnP
)

// upnpError is a router's refusal.
type upnpError struct {
	code int
	text string // the router's, printable
}

func (e *upnpError) Error() string { return fmt.Sprintf("the router refuses: %d %s", e.code, e.text) }

// isUPnP reports whether err is a refusal with one of the codes.
func isUPnP(err error, codes ...int) bool {
	refusal, ok := errors.AsType[*upnpError](err)
	return ok && slices.Contains(codes, refusal.code)
}

// igd speaks UPnP with the router's Internet Gateway Device, version 1 or 2.
type igd struct {
	ssdp    ssdp
	client  *http.Client
	local   netip.Addr
	port    uint16 // internal
	lease   time.Duration
	service service
	// permanent is set when the router refuses leases that end.
	permanent bool
	// made holds the entries that the router may have made for us.
	made map[entryArgs]bool
}

func newIGD(r route, port uint16, lease time.Duration) *igd {
	return &igd{
		ssdp: ssdp{
			router: r.gateway, local: r.local, nic: r.nic,
			to: []netip.AddrPort{netip.AddrPortFrom(r.gateway, ssdpPort), ssdpGroup},
		},
		client: newClient(r.local, r.gateway),
		local:  r.local,
		port:   port,
		lease:  lease,
		made:   make(map[entryArgs]bool),
	}
}

func (g *igd) String() string { return "UPnP" }

func (g *igd) external(ctx context.Context) (netip.Addr, error) {
	if g.service != (service{}) {
		return g.address(ctx, g.service)
	}
	locations, err := g.ssdp.search(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	var addr netip.Addr
	for _, location := range locations {
		if addr, err = g.choose(ctx, location); err == nil {
			return addr, nil
		}
	}
	return addr, err
}

// choose takes the first service with a public address, or else the first with
// any, of the description at location.
func (g *igd) choose(ctx context.Context, location *url.URL) (netip.Addr, error) {
	services, err := describe(ctx, g.client, location, g.ssdp.router)
	if err != nil {
		return netip.Addr{}, err
	}
	var chosen netip.Addr
	for _, s := range services {
		addr, failure := g.address(ctx, s)
		if failure != nil {
			err = failure
			continue
		}
		if !chosen.IsValid() || isPublic(addr) {
			chosen, g.service = addr, s
		}
		if isPublic(addr) {
			break
		}
	}
	if chosen.IsValid() {
		return chosen, nil
	}
	return chosen, err
}

func (g *igd) address(ctx context.Context, s service) (netip.Addr, error) {
	var out struct{ NewExternalIPAddress string }
	if err := g.call(ctx, s, "GetExternalIPAddress", nil, &out); err != nil {
		return netip.Addr{}, err
	}
	if out.NewExternalIPAddress == "" { // while the line is down
		return netip.IPv4Unspecified(), nil
	}
	addr, err := netip.ParseAddr(out.NewExternalIPAddress)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the router says that its address is %q", printable(out.NewExternalIPAddress))
	}
	return addr, nil
}

// Arguments of the actions, in the order that the standard gives and some
// routers demand (WANIPConnection:1 §2.4).
type (
	entryArgs struct {
		NewRemoteHost   string // "": any
		NewExternalPort string
		NewProtocol     string
	}
	addArgs struct {
		NewRemoteHost             string
		NewExternalPort           string
		NewProtocol               string
		NewInternalPort           string
		NewInternalClient         string
		NewEnabled                string
		NewPortMappingDescription string
		NewLeaseDuration          string // seconds; 0: for ever
	}
)

func entry(t transport, port uint16) *entryArgs {
	return &entryArgs{NewExternalPort: decimal(port), NewProtocol: string(t)}
}

func decimal(port uint16) string { return strconv.Itoa(int(port)) }

func (g *igd) add(ctx context.Context, t transport, port uint16) (uint16, time.Duration, error) {
	err := g.addOnce(ctx, t, port)
	if isUPnP(err, upnpOnlyPermanent, upnpInvalidArgs) && !g.permanent {
		g.permanent = true
		err = g.addOnce(ctx, t, port)
	}
	// Some routers do not let even the owner replace an entry.
	if isUPnP(err, upnpConflict) && g.owner(ctx, t, port) == ours {
		if err = g.delete(ctx, t, port); err == nil {
			err = g.addOnce(ctx, t, port)
		}
	}
	if isUPnP(err, upnpConflict, upnpOtherMechanism) {
		err = fmt.Errorf("%w: %w", errConflict, err)
	}
	return port, g.lease, err
}

func (g *igd) addOnce(ctx context.Context, t transport, port uint16) error {
	lease := g.lease
	if g.permanent {
		lease = 0
	}
	err := g.call(ctx, g.service, "AddPortMapping", &addArgs{
		NewExternalPort:           decimal(port),
		NewProtocol:               string(t),
		NewInternalPort:           decimal(g.port),
		NewInternalClient:         g.local.String(),
		NewEnabled:                "1",
		NewPortMappingDescription: "apt-dht",
		NewLeaseDuration:          strconv.Itoa(int(lease / time.Second)),
	}, nil)
	if _, refused := errors.AsType[*upnpError](err); !refused {
		g.made[*entry(t, port)] = true
	}
	return err
}

func (g *igd) lost(ctx context.Context, port uint16) (bool, error) {
	for _, t := range []transport{tcp, udp} {
		owner := g.owner(ctx, t, port)
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if owner == nobody || owner == theirs {
			return true, nil
		}
	}
	return false, nil
}

// remove deletes the entry unless it is another machine's, which may have got
// the port before us or after a restart of the router.
func (g *igd) remove(ctx context.Context, t transport, port uint16) error {
	owner := g.owner(ctx, t, port)
	if owner == ours || owner == unknown && g.made[*entry(t, port)] {
		return g.delete(ctx, t, port)
	}
	return nil
}

func (g *igd) delete(ctx context.Context, t transport, port uint16) error {
	return g.call(ctx, g.service, "DeletePortMapping", entry(t, port), nil)
}

// owner says to whom the router forwards a port.
type owner int

const (
	unknown owner = iota // the router does not tell
	nobody
	ours
	theirs
)

func (g *igd) owner(ctx context.Context, t transport, port uint16) owner {
	var out struct{ NewInternalClient, NewInternalPort string }
	err := g.call(ctx, g.service, "GetSpecificPortMappingEntry", entry(t, port), &out)
	switch {
	case isUPnP(err, upnpNoSuchEntry):
		return nobody
	case err != nil:
		return unknown
	case out.NewInternalClient == g.local.String() && out.NewInternalPort == decimal(g.port):
		return ours
	}
	return theirs
}

// call performs an action (UPnP Device Architecture 1.1 §3.2). in and out point
// to structs of strings, or are nil.
func (g *igd) call(ctx context.Context, s service, action string, in, out any) error {
	client := soap.SOAPClient{EndpointURL: s.control, HTTPClient: *g.client}
	err := client.PerformActionCtx(ctx, s.kind, action, in, out)
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	if fault, ok := errors.AsType[*soap.SOAPFaultError](err); ok {
		detail := fault.Detail.UPnPError
		return &upnpError{detail.Errorcode, printable(detail.ErrorDescription)}
	}
	return fmt.Errorf("%s: %s", action, printable(err.Error()))
}
