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
	"apt-dht/proxy/lan"
)

// statusTimeout is generous: a healthy node answers in milliseconds.
const statusTimeout = 10 * time.Second

// Run asks the node for its status and prints it.
func (c *statusCmd) Run(ctx context.Context, io *streams) error {
	if len(c.Listen) == 0 {
		return errors.New(`listen: the list is empty: name the node's address, as ":9977"`)
	}
	addr := c.Listen[0].hostport
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	body, err := askNode(ctx, addr, "/~/v1/status", nil)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if c.JSON {
		_, err := io.out.Write(append(body, '\n'))
		return err
	}
	var node proxy.Status
	if err := json.Unmarshal(body, &node); err != nil {
		return fmt.Errorf("status: what listens at %s is not apt-dht: %w", addr, err)
	}
	return printStatus(io.out, &node)
}

// printStatus writes the status for people.
func printStatus(w io.Writer, s *proxy.Status) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(table, name+"\t"+format+"\n", args...)
	}
	row("version", "%s, up %s", s.Version, time.Duration(s.UptimeS)*time.Second)
	row("store", "%d files, %s of %s", s.Store.Blobs, humanBytes(s.Store.Bytes), humanBytes(s.Store.Quota))
	row("index", "%d repositories, %d files", s.Index.Origins, s.Index.Files)
	row("to apt", "%s", humanBytes(s.BytesTo.Apt))
	row("from the store", "%s", humanBytes(s.BytesFrom.Store))
	row("from the LAN", "%s", humanBytes(s.BytesFrom.LAN))
	row("from "+s.DHT.Where(), "%s", humanBytes(s.BytesFrom.WAN))
	row("from mirrors", "%s", humanBytes(s.BytesFrom.Mirror))
	row("transfers", "%d", len(s.Transfers))
	row("to the LAN", "%s", humanBytes(s.BytesTo.LAN))
	row("to "+s.DHT.Where(), "%s", humanBytes(s.BytesTo.WAN))
	row("DHT", "%s %d files offered, %d announced", dhtNodes(s), s.WAN.Offered, s.DHT.Announced)
	row("from outside", "%s", s.WAN.Reach)
	row("router", "%s", s.WAN.Router)
	row("nodes on the LAN", "%d", len(s.LAN.Peers))
	for _, p := range s.LAN.Peers {
		row("  "+p.ID, "%s, %s from it, %s to it%s", p.Addr, humanBytes(p.BytesFrom), humanBytes(p.BytesTo), troubleWith(&p))
	}
	return table.Flush()
}

// dhtNodes says how many are known, or why there are none.
func dhtNodes(s *proxy.Status) string {
	if s.DHT.Trouble == "" {
		return fmt.Sprintf("%d nodes,", s.DHT.Nodes)
	}
	return fmt.Sprintf("%d nodes: %s (see apt-dht doctor);", s.DHT.Nodes, s.DHT.Trouble)
}

// troubleWith says what is wrong with a node.
func troubleWith(p *lan.PeerStatus) string {
	switch {
	case p.Liar != "":
		return ", set aside: " + p.Liar
	case !p.Alive:
		return ", does not answer"
	}
	return ""
}

// humanBytes writes n with the SI unit that leaves up to three digits before
// the point.
func humanBytes(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1000, 0
	for value >= 999.95 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	return fmt.Sprintf("%.1f %cB", value, units[unit])
}
