// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"apt-dht/discovery"
	"apt-dht/proxy"
)

// settling is how long a node that has just started may be without others.
const settling = time.Minute

// checkNode asks the node how it is. The checks that need its answer wait for it.
func (d *doctor) checkNode(ctx context.Context) []finding {
	defer close(d.asked)
	const what = "node"
	addr := d.cfg.Listen[0]
	_, port, _ := net.SplitHostPort(addr)
	body, err := askNode(ctx, addr, "/~/v1/status", nil)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return one(fail, what, fmt.Sprintf("nothing listens at %s", addr),
			"start it: sudo systemctl enable --now apt-dht, or apt-dht serve; if it listens elsewhere, say so with --listen")
	case err != nil:
		return one(fail, what, fmt.Sprintf("no answer from %s, port %s is %s: %v", addr, port, portOwners("/proc", "tcp", port), err),
			"free the port, or have the node listen on another with --listen")
	}
	var s proxy.Status
	if err := json.Unmarshal(body, &s); err != nil || s.NodeID == "" {
		return one(fail, what, fmt.Sprintf("what listens at %s is no apt-dht: port %s is %s", addr, port, portOwners("/proc", "tcp", port)),
			"free the port, or have the node listen on another with --listen")
	}
	d.node = &s
	found := fmt.Sprintf("version %s answers at %s, up %s", s.Version, addr, time.Duration(s.UptimeS)*time.Second)
	if own := versionString(); s.Version != own {
		return one(warn, what, found+", while this program is "+own, "restart it: sudo systemctl restart apt-dht")
	}
	return one(good, what, found, "")
}

// checkListen judges who can reach the node, and who may.
func (d *doctor) checkListen(context.Context) []finding {
	local := true
	for _, addr := range d.cfg.Listen {
		local = local && isLoopbackListen(addr)
	}
	served := len(d.settings.Allow) > 0
	at := strings.Join(d.cfg.Listen, ", ")
	listens := finding{good, "listening", at + ", for this machine and others", ""}
	switch {
	case local && served:
		listens = finding{fail, "listening", at + " is this machine alone, though --allow names others", "use --listen :9977"}
	case local && (d.cfg.LAN.MDNS || len(d.cfg.LAN.Peers) > 0):
		listens = finding{warn, "listening", at + " is this machine alone: no part in the local network", "use --listen :9977, or turn that off with --mdns=false"}
	case local:
		listens.Found = at + ", this machine alone"
	}
	allowed := "this machine's apt alone (--allow names others)"
	if served {
		allowed = "apt at " + d.cfg.Clients.LogValue().String()
	}
	return []finding{listens, {good, "clients", allowed, ""}}
}

// isLoopbackListen tells whether only this machine reaches a listening address.
func isLoopbackListen(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// checkLAN tells who is there, or why nobody may be.
func (d *doctor) checkLAN(ctx context.Context) []finding {
	const what = "local network"
	wanted := d.cfg.LAN.MDNS || len(d.cfg.LAN.Peers) > 0
	answered := d.answered(ctx)
	switch {
	case !wanted && !(answered && d.node.LAN.Mode == proxy.ModeOn):
		return one(good, what, "no part in it, as configured (--mdns=false)", "")
	case !answered:
		return one(warn, what, "not known without a node", "")
	case d.node.LAN.Mode == proxy.ModeOff:
		return one(warn, what, "the node has no part in it", "was it started with --mdns=false, or with a --listen address of this machine alone?")
	}
	if peers := d.node.LAN.Peers; len(peers) > 0 {
		return lanPeers(what, d.node)
	}
	found, toDo := "no other node found", "if there is one: does a firewall let UDP 5353 and TCP 9977 in, does the network (guest Wi-Fi, "+
		"containers) keep machines apart, is it in another subnet? Then name it on both sides with --lan-peer HOST"
	if d.cfg.LAN.MDNS {
		found += d.links()
	}
	if age := time.Duration(d.node.UptimeS) * time.Second; age < settling {
		toDo = "the node has just started: look again in a minute"
	}
	return one(warn, what, found, toDo)
}

// links tells where multicast DNS runs.
func (d *doctor) links() string {
	links, err := discovery.LocalLinks(d.cfg.LAN.Interfaces, nil)
	switch {
	case err != nil:
		return fmt.Sprintf(", and this machine's networks cannot be read: %v", err)
	case links.String() == "":
		return ", and this machine has no network for multicast DNS: none with a private address (--mdns-interface)"
	}
	return ", looked for on " + links.String()
}

// lanPeers tells of the nodes that are there.
func lanPeers(what string, s *proxy.Status) []finding {
	var bad []string
	for _, p := range s.LAN.Peers {
		if trouble := troubleWith(&p); trouble != "" {
			bad = append(bad, p.Addr.String()+trouble)
		}
	}
	found := fmt.Sprintf("other nodes: %d", len(s.LAN.Peers))
	if len(bad) > 0 {
		return one(warn, what, found+"; "+strings.Join(bad, "; "), "look at those machines: does a firewall let TCP 9977 in?")
	}
	return one(good, what, found, "")
}
