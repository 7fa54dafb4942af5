// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"apt-dht/proxy"
)

// findTimeout is longer than a node searches.
const findTimeout = 10 * time.Second

type findCmd struct {
	configFlag
	listenSettings
	JSON bool   `help:"Print the node's answer as it is." env:"-"`
	What string `arg:"" help:"A SHA-256, a URL, the name of a package's file (hello_2.10-3_amd64.deb), or a file of this machine."`
}

// Help is printed by kong after the flags' summary.
func (findCmd) Help() string {
	return `The node of this machine is asked, which looks into its store and asks the nodes of the local network
and, by the DHT, those on the internet; they learn that somebody asks for that file. The status is 0 if
somebody has it, 1 if not.`
}

// These make the status 1.
var (
	errNobody  = errors.New("nobody has it, as far as this node can find out")
	errUnnamed = errors.New("find: nobody was asked: the SHA-256 is not known")
)

// Run asks the node who has a file.
func (c *findCmd) Run(ctx context.Context, io *streams) error {
	if len(c.Listen) == 0 {
		return errors.New(`listen: the list is empty: name the node's address, as ":9977"`)
	}
	query, err := meaning(ctx, c.What)
	if err != nil {
		return err
	}
	addr := c.Listen[0].hostport
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	body, err := askNode(ctx, addr, "/~/v1/find", query)
	if err != nil {
		return fmt.Errorf("find: %w", err)
	}
	var found proxy.Found
	if err := json.Unmarshal(body, &found); err != nil || found.LAN == "" {
		return fmt.Errorf("find: what listens at %s is not an apt-dht that can search: restart it if it is older than this one", addr)
	}
	if c.JSON {
		_, err = io.out.Write(body)
	} else {
		err = printFound(io.out, c.What, &found)
	}
	switch {
	case err != nil:
		return err
	case found.SHA256 == "":
		return errUnnamed
	case len(found.Places) == 0:
		return errNobody
	}
	return nil
}

// printFound writes who has a file for people.
func printFound(w io.Writer, what string, f *proxy.Found) error {
	if f.SHA256 == "" {
		_, err := fmt.Fprintf(w, "%s: its SHA-256 is not known: %s\n", what, f.Why)
		return err
	}
	fmt.Fprintf(w, "SHA-256   %s", f.SHA256)
	if f.Size >= 0 {
		fmt.Fprintf(w, ", %s", humanBytes(f.Size))
	}
	fmt.Fprintf(w, "\nLAN       %s\n%-8s  %s\n", f.LAN, beyond(f), f.Internet)
	if len(f.Places) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WHERE\tADDRESS\tFOUND AFTER\tUSED")
	for _, p := range f.Places {
		fmt.Fprintf(table, "%s\t%s\t%d ms\t%s\n", whereText(f, p.Where), addressOf(p), p.AfterMS, usedText(p))
	}
	return table.Flush()
}

// beyond is what there is beyond the LAN.
func beyond(f *proxy.Found) string {
	if f.Private {
		return "DHT"
	}
	return "internet"
}

func whereText(f *proxy.Found, where string) string {
	if text, ok := map[string]string{"store": "this node", "lan": "LAN", "wan": beyond(f)}[where]; ok {
		return text
	}
	return where
}

func addressOf(p proxy.FoundPlace) string {
	if !p.Addr.IsValid() {
		return "-"
	}
	return p.Addr.String()
}

func usedText(p proxy.FoundPlace) string {
	text := "no"
	if p.Used {
		text = "yes"
	}
	if p.Note != "" {
		text += ", " + p.Note
	}
	return text
}
