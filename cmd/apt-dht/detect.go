// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/alecthomas/kong"

	"apt-dht/discovery"
)

const (
	// direct tells apt to use no proxy.
	direct = "DIRECT"

	// detectBudget is what a search for a proxy may take, and detectLimit when
	// the answer is given without it. apt is to wait 200 ms at the most: the
	// rest is for the process's start, 10 ms on an idle machine.
	detectBudget = 120 * time.Millisecond
	detectLimit  = 140 * time.Millisecond
)

type detectCmd struct {
	forgivingConfig
	listenSettings
	MDNS          bool     `default:"true" negatable:"" help:"Find office proxies by multicast DNS (${default})."`
	MDNSInterface []string `placeholder:"NIC" help:"Network interfaces for it, as serve takes them. Repeatable."`
	Verbose       bool     `short:"v" help:"Tell on standard error how the answer was found." env:"-"`
	URL           string   `arg:"" optional:"" help:"What apt is about to fetch, by http or https."`
}

// forgivingConfig is [configFlag] for a command that must answer whatever the
// file is like. It may be wrong, or not be readable for apt's user.
type forgivingConfig struct {
	Config string `type:"path" placeholder:"FILE" help:"Configuration file (${config}, which may be missing)."`

	unusable error // why the defaults hold instead
}

// BeforeResolve reads the configuration file.
func (c *forgivingConfig) BeforeResolve(ctx *kong.Context) error {
	c.unusable = configFlag{}.BeforeResolve(ctx)
	return nil
}

// runDetect is apt's Proxy-Auto-Detect: it prints one line, the URL of a proxy
// or DIRECT, in time and whatever happens, because apt takes everything else
// amiss. Only a call for help prints something else.
func runDetect(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	answer, asked := inTime(ctx, detectLimit, func(ctx context.Context) (string, bool) {
		return detect(ctx, args, stdout, stderr)
	})
	if asked {
		fmt.Fprintln(stdout, answer) // to whom could a failure be told?
	}
	return nil
}

// inTime returns what find does, or DIRECT if it takes longer than limit or
// panics.
func inTime(ctx context.Context, limit time.Duration, find func(context.Context) (string, bool)) (string, bool) {
	type result struct {
		answer string
		asked  bool
	}
	done := make(chan result, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		r := result{direct, true}
		defer func() {
			if recover() != nil {
				r = result{direct, true}
			}
			done <- r
		}()
		r.answer, r.asked = find(ctx)
	}()
	select {
	case r := <-done:
		return r.answer, r.asked
	case <-time.After(limit):
		return direct, true
	}
}

// detect reads the command line and finds the answer. asked is false if help
// was wanted, and given.
func detect(ctx context.Context, args []string, stdout, stderr io.Writer) (answer string, asked bool) {
	grammar := new(commands)
	parsed, err := parse(grammar, args, stdout, stderr)
	if err != nil {
		status(err, stderr)
		return direct, true
	}
	if parsed == nil {
		return "", false
	}
	cmd := &grammar.Detect
	log := slog.New(slog.DiscardHandler)
	if cmd.Verbose {
		log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if cmd.unusable != nil {
		log.Debug("the configuration is of no use, so the defaults hold", "err", cmd.unusable)
	}
	ctx, cancel := context.WithTimeout(ctx, detectBudget)
	defer cancel()
	return cmd.detector(log).choose(ctx, cmd.URL), true
}

func (c *detectCmd) detector(log *slog.Logger) *detector {
	d := &detector{own: ownAddrs(c.Listen), hosts: "/etc/hosts", book: openNotebook(log), waits: usualWaits(), log: log}
	if !c.MDNS {
		log.Debug("other machines' proxies are not looked for: --mdns=false")
		return d
	}
	links, err := discovery.LocalLinks(c.MDNSInterface, log)
	if err != nil {
		log.Debug("the LAN is not looked at", "err", err)
		return d
	}
	d.links = links
	return d
}

// ownAddrs returns where a node of that configuration answers this machine.
func ownAddrs(listen []listenAddr) []string {
	var addrs []string
	for _, l := range listen {
		host, port, err := net.SplitHostPort(l.hostport)
		if err != nil || port == "0" {
			continue
		}
		switch host {
		case "", "0.0.0.0":
			host = "127.0.0.1"
		case "::":
			host = "::1"
		}
		addrs = append(addrs, net.JoinHostPort(host, port))
	}
	return addrs
}
