// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"apt-dht/proxy"
)

// checkDHT tells how the node stands with the internet.
func (d *doctor) checkDHT(ctx context.Context) []finding {
	const what = "DHT"
	answered := d.answered(ctx)
	off := answered && d.node.DHT.Mode == proxy.ModeOff
	switch {
	case !d.cfg.DHT && (off || !answered || d.node.DHT.Mode == ""):
		return one(good, what, "no part in it, as configured (--dht=false)", "")
	case !answered:
		return one(warn, what, "not known without a node", "")
	case off:
		return d.noDHT(what)
	}
	return []finding{d.dhtNodes(ctx, what), d.reached()}
}

// dhtNodes judges whether the node knows others, and those to begin with.
func (d *doctor) dhtNodes(ctx context.Context, what string) finding {
	cfg, s := d.cfg.Internet, d.node
	named := len(cfg.Bootstrap) > 0
	var tried []bootstrapTry
	if d.sameDHT() && (named || s.DHT.Nodes == 0) {
		tried = d.ask(ctx, cfg, cmp.Or(cfg.Listen, defaultWAN))
	}
	if s.DHT.Nodes > 0 {
		return knownNodes(what, s, tried)
	}
	f := finding{warn, what, "no node known", ""}
	if s.DHT.PacketsIn == 0 {
		f.Found += ", and not one packet has come"
	}
	switch {
	case len(tried) > 0:
		f.Found += ": " + tellTries(tried)
		f.ToDo = advise(cfg, tried)
	case s.DHT.Trouble != "":
		f.Found += ": " + s.DHT.Trouble
		f.ToDo = "give doctor the --dht-bootstrap flags of the node: it then says which address does what"
	default:
		f.ToDo = "others join by naming this node with --dht-bootstrap; or name nodes of the DHT here"
	}
	switch {
	case named && len(tried) > 0 && answering(tried) == 0, s.DHT.Trouble == noneNamed && len(tried) == 0:
		f.Grade = fail
	case time.Duration(s.UptimeS)*time.Second < settling:
		f.ToDo = "the node has just started: look again in a minute"
	}
	return f
}

// knownNodes is for a node that knows some; those to begin with that do not answer
// will be missed one day.
func knownNodes(what string, s *proxy.Status, tried []bootstrapTry) finding {
	f := finding{good, what, fmt.Sprintf("nodes known: %d; files offered: %d", s.DHT.Nodes, s.WAN.Offered), ""}
	silent := slices.DeleteFunc(tried, func(t bootstrapTry) bool { return t.err == nil || errors.Is(t.err, errSelf) })
	if len(silent) > 0 {
		f.Grade = warn
		f.Found += "; of those to begin with, " + tellTries(silent)
		f.ToDo = "look at those (--dht-bootstrap)"
	}
	return f
}

// reached tells whether others can fetch from the node. Without others it is not
// known, whatever was so once.
func (d *doctor) reached() finding {
	s := d.node
	f := finding{good, "reached from outside", s.WAN.Reach, ""}
	if !s.WAN.Reachable && s.DHT.Mode != proxy.ModePrivate {
		f.ToDo = "the router: " + s.WAN.Router
	}
	switch {
	case !s.WAN.Checked.IsZero() && !s.WAN.Reachable:
		f.Grade = warn
	case s.DHT.Nodes == 0:
		return finding{warn, f.What, "not known: no node is known that could try", f.ToDo}
	case s.WAN.Checked.IsZero():
		f.Grade, f.Found = warn, "not known yet: "+s.WAN.Reach
	}
	return f
}

// noDHT is for a node without a part in the DHT though doctor's flags want it.
func (d *doctor) noDHT(what string) []finding {
	port := d.dhtPort()
	if !portTaken("/proc", port) {
		return one(warn, what, "the node has no part in it: it was started with --dht=false, or its port was taken then (its log says so)",
			"restart it, with --dht if it is to take part")
	}
	return one(warn, what, fmt.Sprintf("%s; port %s is %s", d.node.WAN.Reach, port, portOwners("/proc", "tcp", port)),
		"free that port or name another with --wan-listen, and restart the node")
}

// dhtPort is the port of the DHT by doctor's flags.
func (d *doctor) dhtPort() string {
	_, port, _ := net.SplitHostPort(cmp.Or(d.cfg.Internet.Listen, defaultWAN))
	return port
}

// portTaken tells whether somebody listens on a port, as proc (/proc) shows.
func portTaken(proc, port string) bool {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return false
	}
	for network, state := range listenState {
		for _, table := range []string{network, network + "6"} {
			if len(listening(proc+"/net/"+table, state, uint16(number))) > 0 {
				return true
			}
		}
	}
	return false
}

// sameDHT tells whether doctor's flags name the DHT that the node is in.
func (d *doctor) sameDHT() bool {
	return d.node.DHT.Mode == "" || d.cfg.DHT && d.node.DHT.Mode == d.cfg.Internet.mode()
}

// checkFlags compares doctor's flags with what the node tells of its own.
func (d *doctor) checkFlags(ctx context.Context) []finding {
	if !d.answered(ctx) {
		return nil
	}
	var other []string
	note := func(differs bool, what string) {
		if differs {
			other = append(other, what)
		}
	}
	s, cfg := d.node, d.cfg
	off := s.DHT.Mode == proxy.ModeOff
	note(off && cfg.DHT && !portTaken("/proc", d.dhtPort()), "it has no part in the DHT")
	note(!off && !d.sameDHT(), "its DHT is "+s.DHT.Mode)
	note(s.DHT.Trouble == noneNamed && len(cfg.Internet.Bootstrap) == 0, "it has a --dht-bootstrap")
	inLAN := cfg.LAN.MDNS || len(cfg.LAN.Peers) > 0
	note(s.LAN.Mode == proxy.ModeOn && !inLAN, "it is in the local network")
	note(s.LAN.Mode == proxy.ModeOff && inLAN && slices.ContainsFunc(cfg.Listen, func(at string) bool { return !isLoopbackListen(at) }),
		"it is not in the local network")
	_, err := os.Stat(d.dataDir())
	note(errors.Is(err, fs.ErrNotExist), "its --data-dir is another")
	if len(other) == 0 {
		return nil
	}
	return one(warn, "flags", "The node was started with other flags than doctor was given ("+strings.Join(other, ", ")+")", "give doctor the same")
}
